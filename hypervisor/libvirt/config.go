package libvirt

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
	"github.com/drover-cloud/drover/internal/fair"
)

// Keepalive says how a quiet daemon is watched: asked after Every (600 ms) without a byte, silent after Silent (1.8 s), and given up
// after Lost (15 s).
type Keepalive = rpc.Keepalive

// Config of a Driver.
type Config struct {
	Env drover.Env

	// URI names the driver inside the daemon: qemu:///system (the default), qemu:///session, test:///default.
	URI string
	// Socket is the daemon's, "" = by URI: $XDG_RUNTIME_DIR/libvirt/libvirt-sock for a session, else /run/libvirt/libvirt-sock, or
	// virtqemud-sock beside it where only that is there.
	Socket string
	// Dial connects to the daemon instead: TLS, ssh, a proxy. It has settled who we are; only the method "none" is asked for.
	Dial func(ctx context.Context) (net.Conn, error)
	// HostID is the UUID that the host must have, "" = any.
	HostID string

	// DiskRoots are the directories that may hold disks; none: no disks. AllowRaw accepts Spec.Raw.
	DiskRoots []string
	AllowRaw  bool
	// Pools are the storage pools that Resources adds up.
	Pools []string
	// ConsoleDir is a directory of the daemon's where guests' consoles are logged, readable here; "" = none are.
	ConsoleDir string

	Keepalive Keepalive
	// Debounce is how long Events holds a stop back that this driver did not make: default 15 s, negative = not at all.
	Debounce time.Duration
}

// Driver is one host. It connects when it is first used.
type Driver struct {
	cfg    Config
	env    drover.Env
	socket string     // "" if it is not known
	local  bool       // the daemon is reached by a socket: it is on this machine
	turns  fair.Keyed // changes of one VM
	life   context.Context
	end    context.CancelCauseFunc

	gate           *gate
	query, control *lanes
	long           chan struct{} // connections of long calls
	moves          moves
	tasks          sync.WaitGroup // goroutines that no call waits for

	meters  *meters
	under   underWay
	streams streams
	lates   atomic.Int64
	quiet   atomic.Bool  // the daemon says nothing
	refused atomic.Bool  // it tells no events
	warned  atomic.Bool  // of that
	hung    atomic.Int32 // bulk statistics that hang in the daemon on a guest

	mu   sync.Mutex
	host *host // what the daemon said of it, once
}

var (
	_ hypervisor.Driver    = (*Driver)(nil)
	_ hypervisor.Pauser    = (*Driver)(nil)
	_ hypervisor.Rebooter  = (*Driver)(nil)
	_ hypervisor.Resourcer = (*Driver)(nil)
	_ hypervisor.Pinger    = (*Driver)(nil)
	_ io.Closer            = (*Driver)(nil)
)

// New checks cfg, with a *[drover.FieldError], and touches nothing remote.
func New(cfg Config) (*Driver, error) {
	cfg.URI = cmp.Or(cfg.URI, "qemu:///system")
	if err := cfg.check(); err != nil {
		return nil, err
	}
	k := &cfg.Keepalive
	k.Every, k.Silent, k.Lost = cmp.Or(k.Every, 600*time.Millisecond), cmp.Or(k.Silent, 1800*time.Millisecond), cmp.Or(k.Lost, 15*time.Second)
	socket, local := cfg.Socket, cfg.Dial == nil
	if local {
		socket = cmp.Or(socket, defaultSocket(cfg.URI))
		cfg.Dial = dialUnix(socket)
	}
	cfg.Debounce = cmp.Or(cfg.Debounce, 15*time.Second)
	d := &Driver{cfg: cfg, env: cfg.Env.Defaults(), socket: socket, local: local, long: make(chan struct{}, longLines)}
	d.life, d.end = context.WithCancelCause(context.Background())
	d.gate = newGate(d.env)
	d.query = newLanes(d, "query", 1, rpc.Config{Event: d.event, Silent: d.silence})
	d.control = newLanes(d, "control", 3, rpc.Config{})
	d.meters = newMeters(d)
	return d, nil
}

func (c *Config) check() error {
	k := c.Keepalive
	bad := ""
	switch {
	case !strings.Contains(c.URI, ":///") || strings.HasPrefix(c.URI, "-") || strings.ContainsFunc(c.URI, unicode.IsControl):
		return &drover.FieldError{Field: "URI", Reason: "must be like qemu:///system"}
	case strings.ContainsAny(c.URI, "+?"):
		return &drover.FieldError{Field: "URI", Reason: "names the driver inside the daemon; how to reach it is Socket or Dial"}
	case c.HostID != "" && hypervisor.ValidID(c.HostID) != nil:
		return &drover.FieldError{Field: "HostID", Reason: "is no lower-case UUID"}
	case k.Every < 0:
		bad = "Every is negative"
	case k.Silent < 0 || k.Silent > 0 && k.Every > 0 && k.Silent <= k.Every:
		bad = "Silent must be above Every"
	case k.Lost < 0 || k.Lost > 0 && k.Silent > 0 && k.Lost <= k.Silent:
		bad = "Lost must be above Silent"
	}
	if bad != "" {
		return &drover.FieldError{Field: "Keepalive", Reason: bad}
	}
	if c.ConsoleDir != "" && (!filepath.IsAbs(c.ConsoleDir) || strings.ContainsFunc(c.ConsoleDir, unicode.IsControl)) {
		return &drover.FieldError{Field: "ConsoleDir", Reason: "is not absolute"}
	}
	for _, p := range c.Pools {
		if hypervisor.ValidName(p) != nil {
			return &drover.FieldError{Field: "Pools", Reason: p + " is no name of a pool"}
		}
	}
	for _, p := range c.DiskRoots {
		if !filepath.IsAbs(p) {
			return &drover.FieldError{Field: "DiskRoots", Reason: p + " is not absolute"}
		}
	}
	return nil
}

func defaultSocket(uri string) string {
	dir := "/run/libvirt"
	if strings.HasSuffix(uri, "/session") {
		dir = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "libvirt")
	}
	s := filepath.Join(dir, "libvirt-sock")
	if split := filepath.Join(dir, "virtqemud-sock"); strings.HasPrefix(uri, "qemu:") && missing(s) && !missing(split) {
		return split
	}
	return s
}

func missing(path string) bool {
	_, err := os.Stat(path) //nolint:gosec // the daemon's socket, under the user's own directory
	return errors.Is(err, os.ErrNotExist)
}

func dialUnix(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// Close ends connections and goroutines. Calls in flight and later ones give ErrClosed.
func (d *Driver) Close() error {
	d.end(hypervisor.ErrClosed)
	d.query.close()
	d.control.close()
	d.tasks.Wait()
	return nil
}
