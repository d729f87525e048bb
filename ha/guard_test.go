package ha

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

// way is a Path that may be cut, or hang.
type way struct {
	mu   sync.Mutex
	cut  bool
	hang bool
	last time.Time // send time of the last beat confirmed
	got  []Beat
	ack  Ack
}

func (w *way) send(ctx context.Context, b Beat) (Ack, error) {
	sent := time.Now()
	time.Sleep(50 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hang {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return Ack{}, ctx.Err()
	}
	if w.cut {
		return Ack{}, errors.New("cut")
	}
	w.last = sent
	w.got = append(w.got, b)
	return w.ack, nil
}

func (w *way) set(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

// guarded is a Guard at work, and when it ended the host's VMs.
type guarded struct {
	*Guard
	control, storage way
	mu               sync.Mutex
	fenced           []time.Time
	fail             int
	vms              bool
	pats             int
}

// ends are the instants at which the VMs were ended.
func (g *guarded) ends() []time.Time { g.mu.Lock(); defer g.mu.Unlock(); return slices.Clone(g.fenced) }

func (g *guarded) patted() int { g.mu.Lock(); defer g.mu.Unlock(); return g.pats }

// heard is the last beat that was confirmed, and when it was sent.
func (w *way) heard() (b Beat, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.got); n > 0 {
		b = w.got[n-1]
	}
	return b, w.last
}

func guarding(t *testing.T, f func(g *guarded), set ...func(c *GuardConfig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{vms: true}
		cfg := GuardConfig{Host: "h", Env: drover.Env{Node: "h", Logger: slog.New(slog.DiscardHandler)},
			Paths:     []Path{{"control", g.control.send}, {"storage", g.storage.send}},
			Protected: func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.vms },
			Pat:       func() { g.mu.Lock(); defer g.mu.Unlock(); g.pats++ },
			Fence: func(context.Context) error {
				g.mu.Lock()
				defer g.mu.Unlock()
				if g.fail > 0 {
					g.fail--
					return errors.New("busy")
				}
				g.fenced, g.vms = append(g.fenced, time.Now()), false
				return nil
			}}
		for _, f := range set {
			f(&cfg)
		}
		var err error
		if g.Guard, err = NewGuard(cfg); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		time.Sleep(10 * time.Second)
		f(g)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if b, _ := g.control.heard(); !g.control.cut && !b.Goodbye {
			t.Error("it left without a goodbye")
		}
		if err := g.Run(t.Context()); !errors.Is(err, drover.ErrUsed) {
			t.Error(err)
		}
	})
}

// last is when the last beat that was confirmed by any path was sent.
func last(g *guarded) time.Time {
	_, a := g.control.heard()
	_, b := g.storage.heard()
	return later(a, b)
}

func TestGuard(t *testing.T) {
	t.Run("guards 54: one path lost, then the other", func(t *testing.T) {
		guarding(t, func(g *guarded) {
			g.control.set(func() { g.control.cut = true })
			time.Sleep(10 * time.Minute)
			if len(g.ends()) != 0 || g.Health().State != "ready" {
				t.Errorf("fenced at %v, %+v", g.ends(), g.Health())
			}
			g.storage.set(func() { g.storage.hang = true })
			time.Sleep(30 * time.Second)
			if len(g.ends()) != 1 {
				t.Fatalf("fenced %v", g.ends())
			}
			if after := g.ends()[0].Sub(last(g)); after < 10*time.Second || after > 11*time.Second {
				t.Errorf("%v after the last beat that was confirmed was sent", after)
			}
			was, _ := g.control.heard()
			g.control.set(func() { g.control.cut = false })
			time.Sleep(5 * time.Second)
			if b, _ := g.control.heard(); b.Incarnation <= was.Incarnation {
				t.Errorf("beats as incarnation %d, was %d", b.Incarnation, was.Incarnation)
			}
			if len(g.ends()) != 1 || g.Health().State != "ready" {
				t.Errorf("fenced %v, %+v", g.ends(), g.Health())
			}
		})
	})
	t.Run("nothing to protect", func(t *testing.T) {
		guarding(t, func(g *guarded) {
			g.mu.Lock()
			g.vms = false
			g.mu.Unlock()
			g.control.set(func() { g.control.cut = true })
			g.storage.set(func() { g.storage.cut = true })
			time.Sleep(30 * time.Second)
			if len(g.ends()) != 0 || g.Health().State != "failing" {
				t.Errorf("fenced %v, %+v", g.ends(), g.Health())
			}
			pats := g.patted()
			time.Sleep(time.Minute)
			if g.patted() != pats {
				t.Error("the watchdog is fed without a lease")
			}
			g.mu.Lock()
			g.vms = true
			g.mu.Unlock()
			time.Sleep(3 * time.Second)
			if len(g.ends()) != 1 {
				t.Errorf("fenced %v", g.ends())
			}
		})
	})
	t.Run("it fails, and tries again", func(t *testing.T) {
		guarding(t, func(g *guarded) {
			g.mu.Lock()
			g.fail = 3
			g.mu.Unlock()
			g.control.set(func() { g.control.cut = true })
			g.storage.set(func() { g.storage.cut = true })
			time.Sleep(20 * time.Second)
			if len(g.ends()) != 1 {
				t.Fatalf("fenced %v", g.ends())
			}
			if after := g.ends()[0].Sub(last(g)); after != 13*time.Second {
				t.Errorf("after %v", after)
			}
		})
	})
	t.Run("an Ack may shorten the lease", func(t *testing.T) {
		guarding(t, func(g *guarded) {
			for _, w := range []*way{&g.control, &g.storage} {
				w.set(func() { w.ack.Lease = 5 * time.Second })
			}
			time.Sleep(20 * time.Second)
			for _, w := range []*way{&g.control, &g.storage} {
				w.set(func() { w.cut = true })
			}
			time.Sleep(20 * time.Second)
			if after := g.ends()[0].Sub(last(g)); after != 5*time.Second {
				t.Errorf("after %v", after)
			}
		})
	})
	t.Run("configuration", func(t *testing.T) {
		path := Path{"a", func(context.Context, Beat) (Ack, error) { return Ack{}, nil }}
		other := Path{"b", path.Send}
		fence := func(context.Context) error { return nil }
		for want, c := range map[string]GuardConfig{
			"ha: GuardConfig.Host is empty":                                       {Paths: []Path{path, other}, Fence: fence},
			"ha: GuardConfig.Paths is empty":                                      {Host: "h", Fence: fence},
			"ha: GuardConfig.Paths 1 must be at least 2, or SingleChannel true":   {Host: "h", Paths: []Path{path}, Fence: fence},
			"ha: GuardConfig.Fence is nil":                                        {Host: "h", Paths: []Path{path, other}},
			"ha: GuardConfig.Lease 3s must be at least twice the Interval 2s":     {Host: "h", Paths: []Path{path, other}, Fence: fence, Lease: 3 * time.Second},
			`ha: GuardConfig.Paths[1] "a" must have a name of its own and a Send`: {Host: "h", Paths: []Path{path, path}, Fence: fence},
			"ha: GuardConfig.Interval -1s must be positive":                       {Host: "h", Paths: []Path{path, other}, Fence: fence, Interval: -time.Second},
		} {
			if _, err := NewGuard(c); err == nil || err.Error() != want || !errors.Is(err, drover.ErrConfig) {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if _, err := NewGuard(GuardConfig{Host: "h", Paths: []Path{path}, SingleChannel: true, Fence: fence}); err != nil {
			t.Error(err)
		}
	})
}
