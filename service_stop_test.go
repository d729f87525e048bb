package drover_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

func TestSpecServiceStop(t *testing.T) {
	t.Run("service-11 Ready polled by 100 goroutines", func(t *testing.T) {
		for seed := range uint64(10) {
			synctest.Test(t, func(t *testing.T) { testReadySpan(t, seed) })
		}
	})
	bubble(t, "service-18 Close and Shutdown before Run", func(t *testing.T) {
		for i := range 2 {
			r := new(recorder)
			s := traced(r)
			if i == 0 {
				_ = s.Close()
			}
			if err := errors.Join(s.Shutdown(t.Context()), s.Run(t.Context()), s.Close()); err != nil || s.State() != "stopped" {
				t.Error(s.State(), err)
			}
			r.check(t)
			if err := s.Run(t.Context()); err != drover.ErrUsed {
				t.Error(err)
			}
		}
	})
	t.Run("service-18 every order of calls", func(t *testing.T) {
		for seed := range uint64(200) {
			synctest.Test(t, func(t *testing.T) { testManyStops(t, seed) })
		}
	})
	bubble(t, "service-18 from a component, its goroutine and a hook", testStopFromInside)
	bubble(t, "service-18 during the start", func(t *testing.T) {
		for _, at := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 2500 * time.Millisecond} {
			r := new(recorder)
			s := traced(r)
			slow := func(name string) func(ctx context.Context) error {
				return func(ctx context.Context) error {
					r.add("%s", name)
					select {
					case <-time.After(time.Second):
					case <-ctx.Done():
						return ctx.Err()
					}
					return nil
				}
			}
			s.PreStart, s.PostStart = slow("PreStart"), slow("PostStart")
			end := runs(t, s)
			settled(at)
			start := time.Now()
			if err := errors.Join(s.Close(), end()); err != nil {
				t.Errorf("at %v: %v", at, err)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("at %v: took %v", at, d)
			}
			if r.events[len(r.events)-1] != "Stop" || s.State() != "stopped" {
				t.Errorf("at %v: %q %s", at, r.events, s.State())
			}
		}
	})
	bubble(t, "service-43 ctx already done", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errBoom)
		s := traced(new(recorder))
		end := runs(t, s)
		settled(2 * time.Second)
		if err := s.Shutdown(ctx); err != errBoom || s.State() != "running" {
			t.Error(s.State(), err)
		}
		if err := s.Reload(ctx); err != errBoom {
			t.Error(err)
		}
		_ = s.Close()
		_ = end()
	})
	bubble(t, "service-19 a failing component stops the service", func(t *testing.T) {
		r := new(recorder)
		s := &drover.Service{Env: quiet(), Drain: func(context.Context) error { r.add("Drain"); return nil }}
		s.Components.Add("a", newAnnouncer(r, "a"))
		s.Components.Add("b", after(5*time.Second, errBoom))
		if err := s.Run(t.Context()); !errors.Is(err, errBoom) || err.Error() != "drover: b: boom" || s.State() != "failed" {
			t.Error(err)
		}
		r.check(t, "start a", "ready a", "announce true", "announce false", "stop a")
	})
	bubble(t, "service-20 Close is fast, Shutdown drains", func(t *testing.T) {
		for _, drain := range []bool{false, true} {
			s := &drover.Service{Env: quiet()}
			s.Components.Add("w", worker{make(chan struct{})})
			end, start := runs(t, s), time.Now()
			settled(0)
			if drain {
				_ = s.Shutdown(t.Context())
			} else {
				_ = s.Close()
			}
			if err, d := end(), time.Since(start); err != nil || !drain && d != 0 || drain && d != time.Second {
				t.Errorf("drain %v: %v after %v", drain, err, d)
			}
		}
	})
	bubble(t, "service-21 StopTimeout of the Service", func(t *testing.T) {
		release := make(chan struct{})
		s := &drover.Service{Env: quiet(), StopTimeout: 2 * time.Second}
		s.Components.Add("deaf", drover.Func(func(context.Context) error { ignoreCtx(release); return nil }))
		end, start := runs(t, s), time.Now()
		settled(0)
		if err := s.Close(); !errors.Is(err, drover.ErrStuck) || end() != err || time.Since(start) != 2*time.Second || drover.ExitCode(err) != 2 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		close(release)
	})
}

func testReadySpan(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	var open, closed atomic.Bool // PostStart is done; a stop was asked for
	var wrong, seen atomic.Int32
	pause := time.Duration(rng.IntN(3)) * time.Millisecond
	s := &drover.Service{Env: quiet(), PostStart: func(context.Context) error {
		time.Sleep(pause)
		open.Store(true)
		return nil
	}}
	s.Components.Add("a", newAnnouncer(new(recorder), "a"))
	s.Components.Add("r", &reporter{})
	ctx, cancel := context.WithCancel(t.Context())
	end := runsIn(ctx, s)
	over := make(chan struct{})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for {
				before := closed.Load()
				if s.Ready() {
					seen.Add(1)
					if before || !open.Load() {
						wrong.Add(1)
					}
				}
				select {
				case <-over:
					return
				case <-time.After(3 * time.Millisecond):
				}
			}
		})
	}
	time.Sleep(time.Second + time.Duration(rng.IntN(10))*time.Millisecond)
	stop := []func(){cancel, func() { _ = s.Close() }, func() { _ = s.Shutdown(t.Context()) }}[rng.IntN(3)]
	if rng.IntN(2) == 0 {
		cancel()
		closed.Store(true)
	}
	stop()
	closed.Store(true)
	err := end()
	time.Sleep(5 * time.Millisecond)
	close(over)
	wg.Wait()
	cancel()
	if err != nil || wrong.Load() != 0 {
		t.Errorf("seed %d: %d of %d ready at a wrong time; %v", seed, wrong.Load(), seen.Load(), err)
	}
}

func testManyStops(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 18))
	r := new(recorder)
	s := traced(r)
	ctx, cancel := context.WithCancel(t.Context())
	end := runsIn(ctx, s)
	settled(0)
	var wg sync.WaitGroup
	for range 10 {
		delay, kind := time.Duration(rng.IntN(4))*time.Second, rng.IntN(5)
		wg.Go(func() {
			time.Sleep(delay)
			switch kind {
			case 0:
				_ = s.Close()
			case 1:
				cancel()
			default:
				_ = s.Shutdown(t.Context())
			}
			if kind != 1 && s.State() != "stopped" {
				t.Errorf("seed %d: returned while %s", seed, s.State())
			}
		})
	}
	err := end()
	wg.Wait()
	cancel()
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	count := map[string]int{}
	for _, e := range r.events {
		if count[e]++; count[e] > 1 {
			t.Errorf("seed %d: %q twice: %q", seed, e, r.events)
		}
	}
	if n := len(r.events); n > 0 && r.events[n-1] != "Stop" {
		t.Errorf("seed %d: %q", seed, r.events)
	}
}

// asker calls f on its service when it drains.
type asker struct {
	drover.Func
	f func(ctx context.Context) error
}

func (a asker) Drain(ctx context.Context) error { return a.f(ctx) }

func testStopFromInside(t *testing.T) {
	for _, close := range []bool{false, true} {
		for _, where := range []string{"run", "goroutine", "PostStart", "PreStart", "Drain", "Stop", "drainer"} {
			s := &drover.Service{Env: quiet()}
			var took time.Duration
			ask := func(ctx context.Context) error {
				begun := time.Now()
				defer func() { took = time.Since(begun) }()
				if close {
					return s.Close()
				}
				return s.Shutdown(ctx)
			}
			switch where {
			case "PreStart":
				s.PreStart = ask
			case "PostStart":
				s.PostStart = ask
			case "Drain":
				s.Drain = ask
			case "Stop":
				s.Stop = ask
			}
			s.Components.Add("c", asker{func(ctx context.Context) error {
				done := make(chan struct{})
				if where == "goroutine" {
					quiet().For(ctx).Go("g", func() { defer func() { done <- struct{}{} }(); ask(ctx) })
					<-done
				}
				if where == "run" {
					ask(ctx)
				}
				<-ctx.Done()
				return nil
			}, func(ctx context.Context) error {
				if where == "drainer" {
					ask(ctx)
				}
				return nil
			}})
			end, start := runs(t, s), time.Now()
			settled(time.Second)
			if where == "Drain" || where == "Stop" || where == "drainer" {
				_ = s.Shutdown(t.Context())
			}
			if err := end(); err != nil || took != 0 || time.Since(start) > time.Second {
				t.Errorf("%s, close %v: %v, call took %v, all %v", where, close, err, took, time.Since(start))
			}
		}
	}
}

// inHand is a component with work in hand that Drain waits for.
type inHand struct {
	drover.Func
	mu   sync.Mutex
	work []drover.Inflight
	gone chan struct{}
}

func newInHand(work ...drover.Inflight) *inHand {
	return &inHand{work: work, gone: make(chan struct{}), Func: func(ctx context.Context) error { <-ctx.Done(); return nil }}
}

func (h *inHand) Inflight() []drover.Inflight { h.mu.Lock(); defer h.mu.Unlock(); return h.work }
func (h *inHand) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.work = nil
	close(h.gone)
}
func (h *inHand) Drain(ctx context.Context) error {
	select {
	case <-h.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("in hand: %w", ctx.Err())
	}
}
