package drover_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

// moody reports what it is told to.
type moody struct {
	mu    sync.Mutex
	state string
}

func (m *moody) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (m *moody) set(state string)              { m.mu.Lock(); defer m.mu.Unlock(); m.state = state }
func (m *moody) Health() drover.Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == "panic" {
		panic(errBoom)
	}
	return drover.Health{State: m.state}
}

func TestSpecProbe(t *testing.T) {
	bubble(t, "service-38 a Reporter that hangs", func(t *testing.T) {
		slow := &reporter{delay: time.Second}
		s := &drover.Service{Env: quiet()}
		s.Components.Add("slow", slow)
		s.Components.Add("good", &reporter{})
		end := runs(t, s)
		settled(0)
		begun := time.Now()
		h := s.Health()
		if d := time.Since(begun); h.State != "degraded" || h.Name != "slow" || h.Err == nil || d > 110*time.Millisecond {
			t.Errorf("%+v after %v", h, d)
		}
		s.Health()
		if n := slow.asked.Load(); n != 1 || !s.Ready() {
			t.Errorf("asked %d times while it hangs", n)
		}
		settled(2 * time.Second)
		_ = s.Close()
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	bubble(t, "service-38 the worst of all; a panic is isolated", func(t *testing.T) {
		a, b := &moody{state: "ready"}, &moody{state: "ready"}
		s := &drover.Service{Env: quiet(), Topic: "x"}
		s.Components.Add("a", a)
		s.Components.Add("b", b)
		s.Components.Add("done", after(time.Second, nil), drover.Background())
		if h := s.Health(); h.State != "starting" || s.Ready() {
			t.Errorf("%+v", h)
		}
		end := runs(t, s)
		settled(2 * time.Second)
		for _, c := range []struct{ a, b, name, state string }{
			{"ready", "ready", "x", "ready"},
			{"degraded", "ready", "a", "degraded"},
			{"degraded", "failing", "b", "failing"},
			{"panic", "ready", "a", "degraded"},
		} {
			a.set(c.a)
			b.set(c.b)
			if h := s.Health(); h.Name != c.name || h.State != c.state || s.Ready() == (c.state == "failing") {
				t.Errorf("%+v: %+v, ready %v", c, h, s.Ready())
			}
		}
		if st := s.Status(); len(st) != 4 || st[0].Name != "x" || st[0].State != "running" || st[1].Name != "a" {
			t.Errorf("%+v", st)
		}
		_ = s.Close()
		if err := end(); err != nil || s.Health().State != "stopped" {
			t.Error(s.Health(), err)
		}
	})
	bubble(t, "service-39 flapping is damped", func(t *testing.T) {
		m := &moody{state: "ready"}
		s := &drover.Service{Env: quiet()}
		s.Components.Add("m", m)
		end := runs(t, s)
		settled(0)
		was := s.Health().State
		changes := map[time.Duration]string{}
		start := time.Now()
		for at := range 40 {
			switch at {
			case 1, 15, 20:
				m.set("degraded")
			case 2, 16, 21:
				m.set("ready")
			case 35:
				m.set("failing")
			}
			if now := s.Health().State; now != was {
				changes[time.Since(start)] = now
				was = now
			}
			time.Sleep(time.Second)
		}
		want := map[time.Duration]string{1 * time.Second: "degraded", 12 * time.Second: "ready", 15 * time.Second: "degraded", 31 * time.Second: "ready", 35 * time.Second: "failing"}
		if len(changes) != len(want) {
			t.Error(changes)
		}
		for at, state := range want {
			if changes[at] != state {
				t.Errorf("at %v: %q, want %q", at, changes[at], state)
			}
		}
		_ = s.Close()
		_ = end()
	})
	bubble(t, "service-40 a Loop stuck in its Step", func(t *testing.T) {
		release := make(chan struct{})
		n := 0
		s := &drover.Service{Env: quiet()}
		s.Components.Add("loop", drover.Func(func(ctx context.Context) error {
			return drover.Loop(ctx, quiet(), nil, stepFunc(func(context.Context) (time.Time, error) {
				if n++; n == 3 {
					<-release
				}
				if n == 5 {
					return time.Time{}, errors.New("down")
				}
				return time.Now().Add(5 * time.Second), nil
			}))
		}))
		s.Components.Add("waker", drover.Func(func(ctx context.Context) error {
			return drover.Loop(ctx, quiet(), make(chan struct{}), stepFunc(func(context.Context) (time.Time, error) { return time.Time{}, nil }))
		}))
		end := runs(t, s)
		for _, c := range []struct {
			d    time.Duration
			live bool
		}{{0, true}, {10 * time.Second, true}, {15 * time.Second, true}, {2 * time.Second, false}, {time.Hour, false}} {
			if settled(c.d); s.Live() != c.live {
				t.Errorf("live %v after another %v", s.Live(), c.d)
			}
		}
		close(release)
		synctest.Wait()
		if !s.Live() {
			t.Error("not live again")
		}
		settled(time.Hour)
		if !s.Live() { // one waits, the other may be backing off
			t.Error("not live while waiting")
		}
		_ = s.Close()
		_ = end()
	})
}
