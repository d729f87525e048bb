package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server's child process: an own session, a parent-death signal, output kept in memory.
type process struct {
	cmd    *exec.Cmd
	log    *tail
	exited chan struct{}
	err    error // of Wait, after exited
}

// start runs path as the user of cred (nil = ours).
func start(cred *syscall.Credential, dir, path string, args ...string) (*process, error) {
	return startEnv(cred, dir, append(os.Environ(), "LC_ALL=C", "TZ=UTC"), path, args...)
}

func startEnv(cred *syscall.Credential, dir string, env []string, path string, args ...string) (*process, error) {
	p := &process{log: &tail{}, exited: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.log, p.log
	p.cmd.Env = env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT, Credential: cred}
	p.cmd.WaitDelay = 5 * time.Second // of a child that outlives it and holds its output
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// signal reaches the process and its children, which servers like PostgreSQL put into sessions of their own.
func (p *process) signal(s syscall.Signal) error {
	if s == syscall.SIGKILL || s == syscall.SIGSTOP {
		halt(p.cmd.Process.Pid)
	}
	pids := append(children(p.cmd.Process.Pid), p.cmd.Process.Pid)
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// halt stops pid and waits until it has stopped, so that it forks no child that its killer does not see.
func halt(pid int) {
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return
	}
	for range 1000 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, ok := strings.Cut(string(b), ") ")
		if err != nil || !ok || strings.ContainsRune("TtZX", rune(rest[0])) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// stop asks nicely, then insists.
func (p *process) stop(first syscall.Signal) {
	_ = p.signal(syscall.SIGCONT)
	_ = syscall.Kill(p.cmd.Process.Pid, first)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		_ = p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func children(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(s); err == nil {
				pids = append(append(pids, n), children(n)...)
			}
		}
	}
	return pids
}

// unprivileged is the first of the named users that exists, else uid 65534; nil when we are not root ourselves.
func unprivileged(names ...string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
			if err1 == nil && err2 == nil {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// tempDir is short, since paths of unix sockets end at 107 bytes, private, and owned by who runs the server.
func tempDir(cred *syscall.Credential) (string, error) {
	dir, err := os.MkdirTemp("", "drv")
	if err == nil && cred != nil {
		err = os.Chown(dir, int(cred.Uid), int(cred.Gid))
	}
	return dir, err
}

// freePort is free now; a server that finds it taken is started again with another.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// tail keeps the last 64 KiB written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - 64<<10; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

// lines gives the last n.
func (t *tail) lines(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := bytes.Split(bytes.TrimRight(t.b, "\n"), []byte("\n"))
	return string(bytes.Join(l[max(0, len(l)-n):], []byte("\n")))
}
