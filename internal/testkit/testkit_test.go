package testkit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drover-cloud/drover/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

func query(dsn string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, "SELECT 1")
	return err
}

func TestPostgres(t *testing.T) {
	t.Run("testkit-31 start, use, freeze, thaw, kill, restart, stop", func(t *testing.T) {
		s := testkit.FreshPostgres(t)
		dsn := s.Database(t)
		if err := query(dsn, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		s.Freeze(t)
		if err := query(dsn, 300*time.Millisecond); err == nil {
			t.Fatal("a frozen server answered")
		}
		s.Thaw(t)
		if err := query(dsn, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		s.Kill(t)
		if err := query(dsn, time.Second); err == nil {
			t.Fatal("a killed server answered")
		}
		s.Restart(t)
		if err := query(dsn, 10*time.Second); err != nil {
			t.Fatalf("database lost by restart: %v", err)
		}
		s.Stop()
		if s.Alive() {
			t.Fatal("alive after Stop")
		}
	})
	t.Run("testkit-32 two test binaries at once", func(t *testing.T) {
		a := testkit.Postgres(t)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		other := exec.Command(self, "-test.run=^TestOtherBinary$", "-test.count=1")
		other.Env = append(os.Environ(), "GOTRACEBACK=all")
		out, err := other.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := query(a.Database(t), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOtherBinary is the second binary of testkit-32; by itself it only proves that one more server starts.
func TestOtherBinary(t *testing.T) {
	if err := query(testkit.Postgres(t).Database(t), 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestRequireServers(t *testing.T) {
	if os.Getenv("DROVER_POSTGRES_DSN") != "" {
		t.Skip("DROVER_POSTGRES_DSN is set: nothing is missing")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ value, want string }{
		{"", "SKIP"},
		{"0", "SKIP"},
		{"1", "FAIL"},
		{"postgres", "FAIL"},
		{" postgres ", "FAIL"},
		{"postgres,nonsense", "unknown server nonsense"},
		{"nonsense", "known: "},
	} {
		t.Run("testkit-33 DROVER_REQUIRE_SERVERS="+c.value, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run=^TestOtherBinary$", "-test.v")
			cmd.Env = append(os.Environ(), "PATH=", "DROVER_PG_BIN=/nonexistent", "DROVER_REQUIRE_SERVERS="+c.value)
			out, err := cmd.CombinedOutput()
			failed := new(exec.ExitError)
			if c.want != "SKIP" && !errors.As(err, &failed) || c.want == "SKIP" && err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), c.want) {
				t.Fatalf("no %q in\n%s", c.want, out)
			}
		})
	}
}

// echo is a server that answers each byte.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *testkit.Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestProxy(t *testing.T) {
	t.Run("testkit-34 delay", func(t *testing.T) {
		p := testkit.NewProxy(t, echo(t))
		c := dial(t, p)
		p.Delay(40 * time.Millisecond) // each way
		start := time.Now()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 80*time.Millisecond || d > 400*time.Millisecond {
			t.Fatalf("80 ms of delay took %v", d)
		}
	})
	t.Run("testkit-34 black hole", func(t *testing.T) {
		p := testkit.NewProxy(t, echo(t))
		c := dial(t, p)
		p.BlackHole()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("want silence until the deadline, got %v", err)
		}
		p.Heal()
		c = dial(t, p)
		if _, err := c.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("after Heal: %v", err)
		}
	})
	t.Run("testkit-34 cut after n bytes", func(t *testing.T) {
		p := testkit.NewProxy(t, echo(t))
		p.CutAnswers(5)
		c := dial(t, p)
		if _, err := c.Write([]byte("0123456789")); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(c)
		if string(got) != "01234" {
			t.Fatalf("got %q, want exactly 5 bytes", got)
		}
	})
}
