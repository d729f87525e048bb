package libvirt

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const scope = "github.com/drover-cloud/drover/hypervisor/libvirt"

// meters are the instruments, shared in meaning by all hosts: no label holds a VM.
type meters struct {
	tracer                                                    trace.Tracer
	calls, dials, events, dropped, late, unknown, stale, done metric.Int64Counter
	duration, wait                                            metric.Float64Histogram
}

func newMeters(d *Driver) *meters {
	m := d.env.Meter.Meter(scope)
	t := &meters{tracer: d.env.Tracer.Tracer(scope)}
	for _, c := range []struct {
		to         *metric.Int64Counter
		name, what string
	}{
		{&t.calls, "calls", "Calls ended, by op and class."},
		{&t.dials, "dials", "Connections tried, by result."},
		{&t.events, "events", "Events given to their consumers, by kind."},
		{&t.dropped, "events_dropped", "Events that a slow consumer missed."},
		{&t.late, "late_replies", "Replies that came after their caller had left."},
		{&t.unknown, "outcome_unknown", "Changes that were sent and not answered."},
		{&t.stale, "stale_epoch", "Starts and stops refused for their epoch."},
		{&t.done, "migrations", "Migrations ended, by result."},
	} {
		*c.to, _ = m.Int64Counter("drover.hypervisor."+c.name, metric.WithDescription(c.what))
	}
	t.duration, _ = m.Float64Histogram("drover.hypervisor.duration", metric.WithUnit("s"), metric.WithDescription("Duration of calls, by op."))
	t.wait, _ = m.Float64Histogram("drover.hypervisor.queue_wait", metric.WithUnit("s"), metric.WithDescription("Wait for a place on a connection."))
	d.gauges(m)
	return t
}

// gauges are read when they are asked for, by host.
func (d *Driver) gauges(m metric.Meter) {
	inflight, _ := m.Int64ObservableGauge("drover.hypervisor.inflight", metric.WithDescription("Requests that the daemon has, by connection."))
	state, _ := m.Int64ObservableGauge("drover.hypervisor.state", metric.WithDescription("1 for the state the connection is in: up, silent, lost."))
	remaining, _ := m.Int64ObservableGauge("drover.hypervisor.migration.remaining", metric.WithUnit("MiBy"),
		metric.WithDescription("Memory that running migrations have to copy."))
	r, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		host := attribute.String("host", d.hostID())
		for _, l := range []*lanes{d.query, d.control} {
			n := 0
			for _, c := range l.conns() {
				n += c.InFlight()
			}
			o.ObserveInt64(inflight, int64(n), metric.WithAttributes(host, attribute.String("connection", l.name)))
		}
		o.ObserveInt64(state, 1, metric.WithAttributes(host, attribute.String("state", string(d.state()))))
		o.ObserveInt64(remaining, d.moves.remaining(), metric.WithAttributes(host))
		return nil
	}, inflight, state, remaining)
	if err == nil {
		context.AfterFunc(d.life, func() { _ = r.Unregister() })
	}
}

var background = context.Background()

func count(c metric.Int64Counter, key, value string) {
	if c.Enabled(background) {
		c.Add(background, 1, metric.WithAttributes(attribute.String(key, value)))
	}
}

func (m *meters) dialled(err error) {
	result := "ok"
	if err != nil {
		result = className(err)
	}
	count(m.dials, "result", result)
}

// waited notes how long a place was waited for.
func (m *meters) waited(connection string, d time.Duration) {
	if m.wait.Enabled(background) {
		m.wait.Record(background, d.Seconds(), metric.WithAttributes(attribute.String("connection", connection)))
	}
}

// begin opens the span of a public call.
func (m *meters) begin(ctx context.Context, c *call) (context.Context, trace.Span) {
	ctx, span := m.tracer.Start(ctx, "hypervisor."+c.op)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("host", c.d.hostID()), attribute.String("vm", c.vm))
	}
	return ctx, span
}

// end closes it and counts the call.
func (m *meters) end(c *call, span trace.Span, took time.Duration, err error) {
	class := className(err)
	if m.calls.Enabled(background) {
		m.calls.Add(background, 1, metric.WithAttributes(attribute.String("op", c.op), attribute.String("class", class)))
	}
	if m.duration.Enabled(background) {
		m.duration.Record(background, took.Seconds(), metric.WithAttributes(attribute.String("op", c.op)))
	}
	if errors.Is(err, hypervisor.ErrOutcomeUnknown) {
		m.unknown.Add(background, 1)
	}
	if errors.Is(err, hypervisor.ErrStaleEpoch) {
		m.stale.Add(background, 1)
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("class", class))
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
	}
	span.End()
}

// procedure is the span of one request; the answer ends it.
func (m *meters) procedure(ctx context.Context, p rpc.Proc) func(error) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return func(error) {}
	}
	_, span := m.tracer.Start(ctx, "libvirt."+p.String())
	return func(err error) {
		if r := (*rpc.RemoteError)(nil); errors.As(err, &r) {
			span.SetAttributes(attribute.Int("code", int(r.Code)), attribute.Int("domain", int(r.Domain)))
		}
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// classNames are what metrics call the classes.
var classNames = []struct {
	err  error
	name string
}{
	{hypervisor.ErrNotFound, "not_found"}, {hypervisor.ErrExists, "exists"}, {hypervisor.ErrState, "state"}, {hypervisor.ErrBusy, "busy"},
	{hypervisor.ErrTimeout, "timeout"}, {hypervisor.ErrAborted, "aborted"}, {hypervisor.ErrGone, "gone"},
	{hypervisor.ErrUnsupported, "unsupported"}, {hypervisor.ErrInvalid, "invalid"}, {hypervisor.ErrDenied, "denied"},
	{hypervisor.ErrNoResources, "no_resources"}, {hypervisor.ErrStaleEpoch, "stale_epoch"}, {hypervisor.ErrClosed, "closed"},
	{hypervisor.ErrMigration, "migration"},
}

func className(err error) string {
	if err == nil {
		return "ok"
	}
	for _, c := range classNames {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "internal"
}
