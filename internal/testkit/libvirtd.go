package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// LibvirtdOptions of a daemon.
type LibvirtdOptions struct {
	Hostname          string // of its own, in a namespace: for a second daemon that guests move to
	HostUUID          string
	MaxClientRequests int // 0: five, libvirt's default
}

// Libvirtd is a private, unprivileged libvirtd in session mode, with the QEMU driver and libvirt's own test driver. Its guests outlive
// Kill and Restart, and end with the test.
type Libvirtd struct {
	Dir    string
	Socket string

	opt  LibvirtdOptions
	bin  string
	cred *syscall.Credential
	proc *process
}

// StartLibvirtd starts a daemon of the test's own. DROVER_LIBVIRTD names another program than the one that is found.
func StartLibvirtd(t testing.TB, opt LibvirtdOptions) *Libvirtd {
	t.Helper()
	names := []string{"libvirtd", "virtqemud"}
	if own := os.Getenv("DROVER_LIBVIRTD"); own != "" {
		names = []string{own}
	}
	d := &Libvirtd{opt: opt, bin: daemonPath(names...), cred: unprivileged("nobody")}
	if d.bin == "" || daemonPath("qemu-system-x86_64", "qemu-kvm") == "" {
		Missing(t, "libvirt", "no libvirtd or no QEMU (apt-get install libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86)")
	}
	err := d.prepare()
	t.Cleanup(func() { d.close(t) })
	if err == nil {
		err = d.Restart()
	}
	if err != nil {
		t.Fatalf("libvirtd does not start: %v", err)
	}
	return d
}

// daemonPath looks in PATH, and where an unprivileged PATH does not look.
func daemonPath(names ...string) string {
	for _, n := range names {
		for _, p := range []string{n, "/usr/sbin/" + n, "/usr/local/sbin/" + n, "/usr/libexec/" + n} {
			if found, err := exec.LookPath(p); err == nil {
				return found
			}
		}
	}
	return ""
}

// capabilities is what QEMU said of itself, by file: asking it takes a daemon seconds.
var capabilities struct {
	sync.Mutex
	files map[string][]byte
}

const capabilitiesDir = "cache/libvirt/qemu/cache/capabilities"

// prepare makes the directory: short, since the socket of a guest's monitor lies sixty bytes deeper and a socket's path holds 107.
func (d *Libvirtd) prepare() (err error) {
	if d.Dir, err = tempDir(d.cred); err != nil {
		return err
	}
	if len(d.Dir) > 40 {
		return fmt.Errorf("%s is too long a path for sockets: set TMPDIR to a shorter one", d.Dir)
	}
	d.Socket = d.Dir + "/run/libvirt-sock"
	files := map[string][]byte{
		"etc/libvirtd.conf": []byte(d.config()),
		"etc/libvirt/qemu.conf": []byte("security_driver=\"none\"\nstdio_handler=\"file\"\ncgroup_controllers=[]\n" +
			"namespaces=[]\nseccomp_sandbox=0\n"),
	}
	capabilities.Lock()
	for name, b := range capabilities.files {
		files[filepath.Join(capabilitiesDir, name)] = b
	}
	capabilities.Unlock()
	for _, p := range []string{"run", "lib", "drivers", "cache"} {
		if err := os.MkdirAll(filepath.Join(d.Dir, p), 0o755); err != nil {
			return err
		}
	}
	for name, b := range files {
		p := filepath.Join(d.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
			return err
		}
	}
	modules, _ := filepath.Glob("/usr/lib*/*/libvirt/connection-driver/libvirt_driver_qemu.so")
	more, _ := filepath.Glob("/usr/lib*/libvirt/connection-driver/libvirt_driver_qemu.so")
	for _, m := range append(modules, more...)[:min(1, len(modules)+len(more))] {
		if err := os.Symlink(m, filepath.Join(d.Dir, "drivers", filepath.Base(m))); err != nil {
			return err
		}
	}
	if d.cred == nil {
		return nil
	}
	return filepath.WalkDir(d.Dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, int(d.cred.Uid), int(d.cred.Gid)))
	})
}

func (d *Libvirtd) config() string {
	limit := d.opt.MaxClientRequests
	if limit == 0 {
		limit = 5
	}
	conf := fmt.Sprintf("unix_sock_dir=%q\nauth_unix_rw=\"none\"\nlisten_tls=0\nlisten_tcp=0\nlog_outputs=\"3:file:%s/log\"\nmax_client_requests=%d\n",
		d.Dir+"/run", d.Dir, limit)
	if d.opt.HostUUID != "" {
		conf += fmt.Sprintf("host_uuid=%q\n", d.opt.HostUUID)
	}
	return conf
}

// Restart starts the daemon, after Kill or Stop again, and returns when it answers.
func (d *Libvirtd) Restart() error {
	args := []string{d.bin, "-f", d.Dir + "/etc/libvirtd.conf", "-p", d.Dir + "/run/libvirtd.pid"}
	cred := d.cred
	switch {
	case d.opt.Hostname == "":
	case cred != nil:
		args = append([]string{"unshare", "--uts", "sh", "-ec",
			`hostname "$0"; u=$1; g=$2; shift 2; exec setpriv --reuid="$u" --regid="$g" --clear-groups "$@"`,
			d.opt.Hostname, strconv.Itoa(int(cred.Uid)), strconv.Itoa(int(cred.Gid))}, args...)
		cred = nil
	default:
		args = append([]string{"unshare", "--map-current-user", "--uts", "--keep-caps", "sh", "-ec",
			`hostname "$0"; exec setpriv --ambient-caps -all --inh-caps -all "$@"`, d.opt.Hostname}, args...)
	}
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + d.Dir, "XDG_RUNTIME_DIR=" + d.Dir + "/run", "XDG_CONFIG_HOME=" + d.Dir + "/etc",
		"XDG_CACHE_HOME=" + d.Dir + "/cache", "XDG_DATA_HOME=" + d.Dir + "/lib", "LIBVIRT_DRIVER_DIR=" + d.Dir + "/drivers"}
	_ = os.Remove(d.Socket) // what a killed daemon left
	var err error
	if d.proc, err = startEnv(cred, d.Dir, env, args[0], args[1:]...); err != nil {
		return err
	}
	deadline := time.Now().Add(time.Minute) // asking a QEMU that is not known takes seconds
	for {
		if err = d.answers(deadline); err == nil {
			return nil
		}
		select {
		case <-d.proc.exited:
			return fmt.Errorf("%w: %s", d.proc.err, d.proc.log.lines(20))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// answers opens qemu:///session in libvirt's protocol: which methods of authentication, CONNECT_OPEN, and CONNECT_GET_CAPABILITIES, for
// which the daemon runs a QEMU that it does not know.
func (d *Libvirtd) answers(deadline time.Time) error {
	c, err := net.DialTimeout("unix", d.Socket, time.Until(deadline))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	const uri = "qemu:///session" // padded to 16 bytes; flags 0 follow
	open := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 1), uint32(len(uri))), uri+"\x00\x00\x00\x00\x00"...)
	for serial, body := range [][]byte{nil, open, nil} {
		var b []byte
		for _, w := range []uint32{uint32(28 + len(body)), 0x20008086, 1, []uint32{66, 1, 7}[serial], 0, uint32(serial + 1), 0} {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		if _, err := c.Write(append(b, body...)); err != nil {
			return err
		}
		head := make([]byte, 28)
		if _, err := io.ReadFull(c, head); err != nil {
			return err
		}
		rest := make([]byte, min(binary.BigEndian.Uint32(head)-28, 1<<16))
		if _, err := io.ReadFull(c, rest); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(head[24:]) != 0 {
			return fmt.Errorf("it refuses: %q", rest)
		}
	}
	return nil
}

func (d *Libvirtd) keepCapabilities() {
	capabilities.Lock()
	defer capabilities.Unlock()
	if capabilities.files != nil {
		return
	}
	entries, _ := os.ReadDir(filepath.Join(d.Dir, capabilitiesDir))
	for _, e := range entries {
		if b, err := os.ReadFile(filepath.Join(d.Dir, capabilitiesDir, e.Name())); err == nil {
			if capabilities.files == nil {
				capabilities.files = map[string][]byte{}
			}
			capabilities.files[e.Name()] = b
		}
	}
}

// URI is the connection of a libvirt client to driver: qemu:///session, test:///default.
func (d *Libvirtd) URI(driver string) string {
	scheme, rest, _ := strings.Cut(driver, ":")
	return scheme + "+unix:" + rest + "?socket=" + d.Socket
}

// Freeze stops the daemon as SIGSTOP does; connections to it stay open and say nothing.
func (d *Libvirtd) Freeze() error { return syscall.Kill(d.proc.cmd.Process.Pid, syscall.SIGSTOP) }

// Thaw ends Freeze.
func (d *Libvirtd) Thaw() error { return syscall.Kill(d.proc.cmd.Process.Pid, syscall.SIGCONT) }

// Kill ends the daemon with SIGKILL. Its guests go on.
func (d *Libvirtd) Kill() error {
	err := syscall.Kill(d.proc.cmd.Process.Pid, syscall.SIGKILL)
	<-d.proc.exited
	return err
}

// Stop ends the daemon in order. Its guests go on.
func (d *Libvirtd) Stop() { d.proc.stop(syscall.SIGTERM) }

// Guests are the QEMU processes, by the guest's name.
func (d *Libvirtd) Guests() map[string]int {
	guests := map[string]int{}
	files, _ := filepath.Glob(d.Dir + "/run/libvirt/qemu/run/*.pid")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || pid <= 1 {
			continue
		}
		if cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(cmd), d.Dir) { // not a later process of that number
			guests[strings.TrimSuffix(filepath.Base(f), ".pid")] = pid
		}
	}
	return guests
}

// SignalGuest sends a signal to the QEMU process of a guest: SIGSTOP makes its monitor hang, SIGKILL crashes it.
func (d *Libvirtd) SignalGuest(name string, s syscall.Signal) error {
	pid, ok := d.Guests()[name]
	if !ok {
		return fmt.Errorf("no guest %q runs", name)
	}
	return syscall.Kill(pid, s)
}

// close ends daemon and guests, and removes what they left.
func (d *Libvirtd) close(t testing.TB) {
	if d.proc != nil {
		d.proc.stop(syscall.SIGTERM)
		d.keepCapabilities()
	}
	guests := d.Guests()
	for _, pid := range guests {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range guests {
		for n := 0; n < 500 && syscall.Kill(pid, 0) == nil; n++ {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if t.Failed() {
		if b, err := os.ReadFile(d.Dir + "/log"); err == nil {
			lines := strings.Split(strings.TrimSpace(string(b)), "\n")
			t.Logf("end of libvirtd's log:\n%s", strings.Join(slices.Clip(lines[max(0, len(lines)-30):]), "\n"))
		}
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		t.Errorf("libvirtd: %v", err)
	}
}
