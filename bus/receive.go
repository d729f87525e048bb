package bus

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
)

// deliver takes a frame from the transport, or from this very node. Nil acknowledges.
func (b *Bus) deliver(m *Message) error {
	if m.Wire.Kind == KindUnrouted && m.Wire.From == "" { // of our own end, which no other can claim
		b.waiters.unrouted(m.ID)
		return nil
	}
	if !b.proven(m) {
		b.count.forged.Add(1)
		b.log.Warn("a frame of a false sender was refused", "claims", m.Wire.From, "kind", m.Wire.Kind.String())
		return nil
	}
	switch m.Wire.Kind {
	case KindCall, KindCast:
		return b.admit(m)
	case KindEvent:
		b.events.arrived(m)
	case KindReply:
		if !b.waiters.frame(b, m) {
			b.count.late.Add(1)
		}
	case KindAccepted, KindBeat:
		if !b.waiters.frame(b, m) { // its caller has gone: who executes it is to know
			b.sendCancel(m, m.Wire.From)
		}
	case KindCancel:
		b.pool.cancel(m)
	case KindProbe:
	default:
		b.count.garbage.Add(1)
	}
	return nil
}

// proven asks the transport who sent m.
func (b *Bus) proven(m *Message) bool {
	if m.Wire.From == b.node && m.Wire.Inc == b.inc {
		return true
	}
	p, ok := b.t.(interface {
		Peer(m *Message) (string, bool)
	})
	if !ok {
		return true
	}
	node, sure := p.Peer(m)
	m.Wire.Proven = sure
	return !sure || node == m.Wire.From
}

// admit checks a call or cast and queues it for a worker.
func (b *Bus) admit(m *Message) error {
	if m.Wire.From == "" || m.ID == "" {
		b.count.garbage.Add(1)
		return nil
	}
	named := *m
	if m.Key != "" {
		named.Node = "" // the owner, by its sender's view
	}
	if err := named.check(); err != nil {
		b.count.garbage.Add(1)
		return b.refuse(m, err)
	}
	if len(m.Body) > b.cfg.MaxBody {
		return b.refuse(m, invalid("a body of %d bytes, at most %d", len(m.Body), b.cfg.MaxBody))
	}
	b.mu.Lock()
	p := b.phase
	b.mu.Unlock()
	if p == draining || p == over {
		return b.refuse(m, errDraining)
	}
	now := b.env.Clock.Now()
	r := &request{b: b, m: m, arrived: now}
	r.Owner = r
	if b.lanes.prompt { // the sender still reads what it has sent
		r.own = *m
		r.m = &r.own
	}
	if m.Wire.Sent != 0 && m.Wire.Deadline != 0 {
		offset := int64(0)
		if m.Wire.From != b.node {
			nanos, jumps := b.stamp.read(now)
			offset = b.clocks.offset(m.Wire.From, m.Wire.Inc, m.Wire.Clock, m.Wire.Sent, nanos, jumps)
		}
		left := time.Duration(m.Wire.Deadline + offset - now.UnixNano())
		if left <= 0 {
			b.count.expired.Add(1)
			return nil
		}
		r.deadline = now.Add(left)
	}
	if m.Wire.Again {
		b.count.duplicates.Add(1)
		return b.refuse(m, &fault{kind: ErrNodeLost, text: "delivered a second time"})
	}
	if !b.window.add(m.ID, now) {
		b.count.duplicates.Add(1)
		return nil
	}
	err := b.take(r)
	if err != nil {
		b.window.forget(m.ID)
	}
	return err
}

// take finds who handles r and queues it.
func (b *Bus) take(r *request) error {
	m := r.m
	t := b.topics.get(m.Topic)
	if t == nil {
		return b.refuse(m, noRoute(m.Topic+" is not served here"))
	}
	if m.Namespace == baseNamespace {
		return b.base(t, r)
	}
	var err error
	if r.ep, r.f, err = t.find(m); err != nil {
		return b.refuse(m, err)
	}
	if m.Key != "" && b.cfg.Members != nil {
		return b.owned(r)
	}
	return b.enqueue(r)
}

func (b *Bus) enqueue(r *request) error {
	r.begin()
	if err := b.pool.admit(r); err != nil {
		r.end()
		b.count.rejected.Add(1)
		return b.refuse(r.m, err)
	}
	return nil
}

// refuse tells a caller that nothing ran; a cast's sender learns it from the transport, if at all.
func (b *Bus) refuse(m *Message, err error) error {
	if m.Wire.Kind == KindCall {
		b.reply(m, nil, refusal(err, b.node), time.Time{})
		b.window.forget(m.ID)
		return nil
	}
	return err
}

// reply answers m. It is tried while its lane allows, until the call's deadline.
func (b *Bus) reply(m *Message, body []byte, failure string, deadline time.Time) {
	if m.Wire.From == b.node || b.lanes.prompt { // nobody writes it down: the handler may have kept it
		body = slices.Clone(body)
	}
	a := &Message{
		ID: m.ID, Topic: m.Topic, Node: m.Wire.From, Method: m.Method, Body: body,
		Wire: Wire{Kind: KindReply, To: m.Wire.Inc, Err: failure, Codec: m.Wire.Codec, From: b.node, Inc: b.inc},
	}
	b.back(a, deadline, nil)
}

// back sends a frame to its caller's inbox.
func (b *Bus) back(a *Message, deadline time.Time, done func(err error)) {
	if a.Node == b.node {
		if a.Wire.To == b.inc {
			_ = b.deliver(a)
		}
		if done != nil {
			done(nil)
		}
		return
	}
	p := parcel{m: a, deadline: deadline, done: done}
	if err := b.lanes.send(p); err != nil {
		b.sent(p, err)
	}
}

// carried is ctx with what m carries: the caller's span, baggage and identity.
func (b *Bus) carried(ctx context.Context, m *Message) context.Context {
	w := &m.Wire
	if w.Traceparent != "" {
		ctx = traceContext.Extract(ctx, propagation.MapCarrier{"traceparent": w.Traceparent, "tracestate": w.Tracestate})
	}
	if w.Baggage != "" {
		if bag, err := baggage.Parse(w.Baggage); err == nil {
			ctx = baggage.ContextWithBaggage(ctx, bag)
		}
	}
	return ctx
}

// Origin is who sent the message that a handler was given. Proven says that the transport vouches for Node.
type Origin struct {
	Node        string
	Incarnation int64
	Proven      bool
}

// PeerFrom tells who sent what the handler of ctx handles; false outside a handler.
func PeerFrom(ctx context.Context) (Origin, bool) {
	r := requestOf(ctx)
	if r == nil {
		return Origin{}, false
	}
	w := &r.m.Wire
	return Origin{w.From, w.Inc, w.Proven}, true
}
