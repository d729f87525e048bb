package agent

import (
	"context"
	"slices"
	"sync"
)

// slots bound exchanges, per host and in total. Those that wait for one host are served in order of arrival, hosts in turn.
type slots struct {
	perHost, total int

	mu      sync.Mutex
	used    int
	waiting int
	hosts   map[string]*hostSlots
	ready   []*hostSlots // that have room and somebody waiting
}

type hostSlots struct {
	name  string
	used  int
	queue []chan struct{}
	ready bool // in slots.ready
}

func newSlots(perHost, total int) *slots {
	return &slots{perHost: perHost, total: total, hosts: map[string]*hostSlots{}}
}

// take waits for a slot of host, or gives ctx's cause.
func (s *slots) take(ctx context.Context, host string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	h := s.hosts[host]
	if h == nil {
		h = &hostSlots{name: host}
		s.hosts[host] = h
	}
	if h.used < s.perHost && s.used < s.total && len(h.queue) == 0 && len(s.ready) == 0 {
		h.used++
		s.used++
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	h.queue = append(h.queue, turn)
	s.waiting++
	s.settle(h)
	s.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(h.queue, turn); i >= 0 {
		h.queue = slices.Delete(h.queue, i, i+1)
		s.waiting--
	} else { // the turn came at the same time
		h.used--
		s.used--
	}
	s.settle(h)
	s.drop(h)
	return context.Cause(ctx)
}

// free gives a slot of host on.
func (s *slots) free(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[host]
	h.used--
	s.used--
	s.settle(h)
	s.drop(h)
}

// settle notes whether h can go on, and serves whoever can. The caller holds the mutex.
func (s *slots) settle(h *hostSlots) {
	if !h.ready && h.used < s.perHost && len(h.queue) > 0 {
		h.ready = true
		s.ready = append(s.ready, h)
	}
	for s.used < s.total && len(s.ready) > 0 {
		h := s.ready[0]
		s.ready = s.ready[1:]
		h.ready = false
		if len(h.queue) == 0 {
			s.drop(h)
			continue
		}
		close(h.queue[0])
		h.queue = h.queue[1:]
		h.used++
		s.used++
		s.waiting--
		if h.used < s.perHost && len(h.queue) > 0 {
			h.ready = true
			s.ready = append(s.ready, h)
		}
	}
}

// drop forgets a host that nobody uses.
func (s *slots) drop(h *hostSlots) {
	if h.used == 0 && len(h.queue) == 0 && !h.ready {
		delete(s.hosts, h.name)
	}
}

func (s *slots) sizes() (used, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.waiting
}

// errands are exchanges that nobody waits for. Each host has at most four goroutines for its own, in order of arrival, and none
// when there are none.
type errands struct {
	start func(name string, f func())
	mu    sync.Mutex
	hosts map[string]*errandLine
}

type errandLine struct {
	queue   []func()
	running int
}

const errandsPerHost = 4

// add has f run soon.
func (e *errands) add(host string, f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hosts == nil {
		e.hosts = map[string]*errandLine{}
	}
	l := e.hosts[host]
	if l == nil {
		l = &errandLine{}
		e.hosts[host] = l
	}
	l.queue = append(l.queue, f)
	if l.running < errandsPerHost {
		l.running++
		e.start("agent/errands/"+host, func() { e.run(host, l) })
	}
}

func (e *errands) run(host string, l *errandLine) {
	for {
		e.mu.Lock()
		if len(l.queue) == 0 {
			if l.running--; l.running == 0 {
				delete(e.hosts, host)
			}
			e.mu.Unlock()
			return
		}
		f := l.queue[0]
		l.queue = l.queue[1:]
		e.mu.Unlock()
		f()
	}
}
