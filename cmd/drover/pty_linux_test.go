package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/drover-cloud/drover/job"
)

// pty is a pseudo-terminal: what the command writes to tty is read from the answer of said.
func pty(t *testing.T) (tty *os.File, keys io.Writer, said func() string) {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	c, err := m.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = c.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	out := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(m) // ends with an error when the last tty is closed
		out <- string(b)
	}()
	return tty, m, func() string { _ = tty.Close(); return <-out }
}

func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	c := onSQLite(t)
	end := make(chan struct{})
	n := c.node("n1", func(m *job.Manager) {
		job.Handle(m, "copy", func(ctx context.Context, _ string) (string, error) {
			if err := job.Report(ctx, job.Progress{Percent: 57, Note: "copying \x1b[2Jmemory"}); err != nil {
				return "", err
			}
			select {
			case <-end:
			case <-ctx.Done():
			}
			return "", context.Cause(ctx)
		})
	})
	j := c.submit(n, job.Request{Kind: "copy"})
	c.until(n, j.ID, job.Running)
	t.Run("cli-07 a terminal has colours, short ids and ages; NO_COLOR is respected", func(t *testing.T) {
		for _, env := range []string{"", "1"} {
			t.Setenv("NO_COLOR", env)
			tty, _, said := pty(t)
			code := run(t.Context(), []string{"jobs", "list", "-db", c.dsn}, strings.NewReader(""), tty, tty)
			out := said()
			if code != 0 || strings.Contains(out, j.ID) || !strings.Contains(out, tail8(j.ID)) || !strings.Contains(out, "s ago") ||
				strings.Contains(out, "\x1b[2J") || strings.Contains(out, "\x1b[") == (env != "") {
				t.Errorf("NO_COLOR=%q: exit %d: %q", env, code, out)
			}
		}
	})
	t.Run("a terminal is asked", func(t *testing.T) {
		ask := func(answer string) (int, string) {
			tty, keys, said := pty(t)
			_, _ = io.WriteString(keys, answer)
			code := run(t.Context(), []string{"jobs", "retry", "-filter", "kind=copy", "-filter", "state=running", "-db", c.dsn}, tty, tty, tty)
			return code, said()
		}
		if code, out := ask("no\n"); code != badEnd || !strings.Contains(out, "retry 1 jobs? Type yes") || !strings.Contains(out, "nothing done") {
			t.Errorf("no: exit %d: %q", code, out)
		}
		if code, out := ask("yes\n"); code != badEnd || !strings.Contains(out, "only failed and cancelled jobs are retried") {
			t.Errorf("yes: exit %d: %q", code, out)
		}
	})
	t.Run("cli-07 a bar is drawn after 500 ms, in place, and ends with the final line", func(t *testing.T) {
		tty, _, said := pty(t)
		time.AfterFunc(1700*time.Millisecond, func() { close(end) })
		code := run(t.Context(), []string{"jobs", "wait", "-o", "id", "-db", c.dsn, j.ID}, strings.NewReader(""), io.Discard, tty)
		out := said()
		if code != 0 {
			t.Errorf("exit %d", code)
		}
		lines := strings.Split(strings.TrimSuffix(out, "\r\n"), "\r\x1b[K")
		first, last := lines[1], lines[len(lines)-1]
		if strings.Contains(strings.TrimSuffix(out, "\r\n"), "\n") || len(lines) < 4 {
			t.Errorf("not in place: %q", out)
		}
		if !strings.Contains(first, "copy "+tail8(j.ID)+"  running on n1  [#######-------]  57 %  0s") || !strings.Contains(last, "succeeded") {
			t.Errorf("first %q, last %q", first, last)
		}
	})
	t.Run("cli-07 a wait of less than 500 ms shows nothing", func(t *testing.T) {
		tty, _, said := pty(t)
		run(t.Context(), []string{"jobs", "wait", "-o", "id", "-db", c.dsn, j.ID}, strings.NewReader(""), io.Discard, tty)
		if out := said(); out != "" {
			t.Errorf("%q", out)
		}
	})
}
