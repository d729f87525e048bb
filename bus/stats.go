package bus

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/bus"

// Stats counts since New what is counted, and how much there is of the rest.
type Stats struct {
	Sent     int64 // frames of every kind that the transport has taken
	Received int64 // frames of every kind that it has given

	Rejected    int64 // messages refused for want of room
	Expired     int64 // messages that came or were taken up too late
	LateReplies int64 // of calls that had ended
	Forged      int64 // replies and frames from who they cannot be from
	Duplicates  int64 // second deliveries dropped
	Early       int64 // ids that the duplicate window forgot before their time
	Reroutes    int64 // messages sent again to another owner
	Events      int64 // events given to subscriptions
	Missed      int64 // events dropped from full subscriptions
	Panics      int64 // of handlers and subscriptions
	Garbage     int64 // frames that could not be read
	Dropped     int64 // replies dropped: their lane was full, or their caller gone

	Waiters, Queue, Running, Lanes, LanesOpen int64
}

type counters struct {
	sent, received                                                                                  atomic.Int64
	rejected, expired, late, forged, duplicates, reroutes, events, missed, panics, garbage, dropped atomic.Int64
}

// Stats answers from memory.
func (b *Bus) Stats() Stats {
	c := &b.count
	s := Stats{
		Sent: c.sent.Load(), Received: c.received.Load(),
		Rejected: c.rejected.Load(), Expired: c.expired.Load(), LateReplies: c.late.Load(), Forged: c.forged.Load(),
		Duplicates: c.duplicates.Load(), Reroutes: c.reroutes.Load(), Events: c.events.Load(), Missed: c.missed.Load(),
		Panics: c.panics.Load(), Garbage: c.garbage.Load(), Dropped: c.dropped.Load(),
		Waiters: int64(b.waiters.len()),
	}
	s.Early = b.window.evictedEarly() + b.eventIDs.evictedEarly()
	s.Queue, s.Running = b.pool.sizes()
	for _, p := range b.Peers() {
		s.Lanes++
		if p.Open {
			s.LanesOpen++
		}
	}
	return s
}

// meters are the instruments. Without an SDK none is enabled and nothing is built for them.
type meters struct {
	tracer   trace.Tracer
	untraced atomic.Bool  // no tracer is installed, when last asked
	asked    atomic.Int64 // calls since
	calls    metric.Int64Counter
	duration metric.Float64Histogram
	outbox   struct{ pending, dead atomic.Int64 }
}

func (b *Bus) initMeters() {
	t := &b.meters
	t.tracer = b.env.Tracer.Tracer(scope)
	m := b.env.Meter.Meter(scope)
	t.calls, _ = m.Int64Counter("drover.bus.calls", metric.WithDescription("Verbs ended, by verb, topic, method and outcome."))
	t.duration, _ = m.Float64Histogram("drover.bus.duration", metric.WithUnit("s"), metric.WithDescription("Duration of calls."))
	for _, o := range []struct {
		name, what string
		get        func(s *Stats) int64
	}{
		{"rejected", "Messages refused for want of room.", func(s *Stats) int64 { return s.Rejected }},
		{"expired", "Messages taken up too late.", func(s *Stats) int64 { return s.Expired }},
		{"late_replies", "Replies to calls that had ended.", func(s *Stats) int64 { return s.LateReplies }},
		{"duplicates", "Second deliveries dropped.", func(s *Stats) int64 { return s.Duplicates }},
		{"reroutes", "Messages sent again to another owner.", func(s *Stats) int64 { return s.Reroutes }},
		{"events", "Events given to subscriptions.", func(s *Stats) int64 { return s.Events }},
		{"missed", "Events dropped from full subscriptions.", func(s *Stats) int64 { return s.Missed }},
		{"panics", "Panics of handlers and subscriptions.", func(s *Stats) int64 { return s.Panics }},
	} {
		_, _ = m.Int64ObservableCounter("drover.bus."+o.name, metric.WithDescription(o.what),
			metric.WithInt64Callback(func(_ context.Context, at metric.Int64Observer) error {
				s := b.Stats()
				at.Observe(o.get(&s))
				return nil
			}))
	}
	_, _ = m.Int64ObservableGauge("drover.ring.members", metric.WithDescription("Members that the ring places keys on."),
		metric.WithInt64Callback(func(_ context.Context, at metric.Int64Observer) error {
			at.Observe(int64(b.view.now().Ring.Len()))
			return nil
		}))
	for _, o := range []struct {
		name, what string
		get        func(s *Stats) int64
	}{
		{"waiters", "Calls and casts under way.", func(s *Stats) int64 { return s.Waiters }},
		{"queue", "Messages that wait for a worker.", func(s *Stats) int64 { return s.Queue }},
		{"inflight", "Handlers that run.", func(s *Stats) int64 { return s.Running }},
		{"lane.open", "Lanes whose circuit is open.", func(s *Stats) int64 { return s.LanesOpen }},
		{"outbox.pending", "Rows of the outbox, as this node's relay last saw it.", func(*Stats) int64 { return t.outbox.pending.Load() }},
		{"outbox.dead", "Dead rows of the outbox.", func(*Stats) int64 { return t.outbox.dead.Load() }},
	} {
		_, _ = m.Int64ObservableGauge("drover.bus."+o.name, metric.WithDescription(o.what),
			metric.WithInt64Callback(func(_ context.Context, at metric.Int64Observer) error {
				s := b.Stats()
				at.Observe(o.get(&s))
				return nil
			}))
	}
}

// span opens a span; a tracer that answers one without an id, where no parent has one, is no tracer, and is asked again only
// now and then, since one may be installed late. A handler's ctx has no parent unless m says so.
func (t *meters) span(ctx context.Context, what string, m *Message, opts []trace.SpanStartOption) (context.Context, trace.Span) {
	if t.untraced.Load() && t.asked.Add(1)%1024 != 0 && (what == spanHandle && m.Wire.Traceparent == "" || !trace.SpanContextFromContext(ctx).IsValid()) {
		return ctx, nil
	}
	ctx, s := t.tracer.Start(ctx, what+m.Topic+"/"+m.Method, opts...)
	if !s.IsRecording() {
		t.untraced.Store(!s.SpanContext().IsValid())
	}
	return ctx, s
}

const spanHandle = "bus.handle "

var spanNames = [...]string{KindCast: "bus.cast ", KindCall: "bus.call "}

var asClient, asServer = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}, []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}

// counted counts a verb that has ended.
func (b *Bus) counted(ctx context.Context, m *Message, began int64, err error) {
	t := &b.meters
	if t.calls.Enabled(ctx) {
		t.calls.Add(ctx, 1, metric.WithAttributes(attribute.String("verb", m.Wire.Kind.String()), attribute.String("topic", m.Topic),
			attribute.String("method", m.Method), attribute.String("outcome", outcome(err))))
	}
	if m.Wire.Kind == KindCall && t.duration.Enabled(ctx) {
		t.duration.Record(ctx, float64(b.env.Clock.Now().UnixNano()-began)/1e9, metric.WithAttributes(attribute.String("topic", m.Topic),
			attribute.String("method", m.Method)))
	}
}

// outcome is a word for err.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case Unknown(err):
		return "unknown"
	case NotRun(err):
		return "not-run"
	}
	return "failed"
}
