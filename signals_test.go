package drover_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
)

// TestMain lets the binary be a process that signals are sent to.
func TestMain(m *testing.M) {
	if mode := os.Getenv("DROVER_TEST_CHILD"); mode != "" {
		os.Exit(signalled(mode))
	}
	if name := os.Getenv("DROVER_TEST_ACTOR"); name != "" {
		if err := act(name, os.Getenv("DROVER_TEST_DSN")); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(fixture.Main(m))
}

// signalled is the child: it says on standard output what happens, and ends with standard input.
func signalled(mode string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(9)
	}()
	name, arg, _ := strings.Cut(mode, " ")
	if name == "plain" {
		_ = (&drover.Service{Env: quiet()}).Close()
		fmt.Println("ready")
		select {}
	}
	s := &drover.Service{Env: quiet(), DrainTimeout: 30 * time.Second}
	work, _ := time.ParseDuration(arg)
	switch name {
	case "work", "bounded":
		if name == "bounded" {
			s.DrainTimeout = time.Second
		}
		s.Components.Add("work", asker{untilEnd, func(ctx context.Context) error {
			fmt.Println("draining")
			select {
			case <-time.After(work):
			case <-ctx.Done():
			}
			return ctx.Err()
		}})
	case "deaf":
		s.Components.Add("deaf", drover.Func(func(context.Context) error { select {} }))
	case "reload":
		s.Components.Add("conf", &reloading{})
	}
	s.Drain = func(context.Context) error { fmt.Println("drain"); return nil }
	s.PostStart = func(context.Context) error {
		if _, stop := drover.Signals(context.Background(), s); stop != nil {
			stop() // of the second one: nothing
		}
		return nil
	}
	s.Components.Add("tell", drover.Func(func(ctx context.Context) error {
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("stop")
		return nil
	}), drover.AfterReady())
	ctx, stop := drover.Signals(context.Background(), s)
	if name == "restore" {
		stop()
		ctx = context.Background()
	}
	return drover.ExitCode(s.Run(ctx))
}

func untilEnd(ctx context.Context) error { <-ctx.Done(); return nil }

// reloading takes a while to reload, and fails the second time.
type reloading struct {
	n    atomic.Int32
	conf string
}

func (*reloading) Run(ctx context.Context) error { return untilEnd(ctx) }
func (r *reloading) Reload(context.Context) error {
	n := r.n.Add(1)
	fmt.Println("reload", n)
	time.Sleep(300 * time.Millisecond)
	if n == 2 {
		fmt.Println("kept", r.conf)
		return errBoom
	}
	r.conf = fmt.Sprint(n)
	fmt.Println("reloaded", n)
	return nil
}

// child is a process of this binary.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

func startChild(t *testing.T, mode string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0]), lines: make(chan string, 100)} //nolint:gosec // itself
	c.cmd.Env = append(os.Environ(), "DROVER_TEST_CHILD="+mode, "GORACE=atexit_sleep_ms=0")
	in, err := c.cmd.StdinPipe() // ends with this process
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { _ = in.Close(); <-read; _ = c.cmd.Wait() })
	c.until("ready")
	return c
}

// until reads lines up to want, and gives those before.
func (c *child) until(want string) (before []string) {
	c.t.Helper()
	for line := range c.lines {
		if line == want {
			return before
		}
		before = append(before, line)
	}
	c.t.Fatalf("no line %q but %q", want, before)
	return nil
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// end waits for the end: the exit code, or the signal that killed.
func (c *child) end() (code int, by syscall.Signal) {
	for range c.lines {
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); err == nil || !errors.As(err, &exit) {
		return 0, 0
	}
	ws := exit.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 0, ws.Signal()
	}
	return ws.ExitStatus(), 0
}

func TestSpecSignals(t *testing.T) {
	// Under nohup SIGHUP is ignored, and children inherit that; what this process handles they have with its default action.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hup) })
	for _, mode := range []string{"plain", "restore"} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			id := map[string]string{"plain": "service-33 without Signals: ", "restore": "service-36 stop restores: "}[mode]
			t.Run(id+sig.String(), func(t *testing.T) {
				t.Parallel()
				c := startChild(t, mode)
				c.signal(sig)
				if code, by := c.end(); by != sig {
					t.Errorf("exit %d, signal %v", code, by)
				}
			})
		}
	}
	t.Run("service-34 SIGTERM with 2 s of work", func(t *testing.T) {
		t.Parallel()
		c := startChild(t, "work 2s")
		begun := time.Now()
		c.signal(syscall.SIGTERM)
		code, by := c.end()
		if d := time.Since(begun); code != 0 || by != 0 || d < 2*time.Second {
			t.Errorf("exit %d, signal %v after %v", code, by, d)
		}
	})
	t.Run("service-34 work longer than DrainTimeout", func(t *testing.T) {
		t.Parallel()
		c := startChild(t, "bounded 1h")
		c.signal(syscall.SIGTERM)
		if code, by := c.end(); code != 2 || by != 0 {
			t.Errorf("exit %d, signal %v", code, by)
		}
	})
	for _, first := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run("service-35 a second signal after "+first.String(), func(t *testing.T) {
			t.Parallel()
			var took time.Duration
			for range 3 { // the best of three: the machine may be busy
				c := startChild(t, "work 20s")
				c.signal(first)
				c.until("draining")
				begun := time.Now()
				c.signal(first)
				code, by := c.end()
				if code != 0 || by != 0 {
					t.Errorf("exit %d, signal %v", code, by)
				}
				if took = time.Since(begun); took < time.Second {
					return
				}
			}
			t.Errorf("stopped after %v", took)
		})
	}
	t.Run("service-35 the third kills", func(t *testing.T) {
		t.Parallel()
		c := startChild(t, "deaf")
		c.signal(syscall.SIGINT)
		c.until("stop")
		c.signal(syscall.SIGTERM)
		gone := make(chan struct{})
		go func() { // from the second on each one kills
			for {
				select {
				case <-gone:
					return
				case <-time.After(50 * time.Millisecond):
					_ = c.cmd.Process.Signal(syscall.SIGTERM)
				}
			}
		}()
		code, by := c.end()
		close(gone)
		if by != syscall.SIGTERM {
			t.Errorf("exit %d, signal %v", code, by)
		}
	})
	t.Run("service-36 three SIGHUP during a slow reload", func(t *testing.T) {
		t.Parallel()
		c := startChild(t, "reload")
		c.signal(syscall.SIGHUP)
		c.until("reload 1")
		for range 3 {
			c.signal(syscall.SIGHUP)
		}
		c.until("reload 2")
		c.until("kept 1") // it fails
		c.signal(syscall.SIGHUP)
		if before := c.until("reloaded 3"); len(before) != 1 {
			t.Errorf("%q", before)
		}
		c.signal(syscall.SIGTERM)
		if code, by := c.end(); code != 0 || by != 0 {
			t.Errorf("exit %d, signal %v", code, by)
		}
	})
	t.Run("service-36 no Reloader", func(t *testing.T) {
		t.Parallel()
		c := startChild(t, "work 0s")
		for range 3 {
			c.signal(syscall.SIGHUP)
		}
		c.signal(syscall.SIGTERM)
		if before := c.until("stop"); len(before) != 2 { // drain, draining
			t.Errorf("%q", before)
		}
		if code, by := c.end(); code != 0 || by != 0 {
			t.Errorf("exit %d, signal %v", code, by)
		}
	})
	t.Run("service-36 Signals twice", func(t *testing.T) {
		a, b := &drover.Service{Env: quiet()}, &drover.Service{Env: quiet()}
		ctx, stop := drover.Signals(t.Context(), a)
		again, stopAgain := drover.Signals(t.Context(), b)
		if err := b.Run(again); !errors.Is(err, drover.ErrSignals) || ctx.Err() != nil || b.State() != "new" {
			t.Error(err)
		}
		stopAgain()
		stop()
		stop()
		_, stop = drover.Signals(t.Context(), b)
		stop()
	})
}
