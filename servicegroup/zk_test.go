package servicegroup_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	zookeeper "github.com/go-zookeeper/zk"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/zk"
	"github.com/drover-cloud/drover/testkit/drivertest"
)

var prefixes atomic.Int64

func prefix(t testing.TB) string {
	return fmt.Sprintf("/t%d/%d", time.Now().UnixNano(), prefixes.Add(1))
}

func openZK(t testing.TB, cfg zk.Config) *zk.Driver {
	t.Helper()
	d, err := zk.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestZooKeeper(t *testing.T) {
	t.Run("servicegroup-44 zk", func(t *testing.T) {
		drivertest.Membership(t, func(t testing.TB) drivertest.MembershipServer {
			proxy := testkit.ZooKeeper(t).Proxied(t)
			p := prefix(t)
			return drivertest.MembershipServer{
				Open: func(t testing.TB) servicegroup.Driver {
					return openZK(t, zk.Config{Servers: []string{proxy.Addr()}, Prefix: p, Session: 2 * time.Second})
				},
				Down: func(testing.TB) { proxy.CutRequests(0); proxy.Reset() },
				Hang: func(testing.TB) { proxy.BlackHole() },
				Back: func(testing.TB) { proxy.Heal() }, Settle: 15 * time.Second,
			}
		})
	})
	t.Run("servicegroup-35 nodes", func(t *testing.T) {
		server := testkit.ZooKeeper(t)
		p := prefix(t)
		raw, _, err := zookeeper.Connect([]string{server.Addr}, 5*time.Second, zookeeper.WithLogInfo(false))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		path := p + "/g/n1/i1"
		if ok, _, err := raw.Exists(path); err != nil || ok {
			t.Fatal(ok, err)
		}
		a := openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: p})
		b := openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: p})
		errs := make(chan error, 2)
		var got [2]servicegroup.Member
		for i, d := range []*zk.Driver{a, b} {
			go func() {
				var err error
				got[i], err = d.Join(t.Context(), servicegroup.Member{Group: "g", ID: fmt.Sprint("n", i+1), Instance: fmt.Sprint("i", i+1)})
				errs <- err
			}()
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
		ok, stat, err := raw.Exists(path)
		if err != nil || !ok || stat.EphemeralOwner == 0 || stat.Czxid != got[0].Incarnation {
			t.Fatalf("%v %v %+v, joined as %+v", ok, err, stat, got[0])
		}
		again, err := a.Join(t.Context(), servicegroup.Member{Group: "g", ID: "n1", Instance: "i1"})
		if err != nil || again.Incarnation != got[0].Incarnation {
			t.Fatal(err, again)
		}
	})
	t.Run("servicegroup-36 two instances, foreign nodes", func(t *testing.T) {
		server := testkit.ZooKeeper(t)
		p := prefix(t)
		log := &lines{}
		cfg := zk.Config{Servers: []string{server.Addr}, Prefix: p, Session: 2 * time.Second}
		a, b := openZK(t, cfg), openZK(t, cfg)
		cfg.Env = drover.Env{Logger: logger(log)}
		w := openZK(t, cfg)
		if _, err := a.Join(t.Context(), record("n1", "i1")); err != nil {
			t.Fatal(err)
		}
		m, err := b.Join(t.Context(), record("n1", "i2"))
		if err != nil {
			t.Fatal(err)
		}
		raw, _, err := zookeeper.Connect([]string{server.Addr}, 5*time.Second, zookeeper.WithLogInfo(false))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		for _, n := range []string{"/drover/alien", "/drover/other"} {
			if _, err := raw.Create(p+n, []byte("hello"), 0, zookeeper.WorldACL(zookeeper.PermAll)); err != nil {
				t.Fatal(err)
			}
		}
		see := func(lapsed bool) {
			t.Helper()
			eventually(t, 10*time.Second, func() bool {
				all, err := w.Members(t.Context(), "drover")
				return err == nil && len(all) == 1 && all[0].Incarnation == m.Incarnation && all[0].Lapsed == lapsed
			})
		}
		see(false)
		_ = b.Close()
		see(false)
		_ = a.Close()
		see(true)
		if log.count("foreign") != 1 {
			t.Fatal(log)
		}
	})
	t.Run("servicegroup-37 client cut off", func(t *testing.T) {
		t.Parallel()
		server := testkit.ZooKeeper(t)
		p := prefix(t)
		cut := func(session, d time.Duration) (n, o *live, begin time.Time) {
			proxy := server.Proxied(t)
			n = run(t, openZK(t, zk.Config{Servers: []string{proxy.Addr()}, Prefix: p, Session: session}), "n1", quick)
			o = run(t, openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: p, Session: session}), "n2", quick)
			o.up(t, "n1")
			proxy.BlackHole()
			begin = time.Now()
			if d > 0 {
				time.Sleep(d)
				proxy.Heal()
			} else {
				t.Cleanup(proxy.Heal)
				o.until(t, 15*time.Second, func(v servicegroup.View) bool { m, _ := v.Member("n1"); return m.State == servicegroup.Down })
				took := time.Since(begin)
				t.Logf("session of %v: down after %v", session, took)
				if took < session || took > session+6*time.Second { // 4-5 s on a quiet machine
					t.Errorf("down after %v", took)
				}
				proxy.Heal()
				o.up(t, "n1")
			}
			return n, o, begin
		}
		cut(2*time.Second, 0)
		p = prefix(t)
		_, o, _ := cut(8*time.Second, 3*time.Second)
		time.Sleep(3 * time.Second)
		if o.downs.Load() != 0 {
			t.Fatal("down during a cut shorter than the session")
		}
	})
	t.Run("servicegroup-32 six of ten cut off", func(t *testing.T) {
		t.Parallel()
		server := testkit.ZooKeeper(t)
		p := prefix(t)
		proxy := server.Proxied(t)
		var nodes []*live
		for i := range 10 {
			addr := server.Addr
			if i >= 4 {
				addr = proxy.Addr()
			}
			d := openZK(t, zk.Config{Servers: []string{addr}, Prefix: p, Session: 2 * time.Second})
			nodes = append(nodes, run(t, d, fmt.Sprint("n", i), func(c *servicegroup.Config) { c.Interval, c.Down = time.Second, 10*time.Second }))
		}
		for _, n := range nodes {
			n.until(t, 30*time.Second, func(v servicegroup.View) bool { return len(v.Up) == 10 })
		}
		proxy.BlackHole()
		for _, n := range nodes[:4] {
			n.until(t, 30*time.Second, func(v servicegroup.View) bool { return v.Frozen && len(v.Unknown) == 6 })
			if n.downs.Load() != 0 {
				t.Error("one of a mass was called down")
			}
		}
		proxy.Heal()
		for _, n := range nodes {
			n.until(t, 60*time.Second, func(v servicegroup.View) bool { return !v.Frozen && len(v.Up) == 10 })
		}
	})
	t.Run("servicegroup-38 server killed", func(t *testing.T) {
		t.Parallel()
		server := testkit.FreshZooKeeper(t)
		p := prefix(t)
		var nodes []*live
		for i := range 3 {
			d := openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: p})
			nodes = append(nodes, run(t, d, fmt.Sprint("n", i), quick))
		}
		for _, n := range nodes {
			n.until(t, 30*time.Second, func(v servicegroup.View) bool { return len(v.Up) == 3 })
		}
		server.Kill(t)
		for _, n := range nodes {
			n.until(t, 20*time.Second, func(v servicegroup.View) bool { return len(v.Unknown) == 3 })
		}
		server.Restart(t)
		for _, n := range nodes {
			n.until(t, 30*time.Second, func(v servicegroup.View) bool { return len(v.Up) == 3 })
			if n.downs.Load() != 0 {
				t.Error("reported down for want of a server")
			}
			if e := n.events.Load(); e > 40 {
				t.Errorf("%d events", e)
			}
		}
	})
	t.Run("servicegroup-39 server frozen", func(t *testing.T) {
		t.Parallel()
		server := testkit.FreshZooKeeper(t)
		d := openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: prefix(t)})
		n := run(t, d, "n1", quick)
		n.up(t, "n1")
		server.Freeze(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := d.Members(ctx, "drover")
		if took := time.Since(begin); !errors.Is(err, servicegroup.ErrUnavailable) || took > 9*time.Second {
			t.Fatalf("%v after %v", err, took)
		}
		n.until(t, 15*time.Second, func(v servicegroup.View) bool { m, _ := v.Member("n1"); return m.State == servicegroup.Unknown })
		server.Thaw(t)
		n.up(t, "n1")
		if n.downs.Load() != 0 {
			t.Error("reported down for want of an answer")
		}
		n.stop(t)
		_ = d.Close()
		noGoroutines(t, "servicegroup/zk.")
	})
	t.Run("servicegroup-55 meta within a second", func(t *testing.T) {
		server := testkit.ZooKeeper(t)
		p := prefix(t)
		a := run(t, openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: p}), "n1")
		b := run(t, openZK(t, zk.Config{Servers: []string{server.Addr}, Prefix: p}), "n2")
		b.up(t, "n1")
		a.up(t, "n2")
		begin := time.Now()
		if err := a.SetMeta(t.Context(), map[string]string{"zone": "z9"}); err != nil {
			t.Fatal(err)
		}
		b.until(t, 5*time.Second, func(v servicegroup.View) bool { m, _ := v.Member("n1"); return m.Meta["zone"] == "z9" })
		t.Logf("seen after %v", time.Since(begin))
	})
	t.Run("servicegroup-06 configuration", func(t *testing.T) {
		for field, cfg := range map[string]zk.Config{
			"Servers": {}, "Servers: \"x\"": {Servers: []string{"x"}}, "Prefix": {Servers: []string{"a:1"}, Prefix: "x"},
			"Session": {Servers: []string{"a:1"}, Session: time.Millisecond},
		} {
			if _, err := zk.New(cfg); !errors.Is(err, servicegroup.ErrConfig) || !strings.Contains(err.Error(), field) {
				t.Errorf("%s: %v", field, err)
			}
		}
	})
}
