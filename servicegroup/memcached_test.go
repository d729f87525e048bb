package servicegroup_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/memcached"
	"github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/testkit/drivertest"
)

func openMemcached(t testing.TB, cfg memcached.Config) *memcached.Driver {
	t.Helper()
	d, err := memcached.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestMemcached(t *testing.T) {
	t.Run("servicegroup-44 memcached", func(t *testing.T) {
		drivertest.Membership(t, func(t testing.TB) drivertest.MembershipServer {
			server := testkit.Memcached(t)
			flush(t, server.Addr)
			proxy := server.Proxied(t)
			marks := memory.New()
			return drivertest.MembershipServer{
				Open: func(t testing.TB) servicegroup.Driver {
					return openMemcached(t, memcached.Config{Servers: []string{proxy.Addr()}, Marks: marks})
				},
				Down: func(testing.TB) { proxy.CutRequests(0); proxy.Reset() },
				Hang: func(testing.TB) { proxy.BlackHole() },
				Back: func(testing.TB) { proxy.Heal() },
			}
		})
	})
	t.Run("servicegroup-34 restarted under five members", func(t *testing.T) {
		t.Parallel()
		server := testkit.FreshMemcached(t)
		var nodes []*live
		for i := range 5 {
			d := openMemcached(t, memcached.Config{Servers: []string{server.Addr}, Down: 20 * time.Second})
			nodes = append(nodes, run(t, d, fmt.Sprint("n", i), func(c *servicegroup.Config) { c.Interval, c.Down = 2*time.Second, 20*time.Second }))
		}
		all := func(v servicegroup.View) bool { return len(v.Up) == 5 }
		for _, n := range nodes {
			n.until(t, 10*time.Second, all)
		}
		server.Kill(t)
		server.Restart(t)
		begin := time.Now()
		was := nodes[0].Self().Incarnation
		eventually(t, 10*time.Second, func() bool { // all have joined anew
			all, err := openMemcached(t, memcached.Config{Servers: []string{server.Addr}}).Members(t.Context(), "drover")
			return err == nil && len(all) == 5
		})
		for _, n := range nodes {
			n.until(t, 10*time.Second, all)
			if n.downs.Load() != 0 {
				t.Error("reported down for a restart of the server")
			}
		}
		t.Logf("all joined anew after %v", time.Since(begin)) // Interval + 1 s on a quiet machine
		if is := nodes[0].Self().Incarnation; is <= was {
			t.Errorf("incarnation %d after %d", is, was)
		}
	})
	t.Run("servicegroup-40 server down", func(t *testing.T) {
		t.Parallel()
		server := testkit.FreshMemcached(t)
		d := openMemcached(t, memcached.Config{Servers: []string{server.Addr}, Down: 3 * time.Second})
		n := run(t, d, "n1", quick)
		n.up(t, "n1")
		if _, err := d.Join(t.Context(), record("gone", "i")); err != nil { // never beats: its key expires
			t.Fatal(err)
		}
		n.until(t, 30*time.Second, func(v servicegroup.View) bool { m, _ := v.Member("gone"); return m.State == servicegroup.Down })
		server.Kill(t)
		n.until(t, 20*time.Second, func(v servicegroup.View) bool { return len(v.Unknown) == 2 })
		if n.downs.Load() != 1 {
			t.Errorf("%d told down", n.downs.Load())
		}
		server.Restart(t)
		n.up(t, "n1")
	})
	t.Run("servicegroup-40 on the wire", func(t *testing.T) {
		var sent lines
		d := openMemcached(t, memcached.Config{Servers: []string{tap(t, testkit.Memcached(t).Addr, &sent)}})
		m, err := d.Join(t.Context(), record("with space", "i"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Beat(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"add", "cas"} {
			if !strings.Contains(sent.String(), verb+" drover:drover:with%20space 0 61 ") {
				t.Errorf("no %s with 61 s in\n%s", verb, sent.String())
			}
		}
		if _, err := d.Join(t.Context(), record(strings.Repeat("z", 300), "i")); err != nil {
			t.Fatal(err)
		}
		if all, err := d.Members(t.Context(), "drover"); err != nil || len(all) != 2 || all[1].ID != strings.Repeat("z", 300) || all[1].Age != 0 {
			t.Fatal(err, all)
		}
	})
	t.Run("servicegroup-40 configuration", func(t *testing.T) {
		for field, cfg := range map[string]memcached.Config{
			"Servers": {}, "Servers: \"x\"": {Servers: []string{"x"}}, "Down": {Servers: []string{"127.0.0.1:1"}, Down: 31 * 24 * time.Hour},
			"Timeout": {Servers: []string{"127.0.0.1:1"}, Timeout: -1},
		} {
			if _, err := memcached.New(cfg); !errors.Is(err, servicegroup.ErrConfig) || !strings.Contains(err.Error(), field) {
				t.Errorf("%s: %v", field, err)
			}
		}
		d := openMemcached(t, memcached.Config{Servers: []string{"127.0.0.1:1"}})
		if err := d.Mark(t.Context(), "g", "n", servicegroup.ForcedDown); !errors.Is(err, servicegroup.ErrUnsupported) {
			t.Error(err)
		}
		if err := d.Forget(t.Context(), "g", "n", true); !errors.Is(err, servicegroup.ErrUnsupported) {
			t.Error(err)
		}
	})
	t.Run("servicegroup-41 idle connection closed", func(t *testing.T) {
		proxy := testkit.FreshMemcached(t).Proxied(t)
		d := openMemcached(t, memcached.Config{Servers: []string{proxy.Addr()}})
		m, err := d.Join(t.Context(), record("n1", "i1"))
		if err != nil {
			t.Fatal(err)
		}
		proxy.Reset()
		if err := d.Beat(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	})
}

// flush empties a server.
func flush(t testing.TB, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "flush_all\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "OK\r\n" {
		t.Fatal(line, err)
	}
}

// tap is a server in front of another that writes down what it is sent.
func tap(t testing.TB, target string, log io.Writer) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", target)
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = io.Copy(c, s); _ = c.Close() }()
			go func() { _, _ = io.Copy(io.MultiWriter(s, log), bufio.NewReader(c)); _ = s.Close() }()
		}
	})
	return l.Addr().String()
}
