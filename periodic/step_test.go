package periodic_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/periodic"
)

// compute is a type with a table of tasks, hypervisor one that embeds it.
type (
	compute    struct{ runs map[string]int }
	hypervisor struct {
		compute
		extra int
	}
)

func (c compute) audit(context.Context) error   { c.runs["audit"]++; return nil }
func (c compute) cleanup(context.Context) error { c.runs["cleanup"]++; return nil }
func (c compute) PeriodicTasks() []periodic.Task {
	return []periodic.Task{
		periodic.Every(time.Minute, "audit", c.audit),
		periodic.Every(time.Hour, "cleanup", c.cleanup),
	}
}

func (h hypervisor) PeriodicTasks() []periodic.Task {
	return append(h.compute.PeriodicTasks(),
		periodic.Every(time.Minute, "capacity", noop), periodic.Every(time.Minute, "images", noop))
}

func TestStep(t *testing.T) {
	t.Parallel()
	t.Run("periodic-01 six tasks started at 340 s", func(t *testing.T) {
		s := newStepped(t)
		s.at(340 * time.Second)
		s.add(
			periodic.Every(60*time.Second, "A", s.counts("A", nil), exact),
			periodic.Every(60*time.Second, "B", s.counts("B", errors.New("no")), exact),
			periodic.Every(70*time.Second, "T", s.counts("T", nil), exact, periodic.Immediately()),
			periodic.Every(70*time.Second, "K", s.counts("K", nil), exact),
			periodic.Every(60*time.Second, "E1", s.counts("E1", nil), exact),
			periodic.Every(70*time.Second, "E2", s.counts("E2", nil), exact),
		)
		want := map[string][4]int{"A": {0, 1, 1, 2}, "B": {0, 1, 1, 2}, "T": {1, 1, 2, 3}, "K": {0, 0, 1, 2}, "E1": {0, 1, 1, 2}, "E2": {0, 0, 1, 2}}
		for i, at := range secs(340, 400, 430, 490) {
			s.step(at)
			for name, runs := range want {
				same(t, fmt.Sprint(name, " at ", at), s.ends[name], runs[i])
			}
		}
	})
	t.Run("periodic-02 every 9 s, stepped every second", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(9*time.Second, "a", s.counts("a", nil), exact))
		for i := range 201 {
			s.step(time.Duration(i) * time.Second)
			same(t, fmt.Sprint("after ", i, " s"), s.ends["a"], i/9)
		}
	})
	t.Run("periodic-03 RunDue and RunOnce", func(t *testing.T) {
		s, bad := newStepped(t), errors.New("no")
		s.add(periodic.Every(time.Second, "a", s.counts("a", bad), exact), periodic.Every(time.Second, "b", s.counts("b", nil), exact))
		s.step(0)
		s.at(time.Second)
		same(t, "RunDue", errors.Is(s.RunDue(t.Context()), bad), true)
		same(t, "a", s.ends["a"], 1)
		same(t, "b", s.ends["b"], 1)
		same(t, "RunOnce", s.RunOnce(t.Context(), "a"), bad)
		same(t, "RunOnce of none", errors.Is(s.RunOnce(t.Context(), "z"), periodic.ErrUnknown), true)
		same(t, "the grid is where it was", s.step(time.Second), 2*time.Second)
		if err := s.Disable("b"); err != nil {
			t.Fatal(err)
		}
		same(t, "RunOnce of a disabled task", s.RunOnce(t.Context(), "b"), nil)
		same(t, "b", s.ends["b"], 2)
	})
	t.Run("periodic-04 names", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Methods(compute{map[string]int{}})...)
		s.add(periodic.Every(time.Second, "own/name-1.x_y", noop))
		var names []string
		for _, st := range s.Status() {
			names = append(names, st.Name)
		}
		list(t, "names", names, "compute.audit", "compute.cleanup", "own/name-1.x_y")
		err := s.Add(periodic.Every(time.Second, "fresh", noop), periodic.Every(time.Second, "compute.audit", noop))
		same(t, "a second one", errors.Is(err, periodic.ErrDuplicate), true)
		same(t, "twice at once", errors.Is(s.Add(periodic.Every(time.Second, "x", noop), periodic.Every(time.Second, "x", noop)), periodic.ErrDuplicate), true)
		same(t, "nothing was added", len(s.Status()), 3)
		for _, bad := range []string{"", " a", "a b", "-a", "ä", strings.Repeat("x", 129), "a\n"} {
			same(t, fmt.Sprintf("name %q", bad), errors.Is(s.Add(periodic.Every(time.Second, bad, noop)), periodic.ErrName), true)
		}
		s.add(periodic.Every(time.Second, strings.Repeat("x", 128), noop))
	})
	t.Run("periodic-05 a disabled one, and one added while it runs", func(t *testing.T) {
		bubble(t, func(l *live) {
			l.add(periodic.Every(60*time.Second, "a", noop), periodic.Every(4*time.Second, "b", noop), periodic.Every(time.Second, "c", l.costs("c", 0), periodic.Off()))
			same(l.t, "disabled", statusOf(l.t, l.Set, "c").State, "disabled")
			same(l.t, "tasks", len(l.Status()), 3)
			l.run()
			l.till(10500 * time.Millisecond)
			l.add(periodic.Every(2*time.Second, "d", l.costs("d", 0), exact))
			same(l.t, "tasks", len(l.Status()), 4)
			l.till(15 * time.Second)
			list(l.t, "d", l.at("d"), secs(12.5, 14.5)...)
			same(l.t, "c", len(l.at("c")), 0)
		})
	})
	t.Run("periodic-06 what Step returns, and bad spacings", func(t *testing.T) {
		s := newStepped(t)
		same(t, "empty", s.step(0), -1)
		s.add(periodic.Every(200*time.Second, "a", noop, exact))
		same(t, "one task", s.step(0), 200*time.Second)
		for _, d := range []time.Duration{0, -time.Second, time.Millisecond - 1} {
			err := s.Add(periodic.Every(d, "bad", noop))
			same(t, d.String(), errors.Is(err, periodic.ErrSchedule), true)
			same(t, "names the task", strings.Contains(fmt.Sprint(err), `"bad"`), true)
			same(t, "After "+d.String(), errors.Is(s.Add(periodic.After(d, "bad", noop)), periodic.ErrSchedule), true)
		}
		same(t, "no function", errors.Is(s.Add(periodic.Every(time.Second, "x", nil)), periodic.ErrTask), true)
		same(t, "no schedule", errors.Is(s.Add(periodic.Task{Name: "x", Do: noop}), periodic.ErrTask), true)
		same(t, "jitter", errors.Is(s.Add(periodic.Every(time.Second, "x", noop, periodic.Jitter(501*time.Millisecond))), periodic.ErrSchedule), true)
		for _, d := range []periodic.Decorator{periodic.Timeout(0), periodic.Retry(nil), periodic.Parallel(0), periodic.CatchUp(0), periodic.CatchUp(1001),
			periodic.On(nil), periodic.OnLane(nil), periodic.OnError(nil), periodic.Stale(-1), periodic.Singleton(nil), periodic.Ceiling(time.Second),
			periodic.Initial(-1), periodic.Retry(periodic.Policy{Factor: 0.5}.New)} {
			if err := s.Add(periodic.Every(time.Second, "x", noop, d)); err == nil {
				t.Error("a bad decorator was taken")
			}
		}
		same(t, "tasks", len(s.Status()), 1)
		kept := &periodic.Set{Env: s.Env}
		same(t, "Every's error", kept.Every(0, "x", noop) != nil, true)
		same(t, "is kept for Run", errors.Is(kept.Run(t.Context()), periodic.ErrSchedule), true)
		_, err := kept.Step(t.Context())
		same(t, "and Step", errors.Is(err, periodic.ErrSchedule), true)
	})
	t.Run("periodic-07 stepped between due times", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(10*time.Second, "a", s.counts("a", nil), exact))
		s.step(0)
		same(t, "next", s.step(5*time.Second), 10*time.Second)
		same(t, "runs", s.ends["a"], 0)
		same(t, "next", s.step(10*time.Second), 20*time.Second)
		same(t, "runs", s.ends["a"], 1)
	})
	t.Run("periodic-08 Immediately", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(10*time.Second, "a", s.counts("a", nil), exact, periodic.Immediately()))
		same(t, "next", s.step(0), 10*time.Second)
		same(t, "runs", s.ends["a"], 1)
		same(t, "next", s.step(5*time.Second), 10*time.Second)
		same(t, "runs", s.ends["a"], 1)
	})
	t.Run("periodic-10 a table and its base", func(t *testing.T) {
		h := hypervisor{compute{map[string]int{}}, 0}
		same(t, "embedding", len(periodic.Methods(h)), 4)
		same(t, "base", len(periodic.Methods(h.compute)), 2)
		same(t, "its name", periodic.Methods(&h)[0].Name, "hypervisor.audit")
	})
	t.Run("periodic-16 a Set built long before it runs", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(time.Minute, "a", s.counts("a", nil), exact))
		same(t, "next", s.step(time.Hour), time.Hour+time.Minute)
		same(t, "runs", s.ends["a"], 0)
	})
	t.Run("periodic-17 the phase", func(t *testing.T) {
		var tenths [10]int
		for seed := range uint64(1000) {
			s := newStepped(t)
			s.Env.Rand = rand.NewPCG(seed, 1)
			s.add(periodic.Every(time.Minute, "a", noop))
			first := s.step(0)
			if first <= 0 || first > time.Minute {
				t.Fatalf("seed %d: first run at %v", seed, first)
			}
			tenths[(first-1)/(6*time.Second)]++
		}
		for i, n := range tenths {
			if n < 60 {
				t.Errorf("tenth %d: %d of 1000", i, n)
			}
		}
		s := newStepped(t)
		s.add(periodic.Every(time.Minute, "a", noop, periodic.Spread(0)))
		same(t, "Spread(0)", s.step(0), time.Minute)
	})
	t.Run("periodic-20 missed due times", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			how    periodic.Decorator
			dues   []time.Duration
			missed []int64
		}{
			{"Coalesce", exact, secs(10, 90), []int64{0, 7}},
			{"SkipMissed", periodic.SkipMissed(), secs(10), []int64{0}},
			{"CatchUp(3)", periodic.CatchUp(3), secs(10, 70, 80, 90), []int64{0, 5, 0, 0}},
			{"CatchUp(20)", periodic.CatchUp(20), secs(10, 20, 30, 40, 50, 60, 70, 80, 90), make([]int64, 9)},
		} {
			t.Run(c.name, func(t *testing.T) {
				s := newStepped(t)
				var at []time.Duration
				var missed []int64
				s.add(periodic.Every(10*time.Second, "a", func(ctx context.Context) error {
					at = append(at, periodic.RunOf(ctx).Due.Sub(s.start))
					missed = append(missed, periodic.RunOf(ctx).Missed)
					return nil
				}, exact, c.how))
				s.step(0)
				s.step(10 * time.Second)
				same(t, "next", s.step(95*time.Second), 100*time.Second)
				list(t, "due", at, c.dues...)
				list(t, "missed", missed, c.missed...)
				same(t, "Missed + Runs", s.status("a").Missed+s.status("a").Runs, 9)
			})
		}
	})
	t.Run("periodic-21 Disable and Enable", func(t *testing.T) {
		for name, c := range map[string]struct {
			how  periodic.Decorator
			runs int
		}{"Coalesce": {exact, 4}, "CatchUp(5)": {periodic.CatchUp(5), 3}} {
			s := newStepped(t)
			s.add(periodic.Every(10*time.Second, "a", s.counts("a", nil), exact, c.how))
			for i := range 3 {
				s.step(time.Duration(i) * 10 * time.Second)
			}
			s.at(25 * time.Second)
			same(t, "Disable", s.Disable("a"), nil)
			for _, at := range secs(30, 40, 50, 60) {
				same(t, "next", s.step(at), -1)
			}
			s.at(65 * time.Second)
			same(t, "Enable", s.Enable("a"), nil)
			same(t, "next", s.step(65*time.Second), 70*time.Second)
			s.step(70 * time.Second)
			same(t, name, s.ends["a"], c.runs)
		}
	})
	t.Run("periodic-23 gates", func(t *testing.T) {
		s := newStepped(t)
		leader, boom := false, 0
		s.add(
			periodic.Every(10*time.Second, "a", s.counts("a", nil), exact, periodic.On(func() bool { return leader })),
			periodic.Every(10*time.Second, "b", s.counts("b", nil), exact, periodic.Enabled(func() bool { boom++; panic("gate") })),
		)
		s.step(0)
		for _, at := range secs(10, 20, 30) {
			s.step(at)
		}
		same(t, "gated", s.status("a").Gated, 3)
		leader = true
		s.step(40 * time.Second)
		same(t, "runs", s.ends["a"], 1)
		same(t, "a gate that panics", s.ends["b"], 0)
		same(t, "asked each time", boom, 4)
		same(t, "gated", s.status("b").Gated, 4)
	})
	t.Run("periodic-30 Trigger", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(10*time.Second, "a", func(context.Context) error {
			s.ends["a"]++
			if s.ends["a"] == 2 {
				return s.Trigger("a")
			}
			return nil
		}, exact))
		s.step(0)
		same(t, "Trigger", s.Trigger("a"), nil)
		same(t, "the grid", s.step(3*time.Second), 10*time.Second)
		same(t, "runs", s.ends["a"], 1)
		same(t, "unknown", errors.Is(s.Trigger("z"), periodic.ErrUnknown), true)
	})
	t.Run("periodic-31 Reschedule", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(time.Minute, "a", s.counts("a", nil), exact))
		s.step(0)
		s.step(time.Minute)
		s.at(70 * time.Second)
		same(t, "Reschedule", s.Reschedule("a", periodic.Grid(10*time.Second)), nil)
		same(t, "next", s.step(70*time.Second), 80*time.Second)
		same(t, "next", s.step(80*time.Second), 90*time.Second)
		same(t, "runs", s.ends["a"], 2)
		same(t, "bad", errors.Is(s.Reschedule("a", periodic.Grid(0)), periodic.ErrSchedule), true)
		same(t, "nil", s.Reschedule("a", nil) != nil, true)
	})
	t.Run("periodic-44 Done", func(t *testing.T) {
		s := newStepped(t)
		s.add(periodic.Every(time.Second, "a", func(context.Context) error {
			if s.ends["a"]++; s.ends["a"] == 3 {
				return fmt.Errorf("enough: %w", periodic.Done)
			}
			return nil
		}, exact), periodic.Every(time.Second, "b", s.counts("b", nil), exact))
		for i := range 6 {
			s.step(time.Duration(i) * time.Second)
		}
		same(t, "runs", s.ends["a"], 3)
		same(t, "state", s.status("a").State, "finished")
		same(t, "failures", s.status("a").Failures, 0)
		same(t, "the other", s.ends["b"], 5)
		same(t, "Trigger", errors.Is(s.Trigger("a"), periodic.ErrUnknown), true)
	})
}
