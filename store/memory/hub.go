package memory

import (
	"slices"
	"sync"
)

// hub fans hints out to coalescing channels of capacity 1.
type hub struct {
	mu   sync.Mutex
	subs map[string][]*sub
}

type sub struct{ c chan struct{} }

func (h *hub) Wake(topic string) (<-chan struct{}, func()) {
	w := &sub{make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[string][]*sub{}
	}
	h.subs[topic] = append(h.subs[topic], w)
	return w.c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		i := slices.Index(h.subs[topic], w)
		if i < 0 {
			return // stopped before
		}
		if h.subs[topic] = slices.Delete(h.subs[topic], i, i+1); len(h.subs[topic]) == 0 {
			delete(h.subs, topic)
		}
	}
}

// send wakes the sleepers on each topic once.
func (h *hub) send(topics []string) {
	if len(topics) == 0 {
		return
	}
	var sent map[string]bool
	if len(topics) > 1 {
		sent = make(map[string]bool, len(topics))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		if sent[t] {
			continue
		}
		if sent != nil {
			sent[t] = true
		}
		for _, w := range h.subs[t] {
			select {
			case w.c <- struct{}{}:
			default:
			}
		}
	}
}
