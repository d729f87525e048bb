package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/internal/testkit/sched"
	"github.com/drover-cloud/drover/store/memory"
)

// World is a cluster in a testing/synctest bubble: real goroutines, virtual time, one store, and a seeded scheduler. Its
// methods are for the function given to [Explore], for goroutines of [World.Go] and, of those that set faults, for any
// other goroutine of the world; not for checks. Used after its end it panics.
type World struct {
	// T records; what fails there fails the world's seed. Its Context ends with the world.
	T    testing.TB
	Seed uint64

	s      *sched.Sched
	rec    *recorder
	cancel context.CancelCauseFunc
	db     Stores
	alone  bool // db takes one call at a time: also what is outside of transactions waits for an open one
	crash  *crashPlan
	hosts  *sim.World // nil = none
	log    bool       // print what nodes log

	mu     sync.Mutex // guards what follows; never held across a call
	nodes  []*Node
	names  map[string]bool
	open   *tx           // the open transaction
	opener *sched.G      // its goroutine, from before it is open
	jump   time.Duration // of the store's clock
	down   time.Time     // until
	frozen time.Time     // read-only until
	hints  hints
	net    network
	checks []check
	eyes   []observer
	faults map[string]int
	chaos  bool
}

type check struct {
	what string
	ok   func() bool
	want bool
}

// errEnded is the cause of contexts when a world ends.
var errEnded = fmt.Errorf("testkit: the world has ended: %w", context.Canceled)

// storeClock is the clock of the world's store.
type storeClock struct{ w *World }

func (c storeClock) Now() time.Time {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return time.Now().Add(c.w.jump)
}
func (c storeClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func newWorld(t testing.TB, seed uint64, o options) *World {
	w := &World{Seed: seed, names: map[string]bool{}, faults: map[string]int{}}
	w.s = sched.New(sched.Config{Seed: seed, Horizon: o.horizon, Strict: o.strict, Rules: rules{w}, Crashed: ErrCrashed})
	w.rec = &recorder{TB: t, s: w.s}
	w.rec.ctx, w.cancel = context.WithCancelCause(context.Background())
	w.T = w.rec
	w.db = &memory.Store{Env: drover.Env{Clock: storeClock{w}, Node: "store"}}
	w.hints.topics = map[string]*topic{}
	return w
}

// over replaces the store in memory; called before the world runs.
func (w *World) over(t testing.TB, store openStore) {
	if store == nil {
		return
	}
	db, err := store(t, drover.Env{Clock: storeClock{w}, Node: "store"})
	if err != nil || db == nil {
		t.Fatalf("testkit: Store: %v", first(err, errors.New("no store")))
	}
	w.db, w.alone = db, true
}

// use panics where a World must not be used; every verb begins with it.
func (w *World) use(verb string) {
	switch {
	case w == nil || w.s == nil:
		panic("testkit: " + verb + " of a World that Explore did not make")
	case w.s.OnDriver():
		panic(verb + " in a check: Always, Never and Eventually may only look")
	case w.s.Ended():
		if w.s.Mine() {
			w.s.Abort()
		}
		panic("testkit: " + verb + " after the end of the World of seed " + fmt.Sprint(w.Seed))
	}
}

// Store is the world's own store, which no scheduling point and no fault stands before: for the test's own looks at it.
func (w *World) Store() Stores { return w.db }

// Go runs f as a goroutine of the test named name. The scheduler decides when it begins.
func (w *World) Go(name string, f func()) {
	w.use("World.Go")
	if name == "" || strings.ContainsAny(name, "/>") {
		w.T.Fatalf("testkit: World.Go(%q): a name without / and > is wanted", name)
	}
	w.s.Go(name, f)
}

// Advance lets d of virtual time pass. What other goroutines do at its last instant may come before or after its return.
func (w *World) Advance(d time.Duration) {
	w.use("World.Advance")
	if d < 0 {
		w.T.Fatalf("testkit: World.Advance(%v): time does not go back", d)
	}
	w.s.Advance(d)
}

// Settle waits until nothing can run without time passing.
func (w *World) Settle() { w.use("World.Settle"); w.s.Settle() }

// Eventually waits until ok, which is looked at after every operation and at the end, and fails the world after within.
// ok must not call what operates on the store; nor must Always and Never.
func (w *World) Eventually(within time.Duration, what string, ok func() bool) {
	w.use("World.Eventually")
	w.s.Until(within, fmt.Sprintf("%s (within %v)", what, within), ok)
}

// Always fails the world as soon as ok is false after an operation.
func (w *World) Always(what string, ok func() bool) { w.check("World.Always", check{what, ok, true}) }

// Never fails the world as soon as bad is true after an operation.
func (w *World) Never(what string, bad func() bool) { w.check("World.Never", check{what, bad, false}) }

func (w *World) check(verb string, c check) {
	w.use(verb)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checks = append(w.checks, c)
}

// Rand is a stream of random numbers of the seed's, for the test's own workload. The same name continues nothing: it
// begins the same stream again.
func (w *World) Rand(stream string) *rand.Rand { w.use("World.Rand"); return w.s.Rand(stream) }

// Trace gives the lines so far (the last 200,000), and their SHA-256 as last one.
func (w *World) Trace() []string { w.use("World.Trace"); return w.s.Log().Lines() }

// Stats is what a world, or all of an Explore, did.
type Stats struct {
	Seeds   int
	Virtual time.Duration  // virtual time
	Points  int64          // shared operations
	Ties    int            // 0 in a Strict world
	Faults  map[string]int // by kind
	Traces  int            // distinct ones
	Crashes int            // operations CrashPoints visited
}

// Stats tells what the world did so far.
func (w *World) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := map[string]int{}
	for k, n := range w.faults {
		f[k] = n
	}
	st := Stats{Seeds: 1, Virtual: w.s.Elapsed(), Points: w.s.Points.Load(), Ties: w.s.Ties(), Faults: f, Traces: 1}
	if w.crash != nil {
		st.Crashes = w.crash.n
	}
	return st
}

// act is a verb that sets a fault: it is traced and counted, and all others rest before it returns.
func (w *World) act(kind, text string) {
	w.mu.Lock()
	w.faults[kind]++
	w.mu.Unlock()
	w.s.Mark("!! " + text)
	w.s.Rest()
}
