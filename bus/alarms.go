package bus

import (
	"container/heap"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// alarm is a deadline in the heap of its bus. One goroutine and one timer of the clock serve them all.
type alarm struct {
	at    time.Time
	seq   uint64
	index int // in the heap, from 1; 0: not set
	owner interface {
		fire()
		name() string
	}
}

// alarms call their owner's fire when an alarm's time has come, apart if several have; fire does not block, and may come when the
// alarm was just unset or set to another time.
type alarms struct {
	env drover.Env

	mu      sync.Mutex
	heap    alarmHeap
	seq     uint64
	running bool
	next    time.Time // that the goroutine sleeps until
	wake    chan struct{}
	keep    bool // the goroutine when nothing is set
}

func newAlarms(env drover.Env) *alarms { return &alarms{env: env, wake: make(chan struct{}, 1)} }

// set sets or moves a.
func (s *alarms) set(a *alarm, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	a.at, a.seq = at, s.seq
	if a.index > 0 {
		heap.Fix(&s.heap, a.index-1)
	} else {
		heap.Push(&s.heap, a)
	}
	if !s.running {
		s.running = true
		s.env.Go("bus/alarms", s.run)
	} else if s.heap[0] == a && at.Before(s.next) {
		s.poke()
	}
}

// unset takes a out; it does not fire any more, unless it is firing.
func (s *alarms) unset(a *alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.index > 0 {
		heap.Remove(&s.heap, a.index-1)
	}
	if len(s.heap) == 0 && !s.keep {
		s.poke()
	}
}

// hold keeps the goroutine for coming alarms, or lets it end as soon as nothing is set.
func (s *alarms) hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = on
	s.poke()
}

func (s *alarms) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

const dozes = time.Duration(1 << 62) // with nothing set

func (s *alarms) run() {
	var due []*alarm
	for {
		s.mu.Lock()
		now := s.env.Clock.Now()
		for len(s.heap) > 0 && !s.heap[0].at.After(now) {
			due = append(due, heap.Pop(&s.heap).(*alarm))
		}
		if len(due) > 0 {
			s.mu.Unlock()
			for _, a := range due {
				if len(due) == 1 {
					a.owner.fire()
				} else {
					s.env.Go("bus/alarm/"+a.owner.name(), a.owner.fire)
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

type alarmHeap []*alarm

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push adds an *alarm.
func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
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
