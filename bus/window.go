package bus

import (
	"sync"
	"time"
)

const (
	windowTime  = 10 * time.Minute
	windowLeast = 10_000
	windowMost  = 262_144
)

// window knows the ids of the last 10 minutes, at least the last 10 000 and at most 262 144. (Nova's keeps 16.)
type window struct {
	mu    sync.Mutex
	ids   map[string]uint64 // position
	ring  []seen            // from first on
	first uint64
	early int64 // evicted younger than 10 minutes
}

type seen struct {
	id string
	at time.Time
}

// add notes id; false if it was known.
func (w *window) add(id string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ids == nil {
		w.ids = map[string]uint64{}
	}
	if _, known := w.ids[id]; known {
		return false
	}
	for len(w.ring) > windowLeast && now.Sub(w.ring[0].at) >= windowTime {
		w.evict()
	}
	if len(w.ring) >= windowMost {
		w.early++
		w.evict()
	}
	w.ids[id] = w.first + uint64(len(w.ring))
	w.ring = append(w.ring, seen{id, now})
	return true
}

func (w *window) evict() {
	if old := w.ring[0]; old.id != "" && w.ids[old.id] == w.first {
		delete(w.ids, old.id)
	}
	w.ring[0] = seen{}
	w.ring = w.ring[1:]
	w.first++
}

// forget makes id unknown again: what it named has not run.
func (w *window) forget(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.ids[id]; ok {
		w.ring[at-w.first].id = ""
		delete(w.ids, id)
	}
}

func (w *window) evictedEarly() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.early
}
