// Package hub wakes the sleepers of one process: the in-process part of every store's Notifier.
package hub

import "sync"

// Hub fans hints out to coalescing channels of capacity 1. The zero value is ready; it may be used concurrently.
type Hub struct {
	mu   sync.Mutex
	subs map[string]map[chan struct{}]struct{}
}

// Wake subscribes to topic until stop is called.
func (h *Hub) Wake(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[string]map[chan struct{}]struct{}{}
	}
	if h.subs[topic] == nil {
		h.subs[topic] = map[chan struct{}]struct{}{}
	}
	h.subs[topic][c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs[topic], c)
		if len(h.subs[topic]) == 0 {
			delete(h.subs, topic)
		}
	}
}

// Send wakes the sleepers on each topic, once however often it is named; it never blocks.
func (h *Hub) Send(topics []string) {
	if len(topics) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var sent map[string]bool
	for _, t := range topics { // most have no sleeper
		subs := h.subs[t]
		if len(subs) == 0 || sent[t] {
			continue
		}
		if len(topics) > 1 {
			if sent == nil {
				sent = map[string]bool{}
			}
			sent[t] = true
		}
		for c := range subs {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}
