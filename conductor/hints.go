package conductor

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/drover-cloud/drover/bus"
)

const maxWatched = 100_000

// hints are the topics that hosts want to hear of; a server tells them what its store hints.
type hints struct {
	s *Server

	mu    sync.Mutex
	until map[string]time.Time
	ctx   context.Context
	end   context.CancelFunc
	over  bool
}

// watch takes a host's topics.
func (h *hints) watch(ctx context.Context, m *bus.Message) ([]byte, error) {
	if _, err := h.s.peer(ctx); err != nil {
		return nil, bus.Expected(err)
	}
	var topics []string
	if err := json.Unmarshal(m.Body, &topics); err != nil || len(topics) > maxTopics {
		return nil, bus.Expected(errInvalid)
	}
	if h.s.cfg.Notify == nil {
		return nil, nil
	}
	until := h.s.env.Clock.Now().Add(watchFor)
	for _, t := range topics {
		if t != "" && len(subjectOf(t)) <= 255 && h.add(t, until) {
			h.listen(t)
		}
	}
	return nil, nil
}

// add says that the topic is new.
func (h *hints) add(topic string, until time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		h.until = map[string]time.Time{}
		h.ctx, h.end = context.WithCancel(context.Background())
	}
	_, known := h.until[topic]
	if h.over || !known && len(h.until) >= maxWatched {
		return false
	}
	h.until[topic] = until
	return !known
}

// listen tells of hints on topic until nobody has asked for a while.
func (h *hints) listen(topic string) {
	c, stop := h.s.cfg.Notify.Wake(topic)
	h.s.env.Go("conductor/hint/"+topic, func() {
		defer stop()
		for {
			h.mu.Lock()
			left := h.until[topic].Sub(h.s.env.Clock.Now())
			if left <= 0 || h.over {
				delete(h.until, topic)
				h.mu.Unlock()
				return
			}
			h.mu.Unlock()
			told := false
			select {
			case <-h.ctx.Done():
			case <-c:
				told = true
			case <-h.s.env.Clock.After(left):
			}
			if h.ctx.Err() != nil {
				return
			}
			if told {
				if err := h.s.cfg.Bus.Publish(h.ctx, nil, bus.Event{Subject: subjectOf(topic)}, bus.Timeout(time.Second)); err != nil {
					h.s.log.Debug("a hint was not told", "topic", topic, "err", err)
				}
			}
		}
	})
}

func (h *hints) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.end != nil {
		h.end()
	}
}
