package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kind is a sort of server that this package can start.
type kind struct {
	name, title string // for DROVER_REQUIRE_SERVERS, and for people
	addr        string // variable that names a server that runs already
	users       []string
	limit, poll time.Duration // until it is ready
	taken       string        // in its log when its port is in use

	find  func() (command []string, err error) // the error says what is missing
	args  func(s *Server) ([]string, error)
	ready func(addr string) error

	mu  sync.Mutex
	one *Server // shared
	err error
}

// Server is a private server on loopback, or an external one. Its verbs are for one goroutine.
type Server struct {
	// Addr is host:port.
	Addr string

	kind     *kind
	external bool
	dir      string
	port     int
	command  []string
	proc     *process
}

// errMissing says that a part of the server is not installed.
type errMissing struct{ error }

func (k *kind) fail(t testing.TB, err error) {
	t.Helper()
	if missing := (errMissing{}); errors.As(err, &missing) {
		Missing(t, k.name, k.title+": "+err.Error())
	}
	t.Fatalf("%s does not start: %v", k.title, err)
}

func (k *kind) shared(t testing.TB) *Server {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.one == nil && k.err == nil {
		k.one, k.err = k.start(os.Getenv(k.addr))
	}
	if k.err != nil {
		k.fail(t, k.err)
	}
	k.one.showLog(t)
	return k.one
}

func (k *kind) fresh(t testing.TB, args ...string) *Server {
	t.Helper()
	if os.Getenv(k.addr) != "" {
		t.Skip(k.addr + " names a server that is not ours to kill or freeze")
	}
	s, err := k.start("", args...)
	if err != nil {
		k.fail(t, err)
	}
	t.Cleanup(s.Stop)
	s.showLog(t)
	return s
}

func (s *Server) showLog(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() && s.proc != nil {
			t.Logf("end of the log of %s:\n%s", s.kind.title, s.proc.log.lines(50))
		}
	})
}

func (k *kind) start(external string, args ...string) (*Server, error) {
	if external != "" {
		return &Server{kind: k, Addr: external, external: true}, nil
	}
	command, err := k.find()
	if err != nil {
		return nil, errMissing{err}
	}
	cred := unprivileged(k.users...)
	s := &Server{kind: k, command: append(command, args...)}
	if s.dir, err = tempDir(cred); err != nil {
		return nil, err
	}
	for range 10 { // a port that was free may be taken by the time the server binds it
		if s.port, err = freePort(); err != nil {
			break
		}
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		if err = s.run(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// run starts the process on its directory and port, and waits until it answers.
func (s *Server) run() error {
	args, err := s.kind.args(s)
	if err != nil {
		return err
	}
	args = append(append([]string{}, s.command[1:]...), args...)
	p, err := start(unprivileged(s.kind.users...), s.dir, s.command[0], args...)
	if err != nil {
		return err
	}
	s.proc = p
	for deadline := time.Now().Add(max(60*time.Second, s.kind.limit)); ; time.Sleep(s.kind.poll) { // limit on a quiet machine
		if err = s.kind.ready(s.Addr); err == nil && p.alive() {
			return nil
		}
		if !p.alive() && strings.Contains(p.log.lines(50), s.kind.taken) {
			return errPortTaken
		}
		if !p.alive() || time.Now().After(deadline) {
			p.stop(syscall.SIGTERM)
			return fmt.Errorf("not ready: %w; the end of its log:\n%s", err, p.log.lines(50))
		}
	}
}

// stopAll ends the shared servers.
func stopAll() {
	for _, k := range []*kind{zookeeper, memcached, natsServer, rabbit} {
		k.mu.Lock()
		if k.one != nil {
			k.one.Stop()
			k.one = nil
		}
		k.mu.Unlock()
	}
}

// Alive tells whether the server's process runs.
func (s *Server) Alive() bool { return s.proc != nil && s.proc.alive() }

// Pid is the server's process, 0 for a server that is not ours.
func (s *Server) Pid() int {
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Stop ends the server and removes its files.
func (s *Server) Stop() {
	if s.external || s.proc == nil {
		return
	}
	s.proc.stop(syscall.SIGTERM)
	_ = os.RemoveAll(s.dir)
}

// Kill ends it by SIGKILL.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.send(t, syscall.SIGKILL)
	<-s.proc.exited
}

// Restart starts it again after Kill, or stops it first: same data, same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.ours(t)
	if s.proc.alive() {
		s.proc.stop(syscall.SIGTERM)
	}
	if err := s.run(); err != nil {
		t.Fatalf("%s does not start again: %v", s.kind.title, err)
	}
}

// Freeze stops it by SIGSTOP; Thaw lets it go on.
func (s *Server) Freeze(t testing.TB) { t.Helper(); s.send(t, syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw(t testing.TB) { t.Helper(); s.send(t, syscall.SIGCONT) }

// Proxied starts a Proxy in front of the server.
func (s *Server) Proxied(t testing.TB) *Proxy { t.Helper(); return NewProxy(t, s.Addr) }

func (s *Server) ours(t testing.TB) {
	t.Helper()
	if s.external {
		t.Skip(s.kind.addr + " names a server that is not ours")
	}
}

func (s *Server) send(t testing.TB, sig syscall.Signal) {
	t.Helper()
	s.ours(t)
	if err := s.proc.signal(sig); err != nil {
		t.Fatal(err)
	}
}
