package sched

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// G is a goroutine the scheduler knows.
type G struct {
	Name string
	Proc *Proc // nil: the script's

	s      *Sched
	id     uintptr // by which self knows it
	num    int64   // of an anonymous one: its number in stacks
	ops    int     // operations begun
	timers int
	draws  *draws
	entry  Entry
	ch     chan Verdict
}

var idBuffers = sync.Pool{New: func() any { return new([48]byte) }}

// goid is the number of the calling goroutine, out of its stack's first line.
func goid() (id int64) {
	b := idBuffers.Get().(*[48]byte)
	n := runtime.Stack(b[:], false)
	for _, c := range b[len("goroutine "):n] {
		if c < '0' || c > '9' {
			break
		}
		id = id*10 + int64(c-'0')
	}
	idBuffers.Put(b)
	return id
}

// InBubble reports whether the caller runs in a testing/synctest bubble.
func InBubble() bool {
	var b [80]byte
	line, _, _ := strings.Cut(string(b[:runtime.Stack(b[:], false)]), "\n")
	return strings.Contains(line, "synctest bubble")
}

// bubbleOf is the text by which the stacks of the caller's bubble are known.
func bubbleOf() string {
	var b [120]byte
	line, _, _ := strings.Cut(string(b[:runtime.Stack(b[:], false)]), "\n")
	if _, t, ok := strings.Cut(line, "synctest bubble "); ok {
		return "synctest bubble " + strings.TrimRight(t, "]:") + "]"
	}
	return "synctest bubble"
}

func (s *Sched) newG(id uintptr, name string, p *Proc, d *draws) *G {
	return &G{Name: name, Proc: p, s: s, id: id, draws: d, ch: make(chan Verdict, 1)}
}

// self is the calling goroutine; one that nobody named becomes p's (or the script's) anonymous one.
func (s *Sched) self(p *Proc) *G {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.gs[self()]; g != nil {
		return g
	}
	name, d := "anon", s.anon
	if p != nil {
		name, d = p.Name+"/anon", p.anon
	}
	g := s.newG(0, name, p, d) // not kept: nobody says when it ends
	g.num = goid()
	return g
}

// Self is the calling goroutine, of process p if nobody knows it yet.
func (s *Sched) Self(p *Proc) *G { return s.self(p) }

// Go starts f as p's goroutine named after its parent and its work: "n1/jobs" by the process's first goroutine,
// "n1/jobs>job/42" by another, with #2, #3… when the parent starts the name again.
func (p *Proc) Go(name string, f func()) {
	parent := p.s.self(p)
	full := parent.Name + ">" + name
	switch {
	case parent.Proc != p:
		full = p.Name + "/" + full
	case parent.Name == p.Name:
		full = p.Name + "/" + name
	}
	p.s.start(parent, full, p, f)
}

// Start starts the first goroutine of p; done is called after its end.
func (p *Proc) Start(f func()) {
	p.s.start(p.s.self(nil), p.Name, p, f)
}

// Go starts a goroutine of the script, which the scheduler lets begin.
func (s *Sched) Go(name string, f func()) {
	s.start(s.self(nil), name, nil, func() {
		s.wait(&Entry{kind: scriptEntry, Op: "start"})
		f()
	})
}

func (s *Sched) start(parent *G, full string, p *Proc, f func()) {
	s.mu.Lock()
	if parent.draws.kids == nil {
		parent.draws.kids = map[string]int{}
	}
	parent.draws.kids[full]++
	if n := parent.draws.kids[full]; n > 1 {
		full += "#" + strconv.Itoa(n)
	}
	g := s.newG(0, full, p, newDraws(full))
	s.live[g] = struct{}{}
	s.mu.Unlock()
	go func() {
		g.id = self()
		s.mu.Lock()
		s.gs[g.id] = g
		s.mu.Unlock()
		defer func() {
			if v := recover(); v != nil {
				s.panicked(g, v)
			}
			s.mu.Lock()
			delete(s.gs, g.id)
			delete(s.live, g)
			s.mu.Unlock()
			s.poke()
		}()
		if p != nil {
			s.begin(g)
		}
		f()
	}()
}

// panicked ends the world: a panic in host code fails its seed only. What a dead process does says nothing.
func (s *Sched) panicked(g *G, v any) {
	s.mu.Lock()
	quiet := s.ending || g.Proc != nil && g.Proc.dead
	s.mu.Unlock()
	if !quiet {
		s.Fail(fmt.Sprintf("panic in %s: %v\n%s", g.Name, v, debug.Stack()))
	}
}

// Stacks gives the stacks of this bubble's goroutines, but for the ones of the test framework and the driver.
func Stacks(bubble string) string {
	buf := make([]byte, 1<<20)
	var out []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		line, _, _ := strings.Cut(g, "\n")
		if strings.Contains(line, bubble) && !strings.Contains(g, "testing.tRunner(") && !strings.Contains(g, "testingSynctestTest") &&
			!strings.Contains(g, "synctest.Run(") {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}
