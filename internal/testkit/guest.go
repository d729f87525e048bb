package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Guest is a tiny Linux: a kernel of the distribution and busybox. On its first serial line it says "drover guest up", then "tick 1",
// "tick 2" … once a second. It powers off when it is asked to through ACPI, unless its kernel's command line has "deaf".
type Guest struct {
	Kernel, Initrd string // files that everybody may read
}

// GuestCommandLine is what Kernel has to be started with.
const GuestCommandLine = "console=ttyS0 quiet panic=1 rdinit=/init"

// guestInit runs as process 1. A press of the power button arrives at one of the input devices.
const guestInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for m in /modules/*.ko; do /bin/busybox insmod "$m"; done
listen() { /bin/busybox head -c 24 "$1" >/dev/null && /bin/busybox echo "drover guest off" && /bin/busybox poweroff -f; }
if ! /bin/busybox grep -qw deaf /proc/cmdline; then
	for e in /dev/input/event*; do listen "$e" & done
fi
/bin/busybox echo "drover guest up"
n=0
while /bin/busybox sleep 1; do n=$((n+1)); /bin/busybox echo "tick $n"; done
`

var guest struct {
	sync.Once
	Guest
	err error
}

// TinyGuest makes the guest's files, once per test binary; they end with the process. DROVER_GUEST_KERNEL and DROVER_GUEST_INITRD name
// others, which have to behave alike.
func TinyGuest(t testing.TB) Guest {
	t.Helper()
	guest.Do(func() { guest.Guest, guest.err = makeGuest() })
	if errors.Is(guest.err, fs.ErrNotExist) {
		Missing(t, "guest", guest.err.Error()+" (scripts/setup fetches a kernel; apt-get install busybox-static)")
	}
	if guest.err != nil {
		t.Fatal(guest.err)
	}
	return guest.Guest
}

func makeGuest() (Guest, error) {
	if k, i := os.Getenv("DROVER_GUEST_KERNEL"), os.Getenv("DROVER_GUEST_INITRD"); k != "" || i != "" {
		return Guest{k, i}, readable(k, i)
	}
	dir, err := guestDir()
	if err != nil {
		return Guest{}, err
	}
	g := Guest{filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")}
	image, err := initramfs(dir)
	if err != nil {
		return Guest{}, err
	}
	if old, err := os.ReadFile(g.Initrd); err != nil || !bytes.Equal(old, image) {
		whole := fmt.Sprintf("%s.%d", g.Initrd, os.Getpid()) // others may be reading it
		if err := errors.Join(os.WriteFile(whole, image, 0o644), os.Rename(whole, g.Initrd)); err != nil {
			return Guest{}, err
		}
	}
	return g, readable(g.Kernel, g.Initrd)
}

// guestDir is where scripts/setup puts the kernel and its modules.
func guestDir() (string, error) {
	for _, d := range []string{os.Getenv("DROVER_GUEST_DIR"), "/var/cache/drover-guest"} {
		if d != "" {
			if _, err := os.Stat(filepath.Join(d, "vmlinuz")); err == nil {
				return d, nil
			}
		}
	}
	return "", fmt.Errorf("no kernel for guests: %w", fs.ErrNotExist)
}

func readable(files ...string) error {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return err
		}
	}
	return nil
}

// initramfs is the guest's root.
func initramfs(dir string) ([]byte, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	a := &cpio{}
	a.add("bin", 0o40755, nil)
	a.add("bin/busybox", 0o100755, busybox)
	a.add("init", 0o100755, []byte(guestInit))
	a.add("modules", 0o40755, nil)
	modules, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		b, err := os.ReadFile(m)
		if err != nil {
			return nil, err
		}
		a.add("modules/"+filepath.Base(m), 0o100644, b)
	}
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes(), nil
}

// cpio is an archive in the "newc" format, which the kernel unpacks.
type cpio struct {
	bytes.Buffer
	inode int
}

func (a *cpio) add(name string, mode uint32, body []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name)+1, 0, name)
	a.align()
	a.Write(body)
	a.align()
}

func (a *cpio) align() { a.WriteString(strings.Repeat("\x00", -a.Len()&3)) }
