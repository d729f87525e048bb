package drover_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

func TestSpecRestart(t *testing.T) {
	bubble(t, "service-25 fails at once each time", func(t *testing.T) {
		var at []time.Time
		g := group()
		g.Add("f", drover.Func(func(context.Context) error {
			at = append(at, time.Now())
			return errBoom
		}), drover.Restart(nil))
		err := g.Run(t.Context())
		if !errors.Is(err, drover.ErrRestarts) || !errors.Is(err, errBoom) || !strings.HasPrefix(err.Error(), "drover: f: ") {
			t.Errorf("Run gave %v", err)
		}
		checkDelays(t, at, 1, 2, 4, 8, 16)
		if s := g.Status()[0]; s.Restarts != 5 || s.State != "stopped" || !errors.Is(s.Err, errBoom) {
			t.Errorf("status %+v", s)
		}
	})
	bubble(t, "service-25 healthy run forgets", func(t *testing.T) {
		var at []time.Time
		g := group()
		g.Add("f", drover.Func(func(context.Context) error {
			if at = append(at, time.Now()); len(at) == 4 {
				time.Sleep(time.Minute)
				at[3] = time.Now()
			}
			panic(errBoom)
		}), drover.Restart(nil))
		if err := g.Run(t.Context()); !errors.Is(err, drover.ErrRestarts) || !errors.Is(err, drover.ErrPanic) {
			t.Errorf("Run gave %v", err)
		}
		at[3] = at[3].Add(-time.Minute)
		checkDelays(t, at[:4], 1, 2, 4)
		at[3] = at[3].Add(time.Minute)
		checkDelays(t, at[3:], 1, 2, 4, 8, 16)
	})
	bubble(t, "service-25 permanent is final", func(t *testing.T) {
		runs, g := 0, group()
		g.Add("f", drover.Func(func(context.Context) error { runs++; return drover.Permanent(errBoom) }), drover.Restart(nil))
		if err := g.Run(t.Context()); !errors.Is(err, errBoom) || errors.Is(err, drover.ErrRestarts) || runs != 1 {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
	bubble(t, "service-25 nil is final", func(t *testing.T) {
		runs, g := 0, group()
		g.Add("f", drover.Func(func(context.Context) error { runs++; return nil }), drover.Restart(nil))
		if err := g.Run(t.Context()); err != nil || runs != 1 {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
	bubble(t, "service-25 other replicas go on", func(t *testing.T) {
		runs, g := [3]int{}, group()
		g.Replicate("w", 3, func(i int) drover.Component {
			return drover.Func(func(ctx context.Context) error {
				runs[i]++
				select {
				case <-ctx.Done():
				case <-time.After(time.Hour + time.Duration(i)*time.Hour):
				}
				if i == 0 && ctx.Err() == nil {
					return errBoom
				}
				return nil
			})
		}, drover.Restart(nil), drover.Background())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour-time.Minute)
		defer cancel()
		if err := g.Run(ctx); err != nil || runs != [3]int{3, 1, 1} {
			t.Errorf("runs %v, want 3 1 1: %v", runs, err)
		}
	})
	bubble(t, "service-25 own policies", func(t *testing.T) {
		for name, c := range map[string]struct {
			delay func() time.Duration
			want  []float64
		}{
			"func":    {stopAfter(3), []float64{7, 7, 7}},
			"Backoff": {drover.Backoff(drover.Policy{Initial: 2 * time.Second, Factor: 3, Max: 10 * time.Second, MaxFailures: 4}), []float64{2, 6, 10, 10}},
		} {
			var at []time.Time
			g := group()
			g.Add("f", drover.Func(func(context.Context) error { at = append(at, time.Now()); return errBoom }), drover.Restart(c.delay))
			if err := g.Run(t.Context()); !errors.Is(err, drover.ErrRestarts) {
				t.Errorf("%s: Run gave %v", name, err)
			}
			checkDelays(t, at, c.want...)
		}
	})
	bubble(t, "service-25 stop while waiting to restart", func(t *testing.T) {
		g := group()
		g.Add("f", drover.Func(func(context.Context) error { return errBoom }), drover.Restart(func() time.Duration { return time.Hour }))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := g.Run(ctx); err != nil || time.Since(start) != time.Second {
			t.Errorf("Run gave %v after %v", err, time.Since(start))
		}
	})
}

// stopAfter is a policy of n delays of 7 s.
func stopAfter(n int) func() time.Duration {
	return func() time.Duration {
		if n--; n < 0 {
			return -1
		}
		return 7 * time.Second
	}
}

func checkDelays(t *testing.T, at []time.Time, seconds ...float64) {
	t.Helper()
	if len(at) != len(seconds)+1 {
		t.Fatalf("%d runs, want %d", len(at), len(seconds)+1)
	}
	for i, want := range seconds {
		if d := at[i+1].Sub(at[i]).Seconds(); d < want*0.8 || d > want*1.2 {
			t.Errorf("delay %d is %v s, want %v s ± 20 %%", i, d, want)
		}
	}
}

func TestSpecPanic(t *testing.T) {
	isPanic := func(t *testing.T, err error, frame string) {
		t.Helper()
		var p *drover.PanicError
		if !errors.Is(err, drover.ErrPanic) || !errors.As(err, &p) || p.Value != "boom" || !strings.Contains(string(p.Stack), frame) {
			t.Errorf("Run gave %v", err)
		}
	}
	bubble(t, "service-27 in Run", func(t *testing.T) {
		g := group()
		g.Add("a", until(new(recorder), "a"))
		g.Add("p", drover.Func(func(context.Context) error { panics(); return nil }))
		isPanic(t, g.Run(t.Context()), "panics")
	})
	bubble(t, "service-27 in a goroutine of Env.Go", func(t *testing.T) {
		g := group()
		g.Add("p", drover.Func(func(ctx context.Context) error {
			done := make(chan struct{})
			quiet().For(ctx).Go("job/7", func() { defer close(done); panics() })
			<-ctx.Done()
			<-done
			return ctx.Err()
		}))
		err := g.Run(t.Context())
		isPanic(t, err, "panics")
		if !strings.Contains(err.Error(), "job/7") {
			t.Errorf("%v does not name the goroutine", err)
		}
	})
	bubble(t, "service-27 in a goroutine, restarted", func(t *testing.T) {
		runs, g := 0, group()
		g.Add("p", drover.Func(func(ctx context.Context) error {
			if runs++; runs == 1 {
				quiet().For(ctx).Go("x", panics)
			}
			if runs == 2 {
				return nil
			}
			<-ctx.Done()
			return nil
		}), drover.Restart(nil))
		if err := g.Run(t.Context()); err != nil || runs != 2 {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
	bubble(t, "service-27 Goexit", func(t *testing.T) {
		g := group()
		g.Add("p", drover.Func(func(context.Context) error { runtime.Goexit(); return nil }))
		if err := g.Run(t.Context()); !errors.Is(err, drover.ErrPanic) {
			t.Errorf("Run gave %v", err)
		}
	})
	bubble(t, "service-27 in Drain, Health and StopTimeout", func(t *testing.T) {
		g := group()
		g.Add("p", panicky{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, func() {
			if err := g.Drain(t.Context()); !errors.Is(err, drover.ErrPanic) || !strings.Contains(err.Error(), "drover: p: ") {
				t.Errorf("Drain gave %v", err)
			}
			if h := g.Health()[0]; h.State != "degraded" || !errors.Is(h.Err, drover.ErrPanic) {
				t.Errorf("Health gave %+v", h)
			}
			cancel()
		})
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func panics() { panic("boom") }

// panicky panics in every ability, and runs well.
type panicky struct{}

func (panicky) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (panicky) Drain(context.Context) error   { panic("boom") }
func (panicky) Health() drover.Health         { panic("boom") }
func (panicky) StopTimeout() time.Duration    { panic("boom") }

func TestGroupHealth(t *testing.T) {
	bubble(t, "in order, slow ones degraded", func(t *testing.T) {
		g, in := group(), new(drover.Group)
		slow := &reporter{delay: time.Second}
		in.Add("x", &reporter{})
		g.Add("slow", slow)
		g.Add("plain", until(new(recorder), "plain"))
		g.Add("in", in)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		start := time.Now()
		got := fmt.Sprint(names(g.Health()))
		if want := "[slow:degraded plain:ready in:ready in/x:ready]"; got != want || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%s after %v, want %s after 100ms", got, time.Since(start), want)
		}
		g.Health()
		if n := slow.asked.Load(); n != 1 {
			t.Errorf("asked %d times while hanging", n)
		}
		time.Sleep(time.Second)
		if s := g.Status(); len(s) != 4 || s[3].Name != "in/x" || s[3].Health.State != "ready" {
			t.Errorf("status %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

type reporter struct {
	drover.Func
	delay time.Duration
	asked atomic.Int32
}

func (r *reporter) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (r *reporter) Health() drover.Health {
	r.asked.Add(1)
	if r.delay > 0 {
		time.Sleep(r.delay)
	}
	return drover.Health{Name: "own", State: "ready"}
}

func names(hs []drover.Health) (s []string) {
	for _, h := range hs {
		s = append(s, h.Name+":"+h.State)
	}
	return s
}

// A Loop tells the Group when its next Step is due.
func TestStatusNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, due := group(), time.Now().Add(time.Minute)
		g.Add("l", drover.Func(func(ctx context.Context) error {
			return drover.Loop(ctx, quiet(), nil, stepFunc(func(context.Context) (time.Time, error) { return due, nil }))
		}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, func() {
			if s := g.Status()[0]; !s.Next.Equal(due) || s.State != "ready" {
				t.Errorf("status %+v, want next %v", s, due)
			}
			cancel()
		})
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
