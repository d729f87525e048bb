package sched_test

import (
	"context"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/sched"
)

// free lets everything run.
type free struct{ cancel func() }

func (free) Ready(*sched.Entry, time.Time) (bool, time.Time) { return true, time.Time{} }
func (free) Judge(*sched.Entry, time.Time) (v sched.Verdict) { return v }
func (free) Check() string                                   { return "" }
func (f free) End()                                          { f.cancel() }

// spin passes points scheduling points through three processes of two goroutines each.
func spin(t *testing.T, points int) (s *sched.Sched) {
	synctest.Test(t, func(*testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		s = sched.New(sched.Config{Seed: 1, Horizon: time.Hour, Strict: true, Rules: free{cancel}})
		s.Run(func() {
			left := 6
			for _, name := range []string{"n1", "n2", "n3"} {
				p := s.NewProc(name, nil)
				for _, work := range []string{"a", "b"} {
					p.Go(work, func() {
						g := s.Self(p)
						for range points / 6 {
							p.Yield(g, ctx, "store.tx.begin", "key", false)
						}
						left--
					})
				}
			}
			s.Until(time.Minute, "all are through", func() bool { return left == 0 })
		})
	})
	return s
}

func TestSpeed(t *testing.T) {
	t.Run("testkit-36 at least 100,000 scheduling points per second of a core", func(t *testing.T) {
		best := 0.0
		for range 5 {
			begin := cpu()
			s := spin(t, 60_000)
			best = max(best, float64(s.Points.Load())/(cpu()-begin).Seconds())
		}
		t.Logf("%.0f points per second of processor time", best)
		if best < 100_000 && !raceEnabled {
			t.Errorf("%.0f points per second of processor time", best)
		}
	})
	t.Run("testkit-36 at most 2 allocations per scheduling point", func(t *testing.T) {
		const points = 60_000
		spin(t, 600) // pools are filled
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s := spin(t, points)
		runtime.ReadMemStats(&after)
		if n := s.Points.Load(); n != points {
			t.Fatalf("%d points", n)
		}
		if per := float64(after.Mallocs-before.Mallocs) / points; per > 2 {
			t.Errorf("%.2f allocations per point", per)
		}
	})
}

// cpu is the processor time used so far: a loaded machine does not change it.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
