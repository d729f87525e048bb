package postgres

import (
	"strings"
	"sync"
)

// hub fans hints out to the sleepers of this process, over coalescing channels of capacity 1.
type hub struct {
	mu   sync.Mutex
	subs map[string]map[*chan struct{}]struct{}
	n    int
	jobs int // topics of single jobs in subs
}

func (h *hub) add(topic string) *chan struct{} {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[string]map[*chan struct{}]struct{}{}
	}
	if h.subs[topic] == nil {
		h.subs[topic] = map[*chan struct{}]struct{}{}
		h.jobs += isJob(topic)
	}
	h.subs[topic][&c] = struct{}{}
	h.n++
	return &c
}

// remove answers how many sleepers are left; a second time it does nothing.
func (h *hub) remove(topic string, c *chan struct{}) (left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subs[topic][c]; ok {
		delete(h.subs[topic], c)
		h.n--
		if len(h.subs[topic]) == 0 {
			delete(h.subs, topic)
			h.jobs -= isJob(topic)
		}
	}
	return h.n
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// send wakes topic's sleepers; "job/*" those of all topics that begin with "job/", "*" all.
func (h *hub) send(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	prefix, wide := strings.CutSuffix(topic, "*")
	if !wide {
		wake(h.subs[topic])
		return
	}
	for t, subs := range h.subs {
		if strings.HasPrefix(t, prefix) {
			wake(subs)
		}
	}
}

// sendAll wakes the sleepers of exact topics.
func (h *hub) sendAll(hints []hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		return
	}
	for _, t := range hints {
		if h.jobs > 0 || isJob(t.topic) == 0 { // a batch has many, and mostly nobody waits
			wake(h.subs[t.topic])
		}
	}
}

// isJob is 1 for the topic of a single job.
func isJob(topic string) int {
	if strings.HasPrefix(topic, "job/") {
		return 1
	}
	return 0
}

func wake(subs map[*chan struct{}]struct{}) {
	for c := range subs {
		select {
		case *c <- struct{}{}:
		default:
		}
	}
}
