package libvirt

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

var (
	_ hypervisor.GuestPinger = (*Driver)(nil)
	_ hypervisor.Consoler    = (*Driver)(nil)
)

// PingGuest asks the agent inside the guest what time it is.
func (d *Driver) PingGuest(ctx context.Context, id string) error {
	return d.read(ctx, "pingguest", id, hypervisor.QueryLimit, func(c *call) error {
		vm, dom, _, err := c.get()
		if err != nil {
			return err
		}
		if vm.Power != hypervisor.On {
			return c.state(vm)
		}
		_, err = c.do(rpc.DomainGetTime, rpc.Args{}.Dom(dom).U32(0)) // not on the query connection: libvirt waits for the agent
		return asRead(err)
	})
}

// maxConsole is the most that ConsoleLog gives.
const maxConsole = 1 << 20

func consoleLog(dir, id string) string { return filepath.Join(dir, id+".log") }

// ConsoleLog reads the end of a guest's log in Config.ConsoleDir; limit is at most 1 MiB, and 64 KiB if it is not above 0.
func (d *Driver) ConsoleLog(ctx context.Context, id string, limit int) (b []byte, err error) {
	if limit <= 0 {
		limit = 64 << 10
	}
	err = d.read(ctx, "consolelog", id, hypervisor.QueryLimit, func(c *call) error {
		if d.cfg.ConsoleDir == "" {
			return c.error(hypervisor.ErrUnsupported, "no consoles are logged here")
		}
		b, err = tail(consoleLog(d.cfg.ConsoleDir, id), int64(min(limit, maxConsole)))
		if errors.Is(err, fs.ErrNotExist) {
			return c.error(hypervisor.ErrNotFound, "has written none")
		}
		if errors.Is(err, fs.ErrPermission) {
			return c.error(hypervisor.ErrDenied, "the log may not be read")
		}
		return err
	})
	return b, err
}

// tail reads the last n bytes of a file.
func tail(path string, n int64) (b []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // of the configured directory, and a UUID
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("the console's log is no file")
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
}
