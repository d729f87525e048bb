package nats_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/nats"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/internal/testkit/busrig"
	"github.com/drover-cloud/drover/testkit/transporttest"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

func open(s *fixture.Server) *fixture.BusNet {
	return fixture.NewBusNet(s, func(node, addr, prefix string) (bus.Transport, error) {
		return nats.New(nats.Config{Env: drover.Env{Node: node}, URL: "nats://" + addr, Prefix: prefix})
	})
}

func TestTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Net { return open(fixture.NATS(t)) })
}

func TestBroker(t *testing.T) {
	s := fixture.FreshNATS(t) // each check leaves it running
	transporttest.RunBroker(t, func(testing.TB) transporttest.Net { return fixture.OwnBusNet{BusNet: open(s)} })
}

func TestSpec(t *testing.T) {
	t.Run("bus-86 nobody there", func(t *testing.T) {
		a := busrig.Start(t, open(fixture.NATS(t)).Open(t, "a"), "a", nil)
		for what, send := range map[string]func() error{
			"call":           func() error { _, err := a.Call(t.Context(), &bus.Message{Topic: "none"}); return err },
			"call to a node": func() error { _, err := a.Call(t.Context(), &bus.Message{Topic: "none", Node: "x.y z"}); return err },
			"odd id":         func() error { _, err := a.Call(t.Context(), &bus.Message{ID: "a b.é=2>", Topic: "none"}); return err },
			"cast":           func() error { return a.Cast(t.Context(), &bus.Message{Topic: "none"}) },
		} {
			best := time.Hour
			for range 3 {
				began := time.Now()
				if err := send(); !errors.Is(err, bus.ErrNoRoute) || !bus.NotRun(err) {
					t.Fatalf("%s: %v", what, err)
				}
				best = min(best, time.Since(began))
			}
			if best > 50*time.Millisecond {
				t.Errorf("%s: told after %v", what, best)
			}
		}
	})
	t.Run("bus-86 nothing is kept while away", func(t *testing.T) {
		n := fixture.OwnBusNet{BusNet: open(fixture.FreshNATS(t))}
		var mu sync.Mutex
		var got []string
		a := busrig.Start(t, n.Open(t, "a"), "a", nil)
		busrig.Start(t, n.Open(t, "b"), "b", nil, busrig.Serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(m.Body))
			return nil, nil
		}))
		n.Kill(t)
		cast := func(body string) error { return a.Cast(t.Context(), &bus.Message{Topic: "svc", Body: []byte(body)}) }
		for errors.Is(cast("before"), bus.ErrNodeLost) { // the client has not noticed yet
			time.Sleep(10 * time.Millisecond)
		}
		best := time.Hour
		for range 3 {
			began := time.Now()
			if err := cast("while"); !errors.Is(err, bus.ErrNotSent) {
				t.Errorf("away: %v", err)
			}
			best = min(best, time.Since(began))
		}
		if best > 1100*time.Millisecond {
			t.Errorf("told after %v", best)
		}
		n.Restart(t)
		for end := time.Now().Add(20 * time.Second); cast("after") != nil; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the service does not come back")
			}
		}
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			seen := slices.Clone(got)
			mu.Unlock()
			if slices.Contains(seen, "while") {
				t.Fatalf("sent later: %v", seen)
			}
			if slices.Contains(seen, "after") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("heard %v", seen)
			}
		}
	})
	t.Run("bus-89 another's inbox", func(t *testing.T) {
		s := fixture.ConfiguredNATS(t, `authorization { users = [
			{user: a, password: pa}, {user: b, password: pb},
			{user: evil, password: pe, permissions: {publish: ">", subscribe: {deny: ["drover.r.a.>", "drover.n.a.>"]}}} ] }`)
		start := func(user, node string, inc int64, serve ...func(b *bus.Bus)) *busrig.Node {
			x, err := nats.New(nats.Config{Env: drover.Env{Node: node}, URL: "nats://" + user + ":p" + user[:1] + "@" + s.Addr})
			if err != nil {
				t.Fatal(err)
			}
			return busrig.Start(t, x, node, func(c *bus.Config) { c.Incarnation = inc }, serve...)
		}
		start("b", "b", 1, busrig.Serving("svc", busrig.Echo))
		call := func(x *busrig.Node) error {
			_, err := x.Call(t.Context(), &bus.Message{Topic: "svc", Body: []byte("x")}, bus.Timeout(2*time.Second))
			return err
		}
		if err := call(start("a", "a", 1)); err != nil {
			t.Errorf("its own name: %v", err)
		}
		if err := call(start("evil", "a", 2)); err == nil {
			t.Error("an answer for a reached another")
		}
	})
}
