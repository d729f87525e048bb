// Package memory carries messages between the buses of one process: for hosts of one node, and for tests.
//
//	var hub memory.Hub
//	b := bus.New(hub.Open("n1"), bus.Config{Env: drover.Env{Node: "n1"}})
//
// # Guarantees
//
//   - A message is accepted when its receiver has queued it; one that nobody receives is bus.ErrNoRoute at once.
//   - Receivers of a topic take turns.
//   - Messages of one sender to one receiver arrive in the order of their Sends.
//   - A node cannot send in another's name.
//
// # Not guaranteed
//
//   - That anything survives the process.
package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/drover-cloud/drover/bus"
)

// Hub joins the nodes of one process. Its zero value is ready.
type Hub struct {
	mu sync.Mutex
	at map[bus.Address]*place
	// events are receivers of patterns, in order of coming.
	events []*receiver
}

// place is an address with its receivers, in order of coming.
type place struct {
	receivers []*receiver
	next      int
}

type receiver struct {
	a bus.Address
	h bus.Handler
}

// Transport is a node's end of a Hub.
type Transport struct {
	hub  *Hub
	node string
}

// Open gives node its end.
func (h *Hub) Open(node string) *Transport { return &Transport{h, node} }

// Peer is the sender: a Hub lets nobody send in another's name.
func (t *Transport) Peer(m *bus.Message) (string, bool) { return m.Wire.From, true }

// Prompt says that Send waits for nothing.
func (t *Transport) Prompt() bool { return true }

// Send delivers m within the call.
func (t *Transport) Send(ctx context.Context, m *bus.Message) error {
	if m.Wire.From != t.node {
		return fmt.Errorf("%w: %s sends in the name of %s", bus.ErrInvalid, t.node, m.Wire.From)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", bus.ErrNotSent, context.Cause(ctx))
	}
	a := m.Address()
	if a.Events || a.Fanout { // each listener for itself
		for _, r := range t.hub.all(a) {
			_ = r.h.Handle(ctx, m.Clone())
		}
		return nil
	}
	if r := t.hub.one(a); r != nil {
		return r.h.Handle(ctx, m)
	}
	return fmt.Errorf("%w: %s", bus.ErrNoRoute, a)
}

// all are those who listen at a.
func (h *Hub) all(a bus.Address) (to []*receiver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.at[a]; !a.Events && p != nil {
		return slices.Clone(p.receivers)
	}
	for _, r := range h.events {
		if a.Events && r.a.Matches(a.Subject) {
			to = append(to, r)
		}
	}
	return to
}

// one is whose turn it is at a, nil if nobody listens.
func (h *Hub) one(a bus.Address) *receiver {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.at[a]
	if p == nil || len(p.receivers) == 0 {
		return nil
	}
	r := p.receivers[p.next%len(p.receivers)]
	p.next = (p.next + 1) % len(p.receivers)
	return r
}

// Receive gives h what comes to a until ctx ends.
func (t *Transport) Receive(ctx context.Context, a bus.Address, h bus.Handler) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := &receiver{a, h}
	t.hub.add(r)
	defer t.hub.remove(r)
	bus.Standing(h)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (h *Hub) add(r *receiver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.a.Events {
		h.events = append(h.events, r)
		return
	}
	if h.at == nil {
		h.at = map[bus.Address]*place{}
	}
	p := h.at[r.a]
	if p == nil {
		p = &place{}
		h.at[r.a] = p
	}
	p.receivers = append(p.receivers, r)
}

func (h *Hub) remove(r *receiver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	same := func(x *receiver) bool { return x == r }
	if r.a.Events {
		h.events = slices.DeleteFunc(h.events, same)
		return
	}
	p := h.at[r.a]
	if p.receivers = slices.DeleteFunc(p.receivers, same); len(p.receivers) == 0 {
		delete(h.at, r.a)
	}
}
