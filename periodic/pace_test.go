package periodic_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/periodic"
)

func TestDecorators(t *testing.T) {
	t.Parallel()
	hang := func(l *live, n *int) periodic.Func {
		return func(ctx context.Context) error {
			*n++
			l.started("hang")
			<-ctx.Done()
			return ctx.Err()
		}
	}
	thrice := func() backoff.BackOff { return backoff.WithMaxRetries(&backoff.ZeroBackOff{}, 2) }
	for name, f := range map[string]func(l *live){
		"periodic-28 Timeout inside Retry": func(l *live) {
			n := 0
			l.add(periodic.Every(time.Minute, "a", hang(l, &n), exact, periodic.Retry(thrice), periodic.Timeout(5*time.Second)))
			l.run()
			l.till(90 * time.Second)
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "attempts", n, 3)
			same(l.t, "took", st.Took, 15*time.Second)
			same(l.t, "error", errors.Is(st.Err, periodic.ErrTimeout), true)
		},
		"periodic-28 Timeout outside Retry": func(l *live) {
			n := 0
			l.add(periodic.Every(time.Minute, "a", hang(l, &n), exact, periodic.Timeout(5*time.Second), periodic.Retry(thrice)))
			l.run()
			l.till(90 * time.Second)
			same(l.t, "attempts", n, 1)
			same(l.t, "took", statusOf(l.t, l.Set, "a").Took, 5*time.Second)
		},
		"periodic-29 a host's decorator": func(l *live) {
			var order []string
			mark := func(name string) periodic.Decorator {
				return func(t periodic.Task) periodic.Task {
					next := t.Do
					t.Do = func(ctx context.Context) error {
						order = append(order, name)
						return next(ctx)
					}
					return t
				}
			}
			l.Use = []periodic.Decorator{mark("Use")}
			l.add(periodic.Every(time.Minute, "a", func(context.Context) error { order = append(order, "f"); return nil }, mark("A"), mark("B"), exact,
				periodic.Limit(time.Second), periodic.Limit(time.Hour)))
			l.run()
			l.till(61 * time.Second)
			list(l.t, "order", order, "Use", "A", "B", "f")
		},
		"periodic-37 Adaptive with a ceiling": func(l *live) {
			idle := secs(11, 1, -1)
			l.add(periodic.Adaptive("a", func(context.Context) (time.Duration, error) {
				l.started("a")
				d := idle[0]
				idle = append(idle[1:], -1)
				return d, nil
			}, exact, periodic.Ceiling(5*time.Second)), periodic.Adaptive("b", func(context.Context) (time.Duration, error) {
				l.started("b")
				return -1, nil
			}, exact), periodic.Every(time.Hour, "c", nil, exact, periodic.Dynamic(func(context.Context) (time.Duration, error) {
				l.started("c")
				return 0, nil
			}), periodic.Limit(time.Second)))
			l.run()
			l.till(5 * time.Millisecond)
			same(l.t, "idle 0 is 1 ms, at the loop's grain", len(l.at("c")) >= 3 && len(l.at("c")) <= 6, true)
			same(l.t, "Remove", l.Remove("c"), nil)
			l.till(61 * time.Second)
			list(l.t, "ceiling", l.at("a")[:4], secs(0, 5, 6, 11)...)
			list(l.t, "negative", l.at("b"), secs(0, 60)...)
		},
		"periodic-38 Adaptive that fails": func(l *live) {
			l.add(periodic.Adaptive("a", func(context.Context) (time.Duration, error) { l.started("a"); return 0, errors.New("no") }, exact))
			l.run()
			l.till(100 * time.Second)
			list(l.t, "runs", l.at("a"), secs(0, 1, 3, 7, 15, 31, 63)...)
		},
		"periodic-39 Backoff": func(l *live) {
			sleeps := []float64{1.6, 2.4, 3.6, 5.4, 8.1, 12.15, 18.225, 27.3375, 41.00625, 61.509375, 92.2640625}
			p := periodic.Policy{Initial: 1600 * time.Millisecond, Factor: 1.5, Max: 300 * time.Second, Budget: 300 * time.Second, Jitter: -1}
			capped := p
			capped.Max = 60 * time.Second
			never := func(name string) func(context.Context) (bool, error) {
				return func(context.Context) (bool, error) { l.started(name); return false, nil }
			}
			n := 0
			l.add(periodic.Backoff("a", p.New, never("a"), exact), periodic.Backoff("b", capped.New, never("b"), exact),
				periodic.Backoff("c", periodic.Policy{Jitter: -1}.New, func(context.Context) (bool, error) {
					l.started("c")
					if n++; n > 3 {
						return false, periodic.Done
					}
					return true, nil
				}, exact))
			l.run()
			l.till(20 * time.Minute)
			list(l.t, "no progress", gaps(l.at("a")), secs(sleeps...)...)
			end := l.at("a")[11]
			same(l.t, "the last try", end.Round(time.Millisecond), 273592*time.Millisecond)
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "error", st.Err, periodic.ErrBudget)
			same(l.t, "state", st.State, "finished")
			list(l.t, "max 60 s", gaps(l.at("b")), secs(append(sleeps[:9:9], 60, 60, 60)...)...)
			list(l.t, "progress", gaps(l.at("c")), secs(1, 1, 1)...)
			same(l.t, "Done", statusOf(l.t, l.Set, "c").Err, nil)
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); bubble(t, f) })
	}
	t.Run("periodic-40 Retry", func(t *testing.T) {
		t.Parallel()
		listed, other := errors.New("listed"), errors.New("other")
		policy := periodic.Policy{Initial: time.Millisecond, Retries: 2}.New
		for _, c := range []struct {
			name  string
			errs  []error
			calls int
			want  error
		}{
			{"two errors, then well", []error{listed, listed, nil}, 3, nil},
			{"out of retries", []error{listed, listed, fmt.Errorf("third: %w", listed), nil}, 3, listed},
			{"not listed", []error{other, nil}, 1, other},
			{"Permanent", []error{backoff.Permanent(listed), nil}, 1, listed},
			{"drover.Permanent", []error{drover.Permanent(listed), nil}, 1, listed},
		} {
			synctest.Test(t, func(t *testing.T) {
				s := &periodic.Set{Env: drover.Env{Logger: quiet}}
				var calls atomic.Int32
				if err := s.Every(time.Minute, "a", func(ctx context.Context) error {
					n := int(calls.Add(1))
					if got := periodic.RunOf(ctx).Attempt; got != n {
						t.Errorf("%s: attempt %d, want %d", c.name, got, n)
					}
					return c.errs[n-1]
				}, periodic.Retry(policy, listed)); err != nil {
					t.Fatal(err)
				}
				err := s.RunOnce(t.Context(), "a")
				same(t, c.name+": calls", int(calls.Load()), c.calls)
				same(t, c.name+": error", errors.Is(err, c.want), true)
			})
		}
		synctest.Test(t, func(t *testing.T) { // a budget per run, also of runs at once
			s := &periodic.Set{Env: drover.Env{Logger: quiet}}
			var calls atomic.Int32
			if err := s.Every(time.Minute, "a", func(context.Context) error { calls.Add(1); return listed }, periodic.Retry(policy)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			for range 4 {
				go func() { done <- errors.Join(s.RunOnce(t.Context(), "a"), s.RunOnce(t.Context(), "a")) }()
			}
			for range 4 {
				<-done
			}
			same(t, "calls", calls.Load(), 4*2*3)
		})
	})
	t.Run("periodic-41 Linear", func(t *testing.T) {
		b := periodic.Linear(10*time.Second, time.Minute)()
		var ds []time.Duration
		for range 7 {
			ds = append(ds, b.NextBackOff())
		}
		list(t, "delays", ds, secs(10, 20, 30, 40, 50, 60, 60)...)
		b.Reset()
		same(t, "Reset", b.NextBackOff(), 10*time.Second)
	})
}

func gaps(at []time.Duration) (ds []time.Duration) {
	for i := 1; i < len(at); i++ {
		ds = append(ds, at[i]-at[i-1])
	}
	return ds
}

func TestUntil(t *testing.T) {
	t.Parallel()
	until := func(t *testing.T, s periodic.Schedule, f func(ctx context.Context, n int) (any, bool, error)) (any, []time.Duration, error) {
		start, n := time.Now(), 0
		var at []time.Duration
		v, err := periodic.Until(t.Context(), drover.Env{Logger: quiet}, s, func(ctx context.Context) (any, bool, error) {
			at = append(at, time.Since(start))
			n++
			return f(ctx, n)
		})
		return v, at, err
	}
	in := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { t.Parallel(); synctest.Test(t, f) })
	}
	bad := errors.New("bad")
	in("periodic-32 done at once", func(t *testing.T) {
		for _, want := range []any{true, false, 42} {
			v, at, err := until(t, periodic.Grid(time.Hour), func(context.Context, int) (any, bool, error) { return want, true, nil })
			same(t, "value", v, want)
			same(t, "error", err, nil)
			list(t, "calls", at, 0)
		}
		_, at, err := until(t, periodic.Delay(time.Hour), func(context.Context, int) (any, bool, error) { return nil, false, bad })
		same(t, "error", err, bad)
		list(t, "calls", at, 0)
		_, _, err = until(t, periodic.Grid(0), nil)
		same(t, "bad schedule", errors.Is(err, periodic.ErrSchedule), true)
	})
	in("periodic-33 the end of ctx", func(t *testing.T) {
		for _, block := range []bool{false, true} {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := periodic.Until(ctx, drover.Env{Logger: quiet}, periodic.Grid(100*time.Millisecond), func(ctx context.Context) (int, bool, error) {
				if block {
					<-ctx.Done()
				}
				return 0, false, nil
			})
			cancel()
			same(t, "error", errors.Is(err, context.DeadlineExceeded), true)
			same(t, "at", time.Since(start), 300*time.Millisecond)
		}
	})
	in("periodic-34 Continue", func(t *testing.T) {
		s := periodic.Continue(5, periodic.Delay(time.Second))
		v, at, err := until(t, s, func(_ context.Context, n int) (any, bool, error) {
			if n <= 2 {
				return nil, false, bad
			}
			return false, true, nil
		})
		same(t, "value", v, any(false))
		same(t, "error", err, nil)
		list(t, "calls", at, secs(0, 1, 2)...)
		_, at, err = until(t, s, func(_ context.Context, n int) (any, bool, error) { return nil, false, fmt.Errorf("no %d", n) })
		same(t, "error", fmt.Sprint(err), "no 6")
		same(t, "calls", len(at), 6)
		_, at, _ = until(t, s, func(_ context.Context, n int) (any, bool, error) {
			if n%6 == 0 {
				return nil, n == 18, nil
			}
			return nil, false, bad
		})
		same(t, "errors in a row", len(at), 18)
	})
	in("periodic-35 calls that outlast the grid", func(t *testing.T) {
		bubbled := &live{t: t, start: time.Now(), starts: map[string][]time.Duration{}}
		costs := secs(0.99, 2, 1.01, 0)
		env := drover.Env{Logger: newLogger(bubbled)}
		var ends, starts []time.Duration
		n := 0
		_, err := periodic.Until(t.Context(), env, periodic.Grid(1010*time.Millisecond), func(context.Context) (int, bool, error) {
			starts = append(starts, bubbled.since())
			time.Sleep(costs[n])
			ends = append(ends, bubbled.since())
			n++
			return 0, n == 4, nil
		})
		same(t, "error", err, nil)
		var sleeps []time.Duration
		for i := range 3 {
			sleeps = append(sleeps, starts[i+1]-ends[i])
		}
		list(t, "sleeps", sleeps, secs(0.02, 0.02, 0)...)
		out := bubbled.logged("periodic.outlasted")
		list(t, "event", out, "periodic.outlasted excess=990ms")
	})
	in("periodic-36 the first delay, and a sleep that ends", func(t *testing.T) {
		_, at, err := until(t, periodic.First(3*time.Second, periodic.Delay(3*time.Second)), func(_ context.Context, n int) (any, bool, error) { return nil, n == 2, nil })
		same(t, "error", err, nil)
		list(t, "calls", at, secs(3, 6)...)
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		time.AfterFunc(time.Minute, cancel)
		_, err = periodic.Until(ctx, drover.Env{Logger: quiet}, periodic.Delay(time.Hour), func(context.Context) (int, bool, error) { return 0, false, nil })
		same(t, "error", err, context.Canceled)
		same(t, "at", time.Since(start), time.Minute)
		start = time.Now()
		noon, _ := periodic.Calendar("0 12 * * *", nil)
		_, at, err = until(t, noon, func(context.Context, int) (any, bool, error) { return nil, true, nil })
		same(t, "error", err, nil)
		same(t, "at noon", slices.Equal(at, []time.Duration{time.Date(2000, 1, 1, 12, 0, 0, 0, time.UTC).Sub(start)}), true)
	})
}
