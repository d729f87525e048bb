// Package alarm wakes many owners at their times with one goroutine and one timer of the clock.
package alarm

import (
	"container/heap"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// Owner is called when its alarm's time has come; Fire does not block.
type Owner interface{ Fire() }

// Alarm is a deadline in a Set.
type Alarm struct {
	Owner Owner

	at    time.Time
	seq   uint64
	index int // in the heap, from 1; 0: not set
}

// Set calls the owners' Fire when their alarms' time has come, in order of time and then of setting. It may come when the alarm was just
// unset or set to another time.
type Set struct {
	// Apart, if set, has several owners whose time has come fire on goroutines of their own, with the names that it gives.
	Apart func(Owner) string

	env  drover.Env
	name string

	mu      sync.Mutex
	heap    alarmHeap
	seq     uint64
	running bool
	next    time.Time // that the goroutine sleeps until
	wake    chan struct{}
	keep    bool // the goroutine when nothing is set
	stopped bool
}

// New makes a Set whose goroutine has this name; it runs while anything is set.
func New(env drover.Env, name string) *Set {
	return &Set{env: env, name: name, wake: make(chan struct{}, 1)}
}

// Set sets or moves a.
func (s *Set) Set(a *Alarm, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.seq++
	a.at, a.seq = at, s.seq
	if a.index > 0 {
		heap.Fix(&s.heap, a.index-1)
	} else {
		heap.Push(&s.heap, a)
	}
	if !s.running {
		s.running = true
		s.env.Go(s.name, s.run)
	} else if s.heap[0] == a && at.Before(s.next) {
		s.poke()
	}
}

// Unset takes a out; it does not fire any more, unless it is firing.
func (s *Set) Unset(a *Alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.index > 0 {
		heap.Remove(&s.heap, a.index-1)
	}
	if len(s.heap) == 0 && !s.keep {
		s.poke()
	}
}

// Hold keeps the goroutine for coming alarms, or lets it end as soon as nothing is set.
func (s *Set) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = on
	s.poke()
}

// Stop takes out all; nothing fires any more, and nothing can be set.
func (s *Set) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.heap {
		a.index = 0
	}
	s.heap, s.keep, s.stopped = nil, false, true
	s.poke()
}

func (s *Set) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

const dozes = time.Duration(1 << 62) // with nothing set

func (s *Set) run() {
	var due []*Alarm
	for {
		s.mu.Lock()
		now := s.env.Clock.Now()
		for len(s.heap) > 0 && !s.heap[0].at.After(now) && (s.Apart != nil || len(due) == 0) {
			due = append(due, heap.Pop(&s.heap).(*Alarm))
		}
		if len(due) > 0 {
			s.mu.Unlock()
			for _, a := range due {
				if len(due) == 1 {
					a.Owner.Fire()
				} else {
					s.env.Go(s.name+"/"+s.Apart(a.Owner), a.Owner.Fire)
				}
			}
			due = due[:0]
			continue
		}
		if len(s.heap) == 0 && !s.keep {
			s.running = false
			s.mu.Unlock()
			return
		}
		if len(s.heap) == 0 {
			s.next = now.Add(dozes)
			s.mu.Unlock()
			<-s.wake
			continue
		}
		s.next = s.heap[0].at
		timer := s.env.Clock.After(max(s.next.Sub(now), time.Microsecond)) // a clock at another rate may round to nothing
		s.mu.Unlock()
		select {
		case <-timer:
		case <-s.wake:
		}
	}
}

type alarmHeap []*Alarm

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push adds an *Alarm.
func (h *alarmHeap) Push(x any) {
	a := x.(*Alarm)
	a.index = len(*h) + 1
	*h = append(*h, a)
}

// Pop takes out the last.
func (h *alarmHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.index = 0
	return a
}
