// Package sched is the seeded scheduler of simulated worlds: real goroutines in a testing/synctest bubble, of which
// exactly one at a time is let through a shared operation, drawn from the seed once all others have come to rest.
//
// Guarantees: the same program and seed give the same trace, byte for byte, if goroutines that run between two points
// neither race with each other nor share a name. Sorting what is parked before drawing makes arrival order irrelevant.
//
// Not guaranteed: pre-emption between two points, and anything about goroutines that tie (same name, operation and key).
package sched

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/trace"
)

// Rules are the world's: which operations may run, with which faults, and what must hold between them. All methods are
// called by the driver while every other goroutine rests.
type Rules interface {
	// Ready says whether e may run now; if not, when to look again (zero: when something has happened).
	Ready(e *Entry, now time.Time) (ok bool, again time.Time)
	// Judge gives the verdict on e, which was drawn.
	Judge(e *Entry, now time.Time) Verdict
	// Check looks at what must hold after an operation; "" if it does.
	Check() string
	// End is called once, when main has returned or the world has failed: contexts are cancelled here.
	End()
}

// Kind is what becomes of an operation.
type Kind uint8

const (
	Run       Kind = iota
	Fail           // with Err, not done
	FailAfter      // done, then Err
	Die            // the goroutine ends
	DieAfter       // done, then the process crashes
	Hold           // not before Verdict.Hold from now
)

// Verdict is the scheduler's answer to an operation.
type Verdict struct {
	Kind Kind
	Err  error
	Hold time.Duration
	Note string // for the trace, besides Err's text
}

// Config of a Sched.
type Config struct {
	Seed    uint64
	Horizon time.Duration
	Strict  bool
	Rules   Rules
	// Crashed is what a goroutine that is not the process's own gets from an operation on a dead one.
	Crashed error
}

// maxAtOnce bounds the operations at one instant of virtual time.
const maxAtOnce = 300_000

// Sched drives one world.
type Sched struct {
	Points atomic.Int64 // shared operations so far; read by the watchdog
	Pulse  atomic.Int64 // whatever the driver did; read by the watchdog

	cfg    Config
	seed   uint64
	start_ time.Time
	rng    *rand.Rand // schedule
	Faults *rand.Rand // drawn from by Rules, in Judge and on delivery of hints
	Delays *rand.Rand
	jitter *rand.Rand
	driver *G
	bubble string

	mu       sync.Mutex
	log      *trace.Log
	gs       map[uintptr]*G
	live     map[*G]struct{}
	anon     *draws
	slots    []int // of timers, not yet given to a process
	procs    []*Proc
	parked   []*Entry // sorted
	arrived  chan struct{}
	current  *G // the one that was let go last
	ties     int
	failure  string
	failedAt time.Duration
	ending   bool
	endedAt  time.Duration
	mainDone bool

	ready    []*Entry // scratch of the driver
	lastLine time.Time
	instant  time.Time
	atOnce   int
}

// New makes a scheduler; it must be called, and Run, in a fresh bubble.
func New(cfg Config) *Sched {
	now := time.Now()
	return &Sched{
		cfg: cfg, seed: cfg.Seed, start_: now, bubble: bubbleOf(), lastLine: now,
		rng: rand.New(stream(cfg.Seed, streamSchedule)), Faults: rand.New(stream(cfg.Seed, streamFaults)),
		Delays: rand.New(stream(cfg.Seed, streamLatency)), jitter: rand.New(stream(cfg.Seed, streamJitter)),
		log: trace.New(now), gs: map[uintptr]*G{}, live: map[*G]struct{}{}, anon: newDraws("anon"),
		arrived: make(chan struct{}, 1),
	}
}

// Elapsed is the virtual age of the world; after its end, what that was.
func (s *Sched) Elapsed() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.elapsed()
}

func (s *Sched) elapsed() time.Duration {
	if s.ending {
		return s.endedAt
	}
	return time.Since(s.start_)
}

// Bubble is the text by which Stacks finds this world's goroutines.
func (s *Sched) Bubble() string { return s.bubble }

// Log is the trace; it may be read when the world has ended, or while the caller is the only one that runs.
func (s *Sched) Log() *trace.Log { return s.log }

// Tail gives the last n lines of the trace, at any time.
func (s *Sched) Tail(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Tail(n)
}

// Ties is the number of ties seen.
func (s *Sched) Ties() int { s.mu.Lock(); defer s.mu.Unlock(); return s.ties }

// Mark adds a line to the trace.
func (s *Sched) Mark(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.line().Mark(time.Now(), text)
	}
}

// Result completes the trace line of the operation g was let through.
func (s *Sched) Result(g *G, note string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != g || s.ending {
		return
	}
	res := "ok"
	if err != nil {
		res = err.Error()
	}
	s.log.Result(note, res)
}

// line is the log, with a line for the jump of time since the last one. The caller holds s.mu.
func (s *Sched) line() *trace.Log {
	now := time.Now()
	if d := now.Sub(s.lastLine); d >= 100*time.Millisecond {
		s.log.Mark(now, ".. +"+d.String())
	}
	s.lastLine = now
	return s.log
}

// Fail ends the world; the first text stays.
func (s *Sched) Fail(text string) {
	s.mu.Lock()
	if s.failure == "" && !s.ending {
		s.failure, s.failedAt = text, s.elapsed()
		head, _, _ := strings.Cut(text, "\n")
		s.line().Mark(time.Now(), "!! failed: "+head)
	}
	s.mu.Unlock()
	s.poke()
}

// Failure is why the world ended, and when; "" if it has not failed.
func (s *Sched) Failure() (string, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure, s.failedAt
}

// Abort ends the calling goroutine; in a check it ends the check.
func (s *Sched) Abort() {
	if s.OnDriver() {
		panic(abort{})
	}
	runtime.Goexit()
}

type abort struct{}

// OnDriver reports whether the caller is a check.
func (s *Sched) OnDriver() bool { return s.driver != nil && self() == s.driver.id }

// Mine reports whether the caller is a goroutine of this world that the scheduler knows.
func (s *Sched) Mine() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gs[self()] != nil
}

// Ended reports that the world is over or ending.
func (s *Sched) Ended() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.ending }

func (s *Sched) poke() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// Live names the goroutines that have not ended.
func (s *Sched) Live() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for g := range maps.Keys(s.live) {
		names = append(names, g.Name)
	}
	slices.Sort(names)
	return names
}

func (s *Sched) tie(a, b *Entry) {
	s.ties++
	if !s.cfg.Strict || s.failure != "" {
		return
	}
	text := fmt.Sprintf("tie: %s and %s both wait for %s key=%q; which of them is which is left to chance. Start goroutines with Env.Go or World.Go, named after their work",
		a.G.describe(), b.G.describe(), a.Op, a.Key)
	s.failure, s.failedAt = text, s.elapsed()
	s.line().Mark(time.Now(), "!! tie "+a.Name+" "+a.Op+" key="+a.Key)
}

// describe is the name of g and, where that says little, where it was started.
func (g *G) describe() string {
	if g.num == 0 {
		return g.Name
	}
	for _, st := range strings.Split(Stacks(g.s.bubble), "\n\n") {
		if strings.HasPrefix(st, fmt.Sprintf("goroutine %d ", g.num)) {
			if _, by, ok := strings.Cut(st, "created by "); ok {
				return g.Name + " (created by " + strings.Join(strings.Fields(by), " ") + ")"
			}
		}
	}
	return g.Name
}

// misuse is what a check that calls a shared operation is told.
func misuse(op string) string {
	return "a check called a shared operation (" + op + "): Always, Never and Eventually may only look at what is in memory"
}
