package sched

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
	"unsafe"
)

// Proc is a process: one incarnation of a node.
type Proc struct {
	Name  string
	Owner any // the caller's

	s      *Sched
	anon   *draws
	slot   int // of its timers within a microsecond
	dead   bool
	frozen time.Time // until
	held   []heldTimer
	due    map[time.Time]tied // timers that wait

	// The clock, guarded by s.mu: monotonic time is mono + rate × what has passed since at; wall time is offset more.
	at, mono time.Time
	rate     float64
	offset   time.Duration
}

type heldTimer struct {
	when time.Time
	who  string
	n    int
	ch   chan time.Time
}

// tied are the timers of one instant.
type tied struct{ all, fired int }

// booted is the monotonic reading at the start of the world.
const booted = time.Hour

const (
	slots   = 62 // processes whose timers never tie
	perSlot = 16
)

// NewProc makes a process whose clock continues that of old, if not nil.
func (s *Sched) NewProc(name string, old *Proc) *Proc {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Proc{Name: name, s: s, anon: newDraws(name + "/anon"), at: s.start_, mono: s.start_, rate: 1}
	if old != nil {
		p.slot, p.at, p.mono, p.rate, p.offset = old.slot, old.at, old.mono, old.rate, old.offset
	} else {
		if len(s.slots) == 0 {
			s.slots = s.jitter.Perm(slots)
		}
		p.slot, s.slots = s.slots[0], s.slots[1:]
	}
	s.procs = append(s.procs, p)
	return p
}

// Kill marks p dead: its goroutines die at their next operation.
func (p *Proc) Kill() { p.s.mu.Lock(); p.dead = true; p.s.mu.Unlock(); p.s.poke() }

// Dead reports whether p was killed.
func (p *Proc) Dead() bool { p.s.mu.Lock(); defer p.s.mu.Unlock(); return p.dead }

// Freeze stops p for d, or on top of a longer freeze not at all.
func (p *Proc) Freeze(d time.Duration) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if t := time.Now().Add(d); t.After(p.frozen) {
		p.frozen = t
	}
}

// FrozenUntil is the end of the last freeze.
func (p *Proc) FrozenUntil() time.Time { p.s.mu.Lock(); defer p.s.mu.Unlock(); return p.frozen }

// Frozen reports whether p is frozen now.
func (p *Proc) Frozen() bool {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return time.Now().Before(p.frozen)
}

// Skew sets the distance of p's wall clock from the world's, and the rate of its clock.
func (p *Proc) Skew(offset time.Duration, rate float64) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	now := time.Now()
	p.mono = p.now(now)
	p.at, p.rate, p.offset = now, rate, offset
}

// now is p's monotonic time. The caller holds s.mu.
func (p *Proc) now(now time.Time) time.Time {
	d := now.Sub(p.at)
	if p.rate != 1 {
		d = time.Duration(float64(d) * p.rate)
	}
	return p.mono.Add(d)
}

// Now is p's clock: a jump of the wall clock leaves the monotonic reading alone, as on a real machine.
func (p *Proc) Now() time.Time {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.reading(time.Now())
}

// reading is what p's clock shows at now. The caller holds s.mu.
func (p *Proc) reading(now time.Time) time.Time {
	t := p.now(now)
	return withMonotonic(t.Add(p.offset), booted+t.Sub(p.s.start_))
}

// withMonotonic is t with a monotonic reading, which times in a bubble have not, in the layout of time.Time.
func withMonotonic(t time.Time, reading time.Duration) time.Time {
	const has, from1885 = 1 << 63, 2_682_288_000 // seconds from 1885 to 1970
	*(*[2]uint64)(unsafe.Pointer(&t)) = [2]uint64{has | uint64(t.Unix()+from1885)<<30 | uint64(t.Nanosecond()), uint64(reading)}
	return t
}

// After is a timer of p's clock. It never ties with another process's: each has its own part of the microsecond. Where goroutines of
// one process share theirs, one rests before the next goes on.
func (p *Proc) After(d time.Duration) <-chan time.Time {
	ch := make(chan time.Time, 1)
	if d <= 0 {
		ch <- p.Now()
		return ch
	}
	g := p.s.self(p)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.rate != 1 {
		d = time.Duration(math.Ceil(float64(d) / p.rate)) // never 0: a caller that waits for its clock's next tick would spin
	}
	g.timers++
	residue := 1 + p.slot*perSlot + int(g.draws.name%perSlot) // no counter in it: a loop may go round once more without effect
	when := time.Now().Add(d)
	d += time.Duration((residue - when.Nanosecond()%1000 + 1000) % 1000)
	h := heldTimer{when: time.Now().Add(d), who: g.Name, n: g.timers, ch: ch}
	if p.due == nil {
		p.due = map[time.Time]tied{}
	}
	same := p.due[h.when]
	same.all++
	p.due[h.when] = same
	time.AfterFunc(d, func() { p.fire(h) })
	return ch
}

func (p *Proc) fire(h heldTimer) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	same := p.due[h.when]
	if same.fired++; same.fired == same.all {
		delete(p.due, h.when)
	} else {
		p.due[h.when] = same
	}
	if !p.s.ending && (time.Now().Before(p.frozen) || same.all > 1) {
		p.held = append(p.held, h) // those of one instant come one at a time, see thaw
		p.s.poke()
		return
	}
	h.ch <- p.reading(time.Now())
}

// thaw delivers one timer that fired in a freeze that is over, or with others.
func (s *Sched) thaw(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		if len(p.held) == 0 || now.Before(p.frozen) {
			continue
		}
		slices.SortFunc(p.held, func(a, b heldTimer) int {
			return cmp.Or(a.when.Compare(b.when), strings.Compare(a.who, b.who), cmp.Compare(a.n, b.n))
		})
		h := p.held[0]
		p.held = p.held[1:]
		h.ch <- p.reading(now)
		return true
	}
	return false
}
