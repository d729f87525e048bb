package bus

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/internal/chance"
)

// Call sends m and waits for the answer, until the earlier of ctx's end and the timeout, whatever else arrives meanwhile. The
// caller keeps m. Of its errors NotRun and Unknown tell whether a handler ran; a *RemoteError says that it did, and failed.
func (b *Bus) Call(ctx context.Context, m *Message, opts ...CallOption) ([]byte, error) {
	return b.begin(ctx, m, KindCall, optionsFrom(opts))
}

// Cast sends m and returns nil when the transport has accepted it: it arrives at most once, and nobody answers. With Fanout
// every node that serves the topic gets it.
func (b *Bus) Cast(ctx context.Context, m *Message, opts ...CallOption) error {
	_, err := b.begin(ctx, m, KindCast, optionsFrom(opts))
	return err
}

// outgoing is a copy of m as it leaves.
func (b *Bus) outgoing(m *Message, kind Kind) *Message {
	m = m.Clone()
	m.Wire = Wire{Kind: kind, Codec: m.Wire.Codec}
	if m.ID == "" {
		m.ID = b.env.NewID()
	}
	if m.Method == "" {
		m.Method = "handle"
	}
	return m
}

// begin is a verb: the middleware, then the verb itself.
func (b *Bus) begin(ctx context.Context, m *Message, kind Kind, o *callOptions) ([]byte, error) {
	switch {
	case b.err != nil:
		return nil, b.err
	case m == nil:
		return nil, invalid("a nil message")
	}
	m = b.outgoing(m, kind)
	if b.sender != nil {
		return b.sender.Send(context.WithValue(ctx, optionsKey{}, o), m)
	}
	return b.verb(ctx, m, o)
}

// verb checks m, and sends it as often as the options say.
func (b *Bus) verb(ctx context.Context, m *Message, o *callOptions) (body []byte, err error) {
	if err := b.checkSend(m, o); err != nil {
		return nil, err
	}
	began := b.env.Clock.Now()
	deadline := b.deadline(ctx, began, o)
	monitor := o.monitor
	if left := deadline.Sub(began); !o.monitored && left > 60*time.Second {
		monitor = 30 * time.Second
	} else if monitor >= left {
		monitor = 0
	}
	ctx, span := b.meters.span(ctx, spanNames[m.Wire.Kind], m, asClient)
	if err = b.enrich(ctx, m); err == nil {
		m.Wire.Monitor = int64(monitor)
		if r := requestOf(ctx); r != nil && m.Wire.Kind == KindCall {
			r.waits()
			defer r.resumes()
		}
		body, err = b.tries(ctx, m, deadline, o)
	}
	if span != nil {
		if err != nil {
			span.SetStatus(codes.Error, outcome(err))
		}
		span.End()
	}
	b.counted(ctx, m, began.UnixNano(), err)
	return body, err
}

func (b *Bus) checkSend(m *Message, o *callOptions) error {
	if err := m.check(); err != nil {
		return err
	}
	switch {
	case m.Wire.Kind > KindCall:
		return invalid("a frame of kind %s is no host's to send", m.Wire.Kind)
	case m.Fanout && m.Wire.Kind == KindCall:
		return invalid("a call to all nodes of %s: use Cast", m.Topic)
	case m.Key != "" && b.cfg.Members == nil:
		return invalid("a key needs Config.Members")
	case o.monitored && o.monitor < 2*time.Second:
		return invalid("Monitor(%v): want at least 2s", o.monitor)
	case len(m.Body) > b.cfg.MaxBody:
		return invalid("a body of %d bytes, at most %d", len(m.Body), b.cfg.MaxBody)
	case !b.Can(m.Topic, m.Version):
		return &DispatchError{Topic: m.Topic, Namespace: m.Namespace, Method: m.Method, Version: m.Version + " above the cap " + b.cfg.Caps[m.Topic]}
	}
	return nil
}

// Can reports whether Config.Caps allows a message of version to topic. A text that is no version is false.
func (b *Bus) Can(topic, version string) bool {
	limit, capped := b.cfg.Caps[topic]
	if !capped {
		_, err := parseVersion(version)
		return err == nil
	}
	ok, err := Compatible(limit, version)
	return ok && err == nil
}

// deadline is fixed here; nothing moves it.
func (b *Bus) deadline(ctx context.Context, now time.Time, o *callOptions) time.Time {
	timeout := b.cfg.Timeout
	if o.timed {
		timeout = o.timeout
	}
	d := now.Add(timeout)
	if r := requestOf(ctx); r != nil && !r.deadline.IsZero() && r.deadline.Before(d) && !isDetached(ctx) {
		d = r.deadline
	}
	if c, ok := ctx.Deadline(); ok && c.Before(d) {
		d = c
	}
	return d
}

func isDetached(ctx context.Context) bool { return ctx.Value(detachKey{}) != nil }

var traceContext propagation.TraceContext

// enrich adds who sends, and what travels with it.
func (b *Bus) enrich(ctx context.Context, m *Message) error {
	w := &m.Wire
	w.From, w.Inc = b.node, b.inc
	if w.Codec == "" {
		w.Codec = b.cfg.Codec.Name()
	}
	if trace.SpanContextFromContext(ctx).IsValid() {
		carrier := propagation.MapCarrier{}
		traceContext.Inject(ctx, carrier)
		w.Traceparent, w.Tracestate = carrier["traceparent"], carrier["tracestate"]
	}
	if bag := baggage.FromContext(ctx); bag.Len() > 0 {
		w.Baggage = bag.String()
	}
	if b.cfg.Identity.Inject != nil {
		if w.Identity = b.cfg.Identity.Inject(ctx); len(w.Identity) > maxIdentity {
			return invalid("an identity of %d bytes, at most %d", len(w.Identity), maxIdentity)
		}
	}
	if r := requestOf(ctx); r != nil {
		w.Chain = r.chain()
	}
	if n := m.headerSize(); n > maxHeader {
		return invalid("headers of %d bytes, at most %d", n, maxHeader)
	}
	return nil
}

// tries is one try, or as many as Retry gives.
func (b *Bus) tries(ctx context.Context, m *Message, deadline time.Time, o *callOptions) ([]byte, error) {
	var policy backoff.BackOff
	for {
		body, err := b.routed(ctx, m, deadline)
		if err == nil || o.retry == nil || !NotRun(err) || isAny(err, ErrInvalid, ErrUnsupported) {
			return body, err
		}
		if policy == nil {
			policy = o.retry()
		}
		wait := b.next(policy)
		var busy *BusyError
		if errors.As(err, &busy) {
			wait = max(wait, busy.RetryAfter)
		}
		if wait == backoff.Stop || b.env.Clock.Now().Add(wait).After(deadline) || b.env.Sleep(ctx, wait) != nil {
			return nil, err
		}
		m = m.Clone()
	}
}

// next is the policy's next delay, with jitter from Env.Rand.
func (b *Bus) next(p backoff.BackOff) time.Duration {
	share := 0.0
	if e, ok := p.(*backoff.ExponentialBackOff); ok {
		share, e.RandomizationFactor = e.RandomizationFactor, 0
		defer func() { e.RandomizationFactor = share }()
	}
	d := p.NextBackOff()
	if d == backoff.Stop {
		return d
	}
	return chance.Around(b.env.Rand, d, share)
}

// routed sends m, and a keyed one once more if its receiver knows another owner.
func (b *Bus) routed(ctx context.Context, m *Message, deadline time.Time) ([]byte, error) {
	if m.Key == "" {
		return b.once(ctx, m, deadline)
	}
	v := b.view.now()
	owner, ok := v.Ring.Owner(m.Key)
	if !ok {
		return nil, noRoute(m.target() + ": the ring is empty")
	}
	again := m.Clone()
	m.Node, m.Wire.Epoch, m.Wire.Ring = owner, v.Epoch, v.Ring.Fingerprint()
	body, err := b.once(ctx, m, deadline)
	var other *NotOwnerError
	if !errors.As(err, &other) {
		return body, err
	}
	v = b.view.fresh(ctx, m.ID, func(v View) bool { return v.Epoch >= other.Epoch && v.Epoch > 0 || v.Ring.Fingerprint() != m.Wire.Ring })
	owner, ok = v.Ring.Owner(again.Key)
	if (v.Epoch <= other.Epoch || v.Epoch == 0 || other.Epoch == 0) && v.up(other.Owner) {
		owner, ok = other.Owner, true
	}
	if !ok {
		return nil, err
	}
	b.count.reroutes.Add(1)
	again.Node, again.Wire.Epoch, again.Wire.Ring = owner, v.Epoch, v.Ring.Fingerprint()
	return b.once(ctx, again, deadline)
}

const leastTime = time.Millisecond // with less left, nothing is sent

// once sends m one time and waits for what becomes of it.
func (b *Bus) once(ctx context.Context, m *Message, deadline time.Time) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, false)
	}
	now := b.env.Clock.Now()
	if deadline.Sub(now) <= leastTime {
		return nil, errNoTime
	}
	if err := b.waitUp(ctx, m.ID, deadline.Sub(now)); err != nil {
		return nil, err
	}
	return b.await(ctx, &waiter{b: b, m: m, deadline: deadline, began: now, monitor: time.Duration(m.Wire.Monitor)})
}

func (b *Bus) await(ctx context.Context, w *waiter) ([]byte, error) {
	m := w.m
	w.Owner, w.c = w, b.results.take()
	if !b.waiters.add(w) {
		return nil, invalid("message %s is under way already", m.ID)
	}
	defer b.results.give(w.c) // exactly one result was sent and received
	b.dispatch(w)
	select {
	case r := <-w.c:
		return r.body, r.err
	case <-ctx.Done():
	}
	sh := b.waiters.of(m.ID)
	sh.Lock()
	handed, node := w.handed, w.node
	won := w.finishLocked(sh, result{})
	sh.Unlock()
	r := <-w.c
	if !won {
		return r.body, r.err
	}
	if handed && m.Wire.Kind == KindCall {
		b.sendCancel(m, node)
	}
	return nil, ended(ctx, handed)
}

// waitUp waits until the bus runs.
func (b *Bus) waitUp(ctx context.Context, id string, left time.Duration) error {
	if b.isUp() {
		return b.running(ctx)
	}
	w := b.early.join(id)
	defer b.early.leave(w)
	if !b.isUp() {
		select {
		case <-w.c:
		case <-ctx.Done():
		case <-b.env.Clock.After(left):
			return errNoTime
		}
	}
	if ctx.Err() != nil {
		return ended(ctx, false)
	}
	return b.running(ctx)
}

func (b *Bus) isUp() bool {
	select {
	case <-b.up:
		return true
	default:
		return false
	}
}

// dispatch gives w to this very node, or to a lane.
func (b *Bus) dispatch(w *waiter) {
	m := w.m
	if m.Node == b.node && m.Wire.Kind != KindEvent {
		w.hand()
		c := m.Clone()
		b.stampOn(c, b.env.Clock.Now(), w.deadline)
		c.Wire.Proven = true
		if !b.topics.served(m.Topic) {
			w.sent(noRoute(m.target() + " is not served here"))
			return
		}
		w.sent(b.deliver(c))
		return
	}
	if m.Node != "" && m.Wire.Kind != KindEvent && !b.view.member(m.Node) {
		w.sent(noRoute(m.target() + ": no member"))
		return
	}
	if err := b.lanes.send(parcel{m: m, deadline: w.deadline, w: w}); err != nil {
		w.sent(err)
	}
}

// rerouted gives p to another lane if its key has another owner by now.
func (b *Bus) rerouted(p parcel) (bool, error) {
	m := p.m
	if p.w == nil || m.Key == "" || m.Wire.Kind == KindEvent || m.Wire.Epoch == 0 && m.Wire.Ring == 0 {
		return false, nil
	}
	v := b.view.now()
	if v.Ring.Fingerprint() == m.Wire.Ring {
		return false, nil
	}
	owner, ok := v.Ring.Owner(m.Key)
	if !ok {
		return true, noRoute(m.target() + ": the ring is empty")
	}
	sh := b.waiters.of(m.ID)
	sh.Lock()
	if p.w.done {
		sh.Unlock()
		return true, nil
	}
	was := m.Node
	m.Node, m.Wire.Epoch, m.Wire.Ring = owner, v.Epoch, v.Ring.Fingerprint()
	sh.Unlock()
	if was == owner {
		return false, nil
	}
	b.dispatch(p.w)
	return true, nil
}

// stampOn writes the times of sending.
func (b *Bus) stampOn(m *Message, now, deadline time.Time) {
	w := &m.Wire
	w.From, w.Inc = b.node, b.inc
	w.Sent, w.Clock = b.stamp.read(now)
	w.Deadline = 0
	if m.keep > 0 {
		deadline = now.Add(m.keep)
	}
	if !deadline.IsZero() {
		w.Deadline = w.Sent + int64(deadline.Sub(now))
	}
}

// sendCancel tells who executes m, as far as known, that its caller has gone. If it is not known, the frame that says who it
// is will be answered so.
func (b *Bus) sendCancel(m *Message, node string) {
	if node == "" {
		node = m.Node
	}
	if node == "" {
		return
	}
	c := &Message{ID: m.ID, Topic: m.Topic, Node: node, Method: m.Method, Wire: Wire{Kind: KindCancel, From: b.node, Inc: b.inc}}
	if node == b.node {
		_ = b.deliver(c)
		return
	}
	_ = b.lanes.send(parcel{m: c})
}
