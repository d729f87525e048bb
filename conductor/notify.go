package conductor

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/bus"
)

const (
	hintSubject = "drover.hint"
	watchEvery  = 30 * time.Second // a host says what it wants to hear
	watchFor    = 90 * time.Second // a server listens for it so long
	maxTopics   = 1000
	callWatch   = "watch"
)

// subjectOf is where hints on topic are told: what a subject's segment cannot hold is written in hex.
func subjectOf(topic string) string {
	var b strings.Builder
	b.WriteString(hintSubject + ".")
	for i := range len(topic) {
		switch c := topic[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == ':', c == '-':
			b.WriteByte(c)
		default:
			b.WriteByte('_')
			b.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

// wakes are the sleepers of a host.
type wakes struct {
	c *Client

	mu     sync.Mutex
	topics map[string]*heard
	poke   chan struct{}
}

// heard is a topic with its sleepers.
type heard struct {
	sleepers []chan struct{}
	stop     func()
}

// Wake subscribes to topic.
func (w *wakes) Wake(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	subject := subjectOf(topic)
	if len(topic) == 0 || len(subject) > 255 {
		return c, func() {} // nobody can tell of it: the sleeper polls
	}
	w.mu.Lock()
	if w.topics == nil {
		w.topics = map[string]*heard{}
	}
	h := w.topics[topic]
	first := h == nil
	if first {
		h = &heard{}
		w.topics[topic] = h
	}
	h.sleepers = append(h.sleepers, c)
	w.mu.Unlock()
	if first {
		stop := w.c.bus.Subscribe(subject+"$", func(context.Context, bus.Event) { w.hint(topic) })
		w.mu.Lock()
		if len(h.sleepers) > 0 {
			h.stop, stop = stop, nil
		}
		w.mu.Unlock()
		if stop != nil {
			stop()
		}
		w.hurry()
	}
	var once sync.Once
	return c, func() { once.Do(func() { w.leave(topic, h, c) }) }
}

func (w *wakes) leave(topic string, h *heard, c chan struct{}) {
	w.mu.Lock()
	for i, s := range h.sleepers {
		if s == c {
			h.sleepers = append(h.sleepers[:i:i], h.sleepers[i+1:]...)
			break
		}
	}
	var stop func()
	if len(h.sleepers) == 0 && w.topics[topic] == h {
		delete(w.topics, topic)
		stop, h.stop = h.stop, nil
	}
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (w *wakes) hint(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.topics[topic]; h != nil {
		h.wake()
	}
}

func (h *heard) wake() {
	for _, c := range h.sleepers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// all wakes everybody: hints may have been lost.
func (w *wakes) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range sorted(w.topics) {
		w.topics[t].wake()
	}
}

// hurry makes run tell at once.
func (w *wakes) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poke != nil {
		select {
		case w.poke <- struct{}{}:
		default:
		}
	}
}

// run tells servers what this host wants to hear.
func (w *wakes) run(ctx context.Context) {
	poke := make(chan struct{}, 1)
	w.mu.Lock()
	w.poke = poke
	w.mu.Unlock()
	for ctx.Err() == nil {
		w.mu.Lock()
		topics := sorted(w.topics)
		w.mu.Unlock()
		if len(topics) > 0 {
			body, _ := json.Marshal(topics[:min(len(topics), maxTopics)])
			err := w.c.bus.Cast(ctx, &bus.Message{Topic: w.c.cfg.Topic, Fanout: true, Namespace: spaceTx, Method: callWatch, Version: version, Body: body}, bus.Timeout(watchEvery/3))
			if err != nil && ctx.Err() == nil {
				w.c.log.Debug("no server was told what to hint", "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-poke:
		case <-w.c.env.Clock.After(watchEvery):
		}
	}
}
