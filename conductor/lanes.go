package conductor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/bus"
)

const (
	defaultWorkers = 64
	defaultPerHost = 8
	hostQueue      = 32
	liveWorkers    = 8
	busyAfter      = time.Second
)

// gate lets so many calls run at once, so many of each host: a host's wait in their order, hosts take turns.
type gate struct {
	perHost, queue int

	mu      sync.Mutex
	free    int
	lines   map[string]*line
	turn    []*line // with somebody waiting, the next one first
	running int
	idle    chan struct{} // closed when nothing runs or waits, while draining
}

// line is what one host has.
type line struct {
	host    string
	running int
	waiting []chan struct{}
}

func newGate(workers, perHost, queue int) *gate {
	return &gate{perHost: perHost, queue: queue, free: workers, lines: map[string]*line{}}
}

// enter waits for a place, which leave gives back; beyond the host's queue it is bus.ErrBusy.
func (g *gate) enter(ctx context.Context, host string) (leave func(), err error) {
	g.mu.Lock()
	l := g.lines[host]
	if l == nil {
		l = &line{host: host}
		g.lines[host] = l
	}
	if g.free > 0 && l.running < g.perHost && len(l.waiting) == 0 {
		g.begin(l)
		g.mu.Unlock()
		return func() { g.leave(l) }, nil
	}
	if len(l.waiting) >= g.queue {
		g.mu.Unlock()
		return nil, &bus.BusyError{What: "host " + host + " has " + "too many calls under way", RetryAfter: busyAfter}
	}
	c := make(chan struct{})
	if len(l.waiting) == 0 {
		g.turn = append(g.turn, l)
	}
	l.waiting = append(l.waiting, c)
	g.mu.Unlock()
	select {
	case <-c:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return func() { g.leave(l) }, nil
	}
	g.mu.Lock()
	i := slices.Index(l.waiting, c)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		if len(l.waiting) == 0 {
			g.turn = slices.DeleteFunc(g.turn, func(x *line) bool { return x == l })
		}
		g.forget(l)
	}
	g.mu.Unlock()
	if i < 0 { // it was let in at the same moment
		g.leave(l)
	}
	return nil, context.Cause(ctx)
}

// begin takes a place. The caller holds g.mu.
func (g *gate) begin(l *line) {
	g.free--
	g.running++
	l.running++
}

func (g *gate) leave(l *line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.running--
	l.running--
	g.forget(l)
	for g.free > 0 {
		i := slices.IndexFunc(g.turn, func(l *line) bool { return l.running < g.perHost })
		if i < 0 {
			break
		}
		next := g.turn[i]
		g.turn = slices.Delete(g.turn, i, i+1)
		c := next.waiting[0]
		next.waiting = next.waiting[1:]
		if len(next.waiting) > 0 {
			g.turn = append(g.turn, next)
		}
		g.begin(next)
		close(c)
	}
}

// forget drops a line that is empty. The caller holds g.mu.
func (g *gate) forget(l *line) {
	if l.running == 0 && len(l.waiting) == 0 && g.lines[l.host] == l {
		delete(g.lines, l.host)
	}
	if g.idle != nil && g.running == 0 && len(g.turn) == 0 {
		close(g.idle)
		g.idle = nil
	}
}

// load adds what runs, by host, and says how many wait.
func (g *gate) load(running map[string]int64) (waiting int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for host, l := range g.lines { // in any order
		running[host] += int64(l.running)
		waiting += int64(len(l.waiting))
	}
	return waiting
}

// drained is closed when nothing runs or waits.
func (g *gate) drained() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running == 0 && len(g.turn) == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	return g.idle
}
