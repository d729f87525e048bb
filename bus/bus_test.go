package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/internal/testkit/busrig"
	"github.com/drover-cloud/drover/ring"
)

func TestSpec(t *testing.T) {
	t.Run("bus-33 versions", versions)
	bubble(t, "bus-17 replies in reverse order", func(c *cluster) {
		a := c.start("a", nil)
		c.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			d, _ := time.ParseDuration(string(m.Body))
			sleep(d)
			return m.Body, nil
		}))
		var wg sync.WaitGroup
		for _, d := range []string{"2s", "1s"} {
			wg.Go(func() {
				if got, err := a.Call(context.Background(), msg("svc", d)); err != nil || string(got) != d {
					c.Errorf("%s: %q, %v", d, got, err)
				}
			})
		}
		wg.Wait()
	})
	bubble(t, "bus-21 a transport that hangs", func(c *cluster) {
		a := c.start("a", nil)
		c.start("b", nil, serving("svc", echo))
		a.wire.set(hang)
		began := time.Now()
		_, err := a.Call(context.Background(), msg("svc", ""), bus.Timeout(5*time.Second))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			c.Errorf("%v after %v", err, time.Since(began))
		}
		lone := bus.New((&memory.Hub{}).Open("x"), bus.Config{Env: drover.Env{Node: "x", Logger: slog.New(&busrig.Log{})}})
		began = time.Now()
		if _, err := lone.Call(context.Background(), msg("svc", ""), bus.Timeout(5*time.Second)); !errors.Is(err, bus.ErrNotSent) || time.Since(began) != 5*time.Second {
			c.Errorf("a bus that does not run: %v after %v", err, time.Since(began))
		}
	})
	bubble(t, "bus-24 one dead peer of ten", deadPeer)
	bubble(t, "bus-25 the circuit", circuit)
	bubble(t, "bus-29 a node crashes under load", func(c *cluster) {
		a := c.start("a", nil)
		c.start("b", nil, serving("svc", echo), serving("b", echo))
		dead := c.start("c", nil, serving("svc", silent), serving("c", silent))
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				began := time.Now()
				topic := []string{"svc", "b", "c"}[i%3]
				_, err := a.Call(context.Background(), msg(topic, "x"), bus.Timeout(3*time.Second))
				if topic == "b" && err != nil || time.Since(began) > 3*time.Second {
					c.Errorf("%s: %v after %v", topic, err, time.Since(began))
				}
			})
		}
		synctest.Wait()
		dead.wire.set(func(context.Context, *bus.Message, func(context.Context, *bus.Message) error) error { return nil })
		wg.Wait()
	})
	bubble(t, "bus-31 the duplicate window", func(c *cluster) {
		var runs atomic.Int32
		a := c.start("a", nil)
		b := c.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			if m.ID == "same" {
				runs.Add(1)
			}
			return nil, nil
		}))
		send := func(id string) {
			if err := a.Cast(context.Background(), &bus.Message{ID: id, Topic: "svc"}); err != nil {
				c.Fatal(err)
			}
		}
		send("same")
		for i := range 10_001 {
			if send(""); i%500 == 0 {
				synctest.Wait()
			}
		}
		send("same")
		synctest.Wait()
		if runs.Load() != 1 || b.Stats().Duplicates != 1 {
			c.Errorf("%d runs within 10 minutes, %+v", runs.Load(), b.Stats())
		}
		sleep(10*time.Minute + time.Second)
		send("")
		send("same")
		synctest.Wait()
		if runs.Load() != 2 {
			c.Errorf("%d runs after 10 minutes and 10 000 others", runs.Load())
		}
	})
	bubble(t, "bus-36 a heartbeat fails", func(c *cluster) {
		var beats atomic.Int32
		a := c.start("a", nil)
		b := c.start("b", nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			sleep(10 * time.Second)
			return []byte("done"), nil
		}))
		b.wire.set(func(ctx context.Context, m *bus.Message, next func(context.Context, *bus.Message) error) error {
			if m.Wire.Kind == bus.KindAccepted || m.Wire.Kind == bus.KindBeat {
				beats.Add(1)
				return bus.ErrNotSent
			}
			return next(ctx, m)
		})
		got, err := a.Call(context.Background(), msg("svc", ""), bus.Monitor(2*time.Second))
		if string(got) != "done" || err != nil || beats.Load() != 1 {
			c.Errorf("%q, %v after %d beats", got, err, beats.Load())
		}
	})
	bubble(t, "bus-35 a monitored node dies", func(c *cluster) {
		var mu sync.Mutex
		var at []time.Duration
		began := time.Now()
		a := c.start("a", nil)
		b := c.start("b", nil, serving("svc", silent))
		b.wire.set(func(ctx context.Context, m *bus.Message, next func(context.Context, *bus.Message) error) error {
			mu.Lock()
			at = append(at, time.Since(began))
			mu.Unlock()
			if time.Since(began) > 5*time.Second {
				return nil // dead
			}
			return next(ctx, m)
		})
		_, err := a.Call(context.Background(), msg("svc", ""), bus.Timeout(100*time.Second), bus.Monitor(2*time.Second))
		if d := time.Since(began); !errors.Is(err, bus.ErrNodeLost) || d > 7100*time.Millisecond {
			c.Errorf("%v after %v", err, d)
		}
		mu.Lock()
		defer mu.Unlock()
		for i := range min(5, len(at)) {
			if d := at[i] - time.Duration(i+1)*time.Second; d < -100*time.Millisecond || d > 100*time.Millisecond {
				c.Errorf("beats at %v", at)
			}
		}
	})
	bubble(t, "bus-48 clocks differ", clocks)
	bubble(t, "bus-64 a caller out of reach", func(c *cluster) {
		a, ok := c.start("a", nil), c.start("ok", nil)
		b := c.start("b", func(cfg *bus.Config) { cfg.Workers, cfg.Queue = 3000, 3000 }, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
			sleep(time.Second)
			return m.Body, nil
		}))
		b.wire.set(func(ctx context.Context, m *bus.Message, next func(context.Context, *bus.Message) error) error {
			if m.Node == "a" {
				return hang(ctx, m, next)
			}
			return next(ctx, m)
		})
		var wg sync.WaitGroup
		for i := range 2000 {
			if i%500 == 0 { // not more at once than a lane holds
				synctest.Wait()
			}
			wg.Go(func() {
				if _, err := a.Call(context.Background(), msg("svc", fmt.Sprint(i)), bus.Timeout(30*time.Second)); !errors.Is(err, bus.ErrTimeout) {
					c.Errorf("call %d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		sleep(2 * time.Second)
		began := time.Now()
		if _, err := ok.Call(context.Background(), msg("svc", "x")); err != nil || time.Since(began) != time.Second {
			c.Errorf("another caller: %v after %v", err, time.Since(began))
		}
		if s := b.Stats(); s.Dropped+1024 < 2000-1 {
			c.Errorf("%+v", s)
		}
		wg.Wait()
	})
	bubble(t, "bus-89 a false name", func(c *cluster) {
		c.start("b", nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			c.Error("it ran")
			return nil, nil
		}))
		m := msg("svc", "")
		m.ID, m.Method, m.Wire = "1", "handle", bus.Wire{From: "a", Kind: bus.KindCast}
		if err := c.hub.Open("evil").Send(context.Background(), m); !errors.Is(err, bus.ErrInvalid) {
			c.Errorf("sent in the name of another: %v", err)
		}
		synctest.Wait()
	})
	bubble(t, "bus-22 late and forged replies", func(c *cluster) {
		a := c.start("a", nil)
		c.start("b", nil, serving("svc", silent))
		_, err := a.Call(context.Background(), &bus.Message{ID: "1", Topic: "svc"}, bus.Timeout(time.Second))
		if !errors.Is(err, bus.ErrTimeout) {
			c.Fatal(err)
		}
		forge := func(from, id string) {
			m := &bus.Message{ID: id, Topic: "svc", Node: "a", Body: []byte("forged"), Wire: bus.Wire{Kind: bus.KindReply, From: from, Inc: 7, To: a.Incarnation()}}
			_ = c.hub.Open(from).Send(context.Background(), m)
		}
		forge("b", "1")
		if n := a.Stats().LateReplies; n != 1 {
			c.Errorf("%d late replies", n)
		}
		go func() {
			_, err := a.Call(context.Background(), &bus.Message{ID: "2", Topic: "svc", Node: "b"}, bus.Timeout(time.Second))
			if !errors.Is(err, bus.ErrTimeout) {
				c.Errorf("a forged reply was taken: %v", err)
			}
		}()
		synctest.Wait()
		forge("evil", "2")
		sleep(2 * time.Second)
		if n := a.Stats().Forged; n != 1 {
			c.Errorf("%d forged replies", n)
		}
	})
	bubble(t, "ring-13 who is unknown keeps its keys", ringed)
	t.Run("bus-90 faults", faults)
}

func versions(t *testing.T) {
	for _, c := range []struct {
		impl, req string
		want      bool
	}{
		{"1.23", "1.23", true}, {"1.24", "1.23", true}, {"1.22", "1.23", false}, {"2.23", "1.23", false}, {"1.23", "2.23", false},
		{"1.23", "1.23.1", false}, {"1.23.1", "1.23.2", false}, {"1.23.2", "1.23.1", true}, {"1.24", "1.23.1", true}, {"1.23.0", "1.23", true},
	} {
		if got, err := bus.Compatible(c.impl, c.req); got != c.want || err != nil {
			t.Errorf("%s serves %s: %v, %v", c.impl, c.req, got, err)
		}
	}
	for _, bad := range []string{"5", "5.a", "5.5.a", "1.2.3.4", "-1.0", "1."} {
		if _, err := bus.Compatible("1.0", bad); !errors.Is(err, bus.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// deadPeer: nine peers keep their rate while the tenth swallows everything.
func deadPeer(c *cluster) {
	a := c.start("a", nil)
	for i := range 10 {
		c.start(fmt.Sprint("n", i), nil, serving("svc", func(context.Context, *bus.Message) ([]byte, error) {
			sleep(10 * time.Millisecond)
			return nil, nil
		}))
	}
	load := func() (n int64, worst time.Duration) {
		var done, slow atomic.Int64
		var wg sync.WaitGroup
		end := time.Now().Add(5 * time.Second)
		for i := range 10 {
			for range 20 {
				wg.Go(func() {
					for time.Now().Before(end) {
						began := time.Now()
						_, err := a.Call(context.Background(), &bus.Message{Topic: "svc", Node: fmt.Sprint("n", i)}, bus.Timeout(2*time.Second))
						d := time.Since(began)
						switch {
						case i > 0 && err != nil:
							c.Errorf("n%d: %v", i, err)
						case i > 0:
							done.Add(1)
							slow.Store(max(slow.Load(), int64(d)))
						case err != nil:
							sleep(time.Millisecond)
						}
					}
				})
			}
		}
		wg.Wait()
		return done.Load(), time.Duration(slow.Load())
	}
	base, before := load()
	a.wire.set(func(ctx context.Context, m *bus.Message, next func(context.Context, *bus.Message) error) error {
		if m.Node == "n0" {
			return hang(ctx, m, next)
		}
		return next(ctx, m)
	})
	with, after := load()
	if with < base*95/100 || after > before*12/10+time.Millisecond {
		c.Errorf("%d calls to nine peers with a dead tenth, %d without; the slowest %v and %v", with, base, after, before)
	}
	sleep(10 * time.Second)
	for range 2000 { // full or open: told at once
		began := time.Now()
		err := a.Cast(context.Background(), &bus.Message{Topic: "svc", Node: "n0"}, bus.Timeout(time.Second))
		if err == nil || time.Since(began) > time.Second {
			c.Fatalf("%v after %v", err, time.Since(began))
		}
		if time.Since(began) < 10*time.Millisecond && (errors.Is(err, bus.ErrNotSent) || errors.Is(err, bus.ErrBusy)) {
			return
		}
	}
	c.Error("a dead peer is never told at once")
}

func circuit(c *cluster) {
	var mu sync.Mutex
	var probes []time.Time
	a := c.start("a", nil)
	c.start("b", nil, serving("svc", echo))
	a.wire.set(func(_ context.Context, m *bus.Message, _ func(context.Context, *bus.Message) error) error {
		if m.Wire.Kind == bus.KindProbe {
			mu.Lock()
			probes = append(probes, time.Now())
			mu.Unlock()
		}
		return bus.ErrNotSent
	})
	call := func() error {
		return errOf(a.Call(context.Background(), &bus.Message{Topic: "svc", Node: "b"}))
	}
	for range 5 {
		if err := call(); !errors.Is(err, bus.ErrNotSent) {
			c.Fatal(err)
		}
	}
	synctest.Wait()
	last := time.Now()
	if err := call(); !errors.Is(err, bus.ErrNotSent) || len(a.Peers()) == 0 || !a.Peers()[0].Open {
		c.Fatalf("%v, %+v", err, a.Peers())
	}
	sleep(60 * time.Second)
	_ = call()
	want := 100 * time.Millisecond
	mu.Lock()
	for i, at := range probes {
		if d := at.Sub(last); d < want/2 || d > want*3/2 {
			c.Errorf("probe %d after %v, want %v ± 50 %%", i, d, want)
		}
		last = at
		want = min(want*2, 10*time.Second)
	}
	if len(probes) < 8 {
		c.Errorf("%d probes in a minute", len(probes))
	}
	mu.Unlock()
	a.wire.set(nil)
	began := time.Now()
	for call() != nil && time.Since(began) < 20*time.Second {
		sleep(100 * time.Millisecond)
	}
	if d := time.Since(began); d > 15100*time.Millisecond {
		c.Errorf("open for %v after the peer was back", d)
	}
	if err := call(); err != nil {
		c.Error(err)
	}
}

// skewed is a clock that is off and runs at another rate.
type skewed struct {
	start  time.Time
	mu     sync.Mutex
	offset time.Duration
	rate   float64
}

func (s *skewed) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start.Round(0).Add(time.Duration(float64(time.Since(s.start)) * s.rate)).Add(s.offset)
}

func (s *skewed) After(d time.Duration) <-chan time.Time {
	return time.After(time.Duration(float64(d) / s.rate))
}

func clocks(c *cluster) {
	for i, s := range []*skewed{{offset: time.Hour, rate: 1}, {offset: -time.Hour, rate: 1}, {rate: 1.1}, {rate: 0.9}} {
		s.start = time.Now()
		a := c.start(fmt.Sprint("a", i), func(cfg *bus.Config) { cfg.Env.Clock = s })
		topic := fmt.Sprint("svc", i)
		c.start(fmt.Sprint("b", i), nil, serving(topic, func(ctx context.Context, m *bus.Message) ([]byte, error) {
			d, ok := ctx.Deadline()
			if left := time.Until(d); !ok || left > 5700*time.Millisecond || left < 4400*time.Millisecond {
				c.Errorf("clock %d: %v left of 5 s", i, left)
			}
			return nil, nil
		}))
		for k := range 300 {
			if _, err := a.Call(context.Background(), msg(topic, ""), bus.Timeout(5*time.Second)); err != nil {
				c.Fatalf("clock %d, call %d: %v", i, k, err)
			}
			if k == 150 {
				s.mu.Lock()
				s.offset += 5 * time.Minute
				s.mu.Unlock()
			}
			sleep(time.Second)
		}
	}
}

func ringed(c *cluster) {
	up, unknown := []bus.Peer{{Node: "a"}, {Node: "b"}, {Node: "c"}}, []bus.Peer(nil)
	m := bus.Ringed(func() (_, _ []bus.Peer) { return up, unknown }, func(func()) func() { return func() {} })
	first := m.View()
	up, unknown = up[:2], []bus.Peer{{Node: "c"}}
	if v := m.View(); v.Ring.Fingerprint() != first.Ring.Fingerprint() || len(v.Up) != 2 || v.Epoch != 0 {
		c.Errorf("an unknown member moved keys: %+v", v)
	}
	unknown = nil
	v := m.View()
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	moved := first.Ring.Moved(v.Ring, keys...)
	for k := range moved {
		if o, _ := first.Ring.Owner(k); o != "c" {
			c.Fatalf("%s moved from %s", k, o)
		}
	}
	if len(moved) == 0 || v.Ring.Fingerprint() == first.Ring.Fingerprint() {
		c.Error("a member that is down keeps its keys")
	}
	if other := ring.New([]string{"b", "a"}); other.Fingerprint() != v.Ring.Fingerprint() {
		c.Error("two nodes that saw changes in another order have other rings")
	}
}

// faults: messages are lost, repeated, late and out of order, replies too; every call ends in time, nothing runs twice.
func faults(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 20
	}
	run := func(t *testing.T, seed uint64) (trace []string) {
		synctest.Test(t, func(t *testing.T) {
			c := &cluster{TB: t}
			rnd := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex
			runs := map[string]int{}
			bend := func(ctx context.Context, m *bus.Message, next func(context.Context, *bus.Message) error) error {
				mu.Lock()
				drop, dup, late := rnd.IntN(10) == 0, rnd.IntN(10) == 0, rnd.IntN(5) == 0
				d := time.Duration(rnd.Int64N(int64(3 * time.Second)))
				mu.Unlock()
				if late {
					m = m.Clone()
					time.AfterFunc(d, func() { _ = next(context.Background(), m) })
					return nil
				}
				if dup {
					_ = next(ctx, m.Clone())
				}
				if drop {
					return nil
				}
				return next(ctx, m)
			}
			a := c.start("a", nil)
			b := c.start("b", nil, serving("svc", func(_ context.Context, m *bus.Message) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if runs[m.ID]++; runs[m.ID] > 1 {
					c.Errorf("%s ran twice", m.ID)
				}
				return m.Body, nil
			}))
			a.wire.set(bend)
			b.wire.set(bend)
			for i := range 30 {
				began := time.Now()
				got, err := a.Call(context.Background(), &bus.Message{ID: fmt.Sprint(i), Topic: "svc", Body: []byte(fmt.Sprint(i))}, bus.Timeout(2*time.Second))
				if d := time.Since(began); d > 2*time.Second || err == nil && string(got) != fmt.Sprint(i) || err != nil && !errors.Is(err, bus.ErrTimeout) {
					c.Errorf("call %d: %q, %v after %v", i, got, err, d)
				}
				trace = append(trace, fmt.Sprint(i, err == nil, time.Since(began)))
			}
			sleep(5 * time.Second)
		})
		return trace
	}
	for seed := range uint64(seeds) {
		first := run(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if seed < 5 && !slices.Equal(first, run(t, seed)) {
			t.Fatalf("seed %d has two traces", seed)
		}
	}
}
