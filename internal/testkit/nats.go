package testkit

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// NATS gives the NATS server that this test binary shares, or that of DROVER_NATS_URL (host:port).
func NATS(t testing.TB) *Server {
	t.Helper()
	return natsServer.shared(t)
}

// FreshNATS starts one of the test's own, for tests that kill or freeze it.
func FreshNATS(t testing.TB) *Server {
	t.Helper()
	return natsServer.fresh(t)
}

// ConfiguredNATS starts one with a configuration of the test's own, besides address and port.
func ConfiguredNATS(t testing.TB, config string) *Server {
	t.Helper()
	dir, err := tempDir(unprivileged(natsServer.users...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil { //nolint:gosec // its directory is private
		t.Fatal(err)
	}
	return natsServer.fresh(t, "-c", file)
}

var natsServer = &kind{
	name: "nats", title: "NATS", addr: "DROVER_NATS_URL", users: []string{"nats", "nobody"}, limit: 5 * time.Second, poll: 10 * time.Millisecond,
	find: func() ([]string, error) {
		bin := os.Getenv("DROVER_NATS_BIN")
		if bin == "" {
			bin = "nats-server"
		}
		bin, err := exec.LookPath(bin)
		if err != nil {
			return nil, errors.New("no nats-server (apt-get install nats-server, or set DROVER_NATS_URL)")
		}
		return []string{bin}, nil
	},
	args: func(s *Server) ([]string, error) {
		return []string{"-a", "127.0.0.1", "-p", strconv.Itoa(s.port)}, nil
	},
	ready: func(addr string) error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "INFO ") {
			return errors.Join(err, errors.New("no INFO"))
		}
		if _, err := c.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\n")); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if !strings.HasPrefix(line, "PONG") && !strings.HasPrefix(line, "-ERR 'Authorization") {
			return errors.Join(err, errors.New("no PONG"))
		}
		return nil
	},
	taken: "address already in use",
}
