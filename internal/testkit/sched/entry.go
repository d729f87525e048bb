package sched

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/watchlock"
)

type entryKind uint8

const (
	opEntry     entryKind = iota // a shared operation
	postEntry                    // an event of the world, without goroutine
	startEntry                   // a goroutine of a node that begins
	holdEntry                    // an operation's end that the node does not see yet
	scriptEntry                  // a script goroutine until a time
	restEntry                    // a script goroutine until all others rest
	settleEntry                  // … and until nothing can run at this instant
	untilEntry                   // … and until something is true
)

// Entry is a goroutine parked before a shared operation.
type Entry struct {
	G       *G
	Proc    *Proc // whose interface is called; nil: the world's
	Name    string
	Op, Key string
	N       int             // per goroutine
	Ctx     context.Context // of the operation; nil: none
	InTx    bool            // part of an open transaction
	Judged  bool            // a delay was drawn already

	kind    entryKind
	until   time.Time
	call    func()
	what    string
	ok      func() bool
	unwatch func() bool
}

// IsOp reports that e is an operation; IsHold, that it is the end of one.
func (e *Entry) IsOp() bool   { return e.kind == opEntry }
func (e *Entry) IsHold() bool { return e.kind == holdEntry }

func compare(a, b *Entry) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if c := strings.Compare(a.Op, b.Op); c != 0 {
		return c
	}
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return cmp.Compare(a.N, b.N)
}

// Yield parks the caller before an operation on p's interfaces until the driver lets it go. It does not return if the
// caller is to die. A caller under a lock of package watchlock fails the world.
func (p *Proc) Yield(g *G, ctx context.Context, op, key string, inTx bool) Verdict {
	if by, under := watchlock.Caller(); under {
		p.s.Fail(fmt.Sprintf("%s called by %s under a lock that %s took: nothing may wait for it", op, g.Name, by))
	}
	e := &g.entry
	*e = Entry{Proc: p, Ctx: ctx, Op: op, Key: key, InTx: inTx}
	return p.s.park(g, e)
}

// Held parks the caller, whose operation is done, as long as Rules find what is not ready or p is frozen.
func (p *Proc) Held(g *G, ctx context.Context, what string) error {
	e := &g.entry
	*e = Entry{Proc: p, Ctx: ctx, Op: what, kind: holdEntry}
	return p.s.park(g, e).Err
}

// Post hands the driver an event of p, by who, to be let happen at a point of its own, not before wait is over.
func (p *Proc) Post(who, op, key string, n int, wait time.Duration, call func()) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.ending || p.dead {
		return
	}
	p.s.insert(&Entry{Proc: p, Name: p.Name + "/" + who, Op: op, Key: key, N: n, kind: postEntry, until: time.Now().Add(wait), call: call})
}

func (s *Sched) park(g *G, e *Entry) Verdict {
	if g == s.driver {
		panic(misuse(e.Op))
	}
	s.mu.Lock()
	e.G, e.Name = g, g.Name
	if e.kind == opEntry {
		g.ops++
	}
	e.N = g.ops
	if s.ending || g.Proc != nil && g.Proc.dead {
		s.mu.Unlock()
		runtime.Goexit()
	}
	if e.Proc != nil && e.Proc.dead {
		s.mu.Unlock()
		return Verdict{Kind: Fail, Err: s.cfg.Crashed}
	}
	s.insert(e)
	s.mu.Unlock()
	v := <-g.ch
	if v.Kind == Die {
		runtime.Goexit()
	}
	return v
}

// begin parks a goroutine before its first step, so that goroutines never begin beside others. A dead process's begin at
// once: they end at their first operation, and whoever waits for them hears of it.
func (s *Sched) begin(g *G) {
	e := &g.entry
	*e = Entry{G: g, Proc: g.Proc, Name: g.Name, Op: "start", kind: startEntry}
	s.mu.Lock()
	if s.ending || g.Proc.dead {
		s.mu.Unlock()
		return
	}
	s.insert(e)
	s.mu.Unlock()
	<-g.ch
}

// insert keeps s.parked sorted. The caller holds s.mu.
func (s *Sched) insert(e *Entry) {
	i, _ := slices.BinarySearchFunc(s.parked, e, compare)
	if e.kind == opEntry {
		for _, j := range []int{i - 1, i} {
			if j >= 0 && j < len(s.parked) {
				if f := s.parked[j]; f.kind == opEntry && f.Name == e.Name && f.Op == e.Op && f.Key == e.Key && f.G != e.G {
					s.tie(f, e)
					break
				}
			}
		}
	}
	s.parked = slices.Insert(s.parked, i, e)
	s.poke()
}

// wait parks a script goroutine.
func (s *Sched) wait(e *Entry) Verdict {
	g := s.self(nil)
	e.Key = ""
	return s.park(g, e)
}

// Advance lets d of virtual time pass.
func (s *Sched) Advance(d time.Duration) {
	s.wait(&Entry{kind: scriptEntry, Op: "world.advance", until: time.Now().Add(d)})
}

// Rest waits until all other goroutines have come to rest.
func (s *Sched) Rest() { s.wait(&Entry{kind: restEntry, Op: "world.rest"}) }

// Settle waits until nothing can run at this instant.
func (s *Sched) Settle() { s.wait(&Entry{kind: settleEntry, Op: "world.settle"}) }

// Until waits until ok holds, which is looked at after every operation, and fails the world after d.
func (s *Sched) Until(d time.Duration, what string, ok func() bool) {
	s.wait(&Entry{kind: untilEntry, Op: "world.eventually", until: time.Now().Add(d), what: what, ok: ok})
}
