package testkit

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/sched"
	"github.com/drover-cloud/drover/internal/testkit/trace"
)

// Explore runs f in a fresh world for each of seeds seeds (or for those the flags or variables name), as parallel
// subtests seed/N, and prints of each that fails the seed, the command that replays it and the end of its trace. It
// returns when all have ended.
func Explore(t *testing.T, seeds int, f func(w *World), opts ...Option) {
	t.Helper()
	if sched.InBubble() {
		t.Fatal("testkit: Explore inside a testing/synctest bubble: it makes its own")
	}
	o := newOptions(opts)
	p, err := newPlan(seeds, o.atMost, testing.Short())
	if o.err != nil || err != nil {
		t.Fatalf("testkit: %v", first(o.err, err))
	}
	x := &explorer{f: f, opt: o, plan: p, slots: make(chan struct{}, o.parallel), started: time.Now(), //nolint:forbidigo // wall time
		replay: replayCommand(t.Name()), sums: map[string]bool{}, total: Stats{Faults: map[string]int{}}}
	t.Run("seed", func(t *testing.T) {
		for i, seed := range p.seeds {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				x.slots <- struct{}{}
				defer func() { <-x.slots }()
				x.seed(t, i, seed)
			})
		}
	})
	x.report(t)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// explorer is one Explore.
type explorer struct {
	f       func(w *World)
	opt     options
	plan    plan
	slots   chan struct{}
	started time.Time
	replay  string

	mu       sync.Mutex
	total    Stats
	sums     map[string]bool
	failures int
}

// outcome is what became of a world.
type outcome struct {
	failure string
	at      time.Duration
	skipped bool
	log     *trace.Log
	notes   []string
	stats   Stats
	crash   *crashPlan
}

// seed runs one seed: its world, again to compare, and once per crash point.
func (x *explorer) seed(t *testing.T, i int, seed uint64) {
	o := x.world(t, seed, &crashPlan{})
	x.add(o)
	if x.plan.one {
		for _, l := range append(o.log.Lines(), o.notes...) {
			t.Log(l)
		}
	}
	if o.skipped {
		t.Skip(strings.Join(o.notes, "\n"))
	}
	if x.failed(t, seed, o, "") {
		return
	}
	if x.plan.twice(i, x.opt.strict) || x.opt.strict && o.crash.n > 0 {
		again := x.world(t, seed, &crashPlan{})
		if d := trace.Diff(o.log, again.log); d != "" {
			o.failure, o.at = "not deterministic: the seed run twice gave two traces, "+d, 0
			x.failed(t, seed, o, "")
			return
		}
		if again.crash.n != o.crash.n {
			o.failure, o.at = fmt.Sprintf("CrashPoints counted %d operations, then %d", o.crash.n, again.crash.n), 0
			x.failed(t, seed, o, "")
			return
		}
	}
	for k := 1; k <= o.crash.n; k++ {
		for _, after := range []bool{false, true} {
			c := x.world(t, seed, &crashPlan{at: k, after: after})
			x.add(c)
			where := map[bool]string{false: "before", true: "after"}[after]
			if x.failed(t, seed, c, fmt.Sprintf("with a crash %s operation %d of %d: ", where, k, o.crash.n)) {
				return
			}
		}
	}
	if o.crash.n > 0 {
		t.Logf("testkit: %d crash points, each before and after", o.crash.n)
	}
}

// world runs one world in a bubble of its own.
func (x *explorer) world(t *testing.T, seed uint64, crash *crashPlan) (o outcome) {
	var w *World
	var running atomic.Pointer[World]
	stop := watch(&running, seed, x.replay)
	defer stop()
	defer func() {
		v := recover() // a bubble whose goroutines do not end panics here
		if w == nil || v != nil && !strings.Contains(fmt.Sprint(v), "deadlock") {
			panic(v)
		}
		o = outcome{log: w.s.Log(), stats: w.Stats(), crash: crash, notes: w.rec.lines, skipped: w.rec.skipped}
		o.failure, o.at = w.s.Failure()
		if v != nil && o.failure == "" {
			o.failure = "goroutines left behind, started by a plain go statement\n" + sched.Stacks(w.s.Bubble())
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed, x.opt)
		w.over(t, x.opt.store)
		w.crash, w.log = crash, x.plan.one
		running.Store(w)
		w.s.Run(func() { x.f(w) })
	})
	return o
}

// failed reports o if it is a failure.
func (x *explorer) failed(t *testing.T, seed uint64, o outcome, where string) bool {
	if o.failure == "" {
		return false
	}
	x.mu.Lock()
	x.failures++
	n := x.failures
	x.mu.Unlock()
	if n == 1 && *flagTrace != "" {
		if err := os.WriteFile(*flagTrace, []byte(strings.Join(o.log.Lines(), "\n")+"\n"), 0o644); err != nil {
			t.Errorf("testkit: -testkit.trace: %v", err)
		}
	}
	text := fmt.Sprintf("testkit: seed %d: %s%s\n  at T+%v\n  replay: DROVER_SEED=%d %s", seed, where, o.failure, o.at, seed, x.replay)
	if n <= 3 && !x.plan.one {
		tail := o.log.Tail(40)
		text += fmt.Sprintf("\n  last %d of %d lines:\n    %s", len(tail), o.log.Total(), strings.Join(tail, "\n    "))
		if extra := slices.DeleteFunc(slices.Clone(o.notes), func(l string) bool { return l == o.failure }); len(extra) > 0 {
			text += "\n  the test said:\n    " + strings.Join(extra, "\n    ")
		}
	}
	t.Error(text)
	return true
}

func (x *explorer) add(o outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.total.Seeds++
	x.total.Virtual += o.stats.Virtual
	x.total.Points += o.stats.Points
	x.total.Ties += o.stats.Ties
	x.total.Crashes += o.stats.Crashes
	for k, n := range o.stats.Faults {
		x.total.Faults[k] += n
	}
	x.sums[o.log.Sum()] = true
}

// report logs what go test -v shows of an Explore.
func (x *explorer) report(t *testing.T) {
	t.Helper()
	wall := time.Since(x.started) //nolint:forbidigo // wall time
	var kinds []string
	for k, n := range x.total.Faults {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(kinds)
	t.Logf("testkit: %d worlds of %d seeds, %.1f virtual hours, %d points (%.0f/s), ties %d, distinct traces %d, faults: %s",
		x.total.Seeds, len(x.plan.seeds), x.total.Virtual.Hours(), x.total.Points, float64(x.total.Points)/wall.Seconds(),
		x.total.Ties, len(x.sums), strings.Join(kinds, ", "))
}

// replayCommand runs the test of that name alone, in the package of the function that the test framework called.
func replayCommand(name string) string {
	pkg := "."
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for last := ""; ; {
		f, more := frames.Next()
		if f.Function == "testing.tRunner" && last != "" {
			dir, base := "", last
			if i := strings.LastIndexByte(last, '/'); i >= 0 {
				dir, base = last[:i+1], last[i+1:]
			}
			base, _, _ = strings.Cut(base, ".")
			pkg = dir + strings.TrimSuffix(base, "_test")
			break
		}
		if last = f.Function; !more {
			break
		}
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return fmt.Sprintf("go test %s -run '%s'", pkg, strings.ReplaceAll(strings.Join(parts, "/"), "'", `'\''`))
}
