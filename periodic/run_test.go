package periodic_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/periodic"
)

func TestRun(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(l *live){
		"periodic-11 runs of 30 s in a grid of 60 s": func(l *live) {
			l.add(periodic.Every(time.Minute, "a", l.costs("a", 30*time.Second), exact))
			l.run()
			l.till(1000*time.Minute + time.Second)
			at := l.at("a")
			same(l.t, "runs", len(at), 1000)
			for k, d := range at {
				same(l.t, fmt.Sprint("run ", k+1), d, time.Duration(k+1)*time.Minute)
			}
		},
		"periodic-12 jitter is not fed back": func(l *live) {
			l.add(periodic.Every(600*time.Second, "a", l.costs("a", 0), exact, periodic.Jitter(30*time.Second)))
			l.run()
			l.till(1000*600*time.Second + time.Minute)
			at := l.at("a")
			same(l.t, "runs", len(at), 1000)
			varied := map[time.Duration]bool{}
			for k, d := range at {
				late := d - time.Duration(k+1)*600*time.Second
				varied[late] = true
				if late < 0 || late >= 30*time.Second {
					l.t.Fatalf("run %d is %v late", k+1, late)
				}
			}
			if len(varied) < 900 {
				l.t.Errorf("%d different delays of 1000", len(varied))
			}
			if mean := (at[999] - at[0]) / 999; (mean - 600*time.Second).Abs() > 60*time.Millisecond {
				l.t.Errorf("mean period %v", mean)
			}
		},
		"periodic-13 a task that sleeps delays no other": func(l *live) {
			l.add(periodic.Every(time.Second, "A", l.costs("A", time.Hour), exact, periodic.Limit(-1)), periodic.Every(time.Second, "B", l.costs("B", 0), exact))
			l.run()
			l.till(time.Hour)
			at := l.at("B")
			same(l.t, "runs", len(at), 3600)
			for k, d := range at {
				if late := d - time.Duration(k+1)*time.Second; late < 0 || late > time.Millisecond {
					l.t.Fatalf("run %d is %v late", k+1, late)
				}
			}
		},
		"periodic-14 panic and Goexit": func(l *live) {
			n := 0
			l.add(periodic.Every(10*time.Second, "a", func(context.Context) error {
				if n++; n == 1 {
					panic("boom")
				}
				return nil
			}, exact), periodic.Every(10*time.Second, "b", func(context.Context) error {
				l.started("b")
				runtime.Goexit()
				return nil
			}, exact), periodic.Every(10*time.Second, "c", l.costs("c", 0), exact))
			l.run()
			l.till(11 * time.Second)
			var p *drover.PanicError
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "ErrPanic", errors.Is(st.Err, periodic.ErrPanic), true)
			same(l.t, "stack", errors.As(st.Err, &p) && strings.Contains(string(p.Stack), "run_test.go"), true)
			same(l.t, "Goexit", errors.Is(statusOf(l.t, l.Set, "b").Err, periodic.ErrPanic), true)
			l.till(21 * time.Second)
			same(l.t, "runs", n, 2)
			same(l.t, "error", statusOf(l.t, l.Set, "a").Err, nil)
			list(l.t, "b", l.at("b"), secs(10, 20)...)
			list(l.t, "c", l.at("c"), secs(10, 20)...)
		},
		"periodic-15 a failing task": func(l *live) {
			n := 0
			l.add(periodic.Every(time.Second, "a", func(context.Context) error {
				if n++; n <= 100 {
					return fmt.Errorf("no %d", n/51)
				}
				return nil
			}, exact))
			l.run()
			l.till(100500 * time.Millisecond)
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "runs", st.Runs, 100)
			same(l.t, "failures", st.Failures, 100)
			same(l.t, "lines", len(l.logged("periodic.failed")), 2)
			l.till(102 * time.Second)
			same(l.t, "recovered", len(l.logged("periodic.recovered")), 1)
		},
		"periodic-18 NoOverlap": func(l *live) {
			l.add(periodic.Every(10*time.Second, "a", l.costs("a", 25*time.Second), exact))
			l.run()
			l.till(94 * time.Second)
			list(l.t, "starts", l.at("a"), secs(10, 40, 70)...)
			same(l.t, "overruns", statusOf(l.t, l.Set, "a").Overruns, 6)
			out := l.logged("periodic.outlasted")
			same(l.t, "events", len(out), 2)
			same(l.t, "excess", strings.Contains(out[0], "excess=15s"), true)
		},
		"periodic-19 Queued and Parallel": func(l *live) {
			var most, active atomic.Int32
			l.add(periodic.Every(10*time.Second, "q", l.costs("q", 25*time.Second), exact, periodic.Queued()),
				periodic.Every(10*time.Second, "p", func(ctx context.Context) error {
					if n := active.Add(1); n > 1 { // never more than the two are looked for
						most.Store(n)
					}
					defer active.Add(-1)
					return l.costs("p", 25*time.Second)(ctx)
				}, exact, periodic.Parallel(2)))
			l.run()
			l.till(61 * time.Second)
			list(l.t, "Queued", l.at("q"), secs(10, 35, 60)...)
			l.till(55 * time.Second)
			list(l.t, "Parallel", l.at("p")[:4], secs(10, 20, 40, 50)...)
			same(l.t, "at once", most.Load(), 2)
		},
		"periodic-22 Disable during a run": func(l *live) {
			var cause error
			l.add(periodic.Every(10*time.Second, "a", func(ctx context.Context) error {
				time.Sleep(5 * time.Second)
				cause = ctx.Err()
				return nil
			}, exact))
			l.run()
			l.till(11 * time.Second)
			same(l.t, "Disable", l.Disable("a"), nil)
			same(l.t, "again", l.Disable("a"), nil)
			l.till(40 * time.Second)
			same(l.t, "ctx", cause, nil)
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "runs", st.Runs, 1)
			same(l.t, "failures", st.Failures, 0)
			same(l.t, "unknown", errors.Is(l.Disable("z"), periodic.ErrUnknown), true)
		},
		"periodic-24 Drain": func(l *live) {
			for i := range 4 {
				l.add(periodic.Every(10*time.Second, fmt.Sprint("t", i), l.costs("x", time.Duration(i+1)*5*time.Second), exact))
			}
			l.run()
			l.till(11 * time.Second)
			ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
			defer cancel()
			err := l.Drain(ctx)
			same(l.t, "deadline", errors.Is(err, context.DeadlineExceeded), true)
			same(l.t, "names", strings.Contains(err.Error(), "t0, t1, t2, t3"), true)
			same(l.t, "at", l.since(), 12*time.Second)
			same(l.t, "Drain", l.Drain(l.t.Context()), nil)
			same(l.t, "at", l.since(), 30*time.Second)
			l.till(time.Minute)
			same(l.t, "runs", len(l.at("x")), 4)
			same(l.t, "state", statusOf(l.t, l.Set, "t0").State, "drained")
		},
		"periodic-25 Remove": func(l *live) {
			var cause error
			l.add(periodic.Every(10*time.Second, "a", func(ctx context.Context) error {
				l.started("a")
				<-ctx.Done()
				time.Sleep(time.Second)
				cause = ctx.Err()
				return nil
			}, exact), periodic.Every(10*time.Second, "deaf", l.costs("deaf", time.Minute), exact))
			l.run()
			l.till(11 * time.Second)
			same(l.t, "Remove", l.Remove("a"), nil)
			same(l.t, "at", l.since(), 12*time.Second)
			same(l.t, "ctx", cause, context.Canceled)
			same(l.t, "again", errors.Is(l.Remove("a"), periodic.ErrUnknown), true)
			same(l.t, "deaf", errors.Is(l.Remove("deaf"), drover.ErrStuck), true)
			same(l.t, "at", l.since(), 22*time.Second)
			l.till(3 * time.Minute)
			same(l.t, "a", len(l.at("a")), 1)
			same(l.t, "deaf", len(l.at("deaf")), 1)
		},
		"periodic-26 a task that steers its Set": func(l *live) {
			l.add(periodic.Every(10*time.Second, "other", noop), periodic.Every(10*time.Second, "a", func(context.Context) error {
				l.started("a")
				err := errors.Join(l.Remove("a"), l.Add(periodic.Every(10*time.Second, "b", l.costs("b", 0), exact)), l.Disable("other"))
				if len(l.Status()) != 2 {
					err = errors.New("status")
				}
				l.Health()
				if err != nil {
					l.t.Error(err)
				}
				return err
			}, exact))
			l.run()
			l.till(31 * time.Second)
			list(l.t, "a", l.at("a"), secs(10)...)
			list(l.t, "b", l.at("b"), secs(20, 30)...)
		},
		"periodic-27 Limit": func(l *live) {
			var cause error
			var limit time.Time
			l.add(periodic.Every(10*time.Second, "a", func(ctx context.Context) error {
				l.started("a")
				limit, _ = ctx.Deadline()
				time.Sleep(12 * time.Second)
				cause = context.Cause(ctx)
				return nil
			}, exact, periodic.Limit(5*time.Second)))
			l.run()
			l.till(14 * time.Second)
			same(l.t, "state", statusOf(l.t, l.Set, "a").State, "running")
			l.till(15 * time.Second)
			same(l.t, "state", statusOf(l.t, l.Set, "a").State, "overdue")
			same(l.t, "deadline", limit.Sub(l.start), 15*time.Second)
			l.till(23 * time.Second)
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "cause", cause, periodic.ErrTimeout)
			same(l.t, "state", st.State, "idle")
			same(l.t, "error", errors.Is(st.Err, periodic.ErrTimeout), true)
			same(l.t, "overruns", st.Overruns, 1)
			same(l.t, "events", len(l.logged("periodic.stuck")), 1)
			l.till(31 * time.Second)
			list(l.t, "starts", l.at("a"), secs(10, 30)...)
		},
		"periodic-42 parallel runs of different length": func(l *live) {
			var n atomic.Int32
			l.add(periodic.Every(10*time.Second, "a", func(context.Context) error {
				if n.Add(1) == 1 {
					time.Sleep(25 * time.Second)
					return errors.New("first")
				}
				return nil
			}, exact, periodic.Parallel(3)))
			l.run()
			l.till(21 * time.Second)
			st := statusOf(l.t, l.Set, "a")
			same(l.t, "second success", st.LastSuccess.Sub(l.start), 20*time.Second)
			same(l.t, "active", st.Active, 1)
			same(l.t, "failures", st.Failures, 0)
			l.till(36 * time.Second)
			st = statusOf(l.t, l.Set, "a")
			same(l.t, "active", st.Active, 0)
			same(l.t, "failures", st.Failures, 1)
		},
		"periodic-43 Stale": func(l *live) {
			block := true
			l.add(periodic.Every(10*time.Second, "a", func(ctx context.Context) error {
				if l.since() == 20*time.Second && block {
					time.Sleep(35 * time.Second)
					return errors.New("late")
				}
				return nil
			}, exact, periodic.Stale(0), periodic.Limit(-1)))
			l.run()
			l.till(40 * time.Second)
			same(l.t, "health", l.Health().State, "ready")
			l.till(41 * time.Second)
			h := l.Health()
			same(l.t, "health", h.State, "degraded")
			same(l.t, "since", h.Since.Sub(l.start), 40*time.Second)
			same(l.t, "names the task and its age", strings.Contains(h.Err.Error(), `"a"`) && strings.Contains(h.Err.Error(), "31s"), true)
			l.till(56 * time.Second)
			same(l.t, "names the error", strings.Contains(l.Health().Err.Error(), "late"), true)
			l.till(61 * time.Second)
			same(l.t, "health", l.Health().State, "ready")
		},
		"periodic-67 Lane": func(l *live) {
			var lane periodic.Lane
			for _, name := range []string{"b", "c", "a"} {
				l.add(periodic.Every(100*time.Second, name, l.costs("lane", 10*time.Second), exact, periodic.OnLane(&lane), periodic.OnError(nil2(name, l))))
			}
			l.add(periodic.Every(100*time.Second, "free", l.costs("free", 0), exact))
			l.run()
			l.till(150 * time.Second)
			list(l.t, "lane", l.at("lane"), secs(100, 110, 120)...)
			list(l.t, "in order of name", []time.Duration{
				statusOf(l.t, l.Set, "a").Last.Sub(l.start), statusOf(l.t, l.Set, "b").Last.Sub(l.start), statusOf(l.t, l.Set, "c").Last.Sub(l.start)}, secs(100, 110, 120)...)
			list(l.t, "free", l.at("free"), secs(100)...)
			l.till(201 * time.Second)
			same(l.t, "Remove from the line", l.Remove("c"), nil)
			l.till(250 * time.Second)
			list(l.t, "lane", l.at("lane")[3:], secs(200, 210)...)
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); bubble(t, f) })
	}
	t.Run("run once, and the end of Run", func(t *testing.T) {
		bubble(t, func(l *live) {
			l.add(periodic.Every(time.Second, "a", func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Second); return ctx.Err() }, exact))
			l.run()
			same(l.t, "Run during Run", errors.Is(l.Run(l.t.Context()), drover.ErrRunning), true)
			l.till(1500 * time.Millisecond)
			l.cancel()
			<-l.done
			same(l.t, "waited for the run", l.since(), 2500*time.Millisecond)
			same(l.t, "Run after Run", errors.Is(l.Run(l.t.Context()), drover.ErrUsed), true)
			same(l.t, "state", statusOf(l.t, l.Set, "a").State, "stopped")
		})
	})
}

// nil2 is an OnError that fails the test.
func nil2(name string, l *live) func(periodic.Run, error) {
	return func(_ periodic.Run, err error) { l.t.Error(name, err) }
}

func TestManyTasks(t *testing.T) {
	t.Run("periodic-65 10 000 tasks of 1 s", func(t *testing.T) {
		before := runtime.NumGoroutine()
		const attempts = 5 // it bounds wall time, and a busy machine stalls anybody
		for i := range attempts {
			late, runs, stall := manyTasks(t)
			if late == 0 && runs >= 20_000 {
				break
			}
			t.Logf("%d of %d runs late by more than 50 ms; an idle goroutine woke up to %v late", late, runs, stall)
			if i == attempts-1 && stall < 50*time.Millisecond {
				t.Error("late on a machine that was not busy")
			}
		}
		for range 1000 {
			if runtime.NumGoroutine() <= before+1 {
				return
			}
			runtime.Gosched()
		}
		t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
	})
}

// manyTasks runs 10 000 tasks for 3 s, and tells how late a goroutine beside them woke.
func manyTasks(t *testing.T) (late, runs int64, stall time.Duration) {
	var nLate, nRuns atomic.Int64
	s := &periodic.Set{Env: drover.Env{Logger: quiet}}
	var tasks []periodic.Task
	for i := range 10_000 {
		tasks = append(tasks, periodic.Every(time.Second, fmt.Sprint("t", i), func(ctx context.Context) error {
			nRuns.Add(1)
			if r := periodic.RunOf(ctx); r.Started.Sub(r.Due) > 50*time.Millisecond {
				nLate.Add(1)
			}
			return nil
		}))
	}
	if err := s.Add(tasks...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for ctx.Err() == nil {
		began := time.Now()
		<-time.After(time.Millisecond)
		stall = max(stall, time.Since(began)-time.Millisecond)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return nLate.Load(), nRuns.Load(), stall
}

func TestRemoveRaces(t *testing.T) {
	t.Run("periodic-25 0 later runs over 1000 schedules", func(t *testing.T) {
		for i := range 1000 {
			synctest.Test(t, func(t *testing.T) {
				s := &periodic.Set{Env: drover.Env{Logger: quiet}}
				var removed, after atomic.Bool
				names := []string{"a", "b"}
				for _, n := range names {
					if err := s.Every(time.Millisecond, n, func(ctx context.Context) error {
						if removed.Load() {
							after.Store(true)
						}
						time.Sleep(time.Duration(i%5) * 300 * time.Microsecond)
						return nil
					}, exact, []periodic.Option{periodic.NoOverlap(), periodic.Queued(), periodic.Parallel(2), periodic.CatchUp(3)}[i%4]); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- s.Run(ctx) }()
				time.Sleep(time.Duration(i) * 37 * time.Microsecond)
				for _, n := range slices.Backward(names) {
					if err := s.Remove(n); err != nil {
						t.Error(err)
					}
				}
				removed.Store(true)
				time.Sleep(10 * time.Millisecond)
				cancel()
				if err := <-done; err != nil || after.Load() {
					t.Fatal(i, err, after.Load())
				}
			})
		}
	})
}
