package agent

import (
	"context"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/agent"

// meters are a client's instruments.
type meters struct {
	tracer                         trace.Tracer
	calls, callbacks, polled, lost metric.Int64Counter
	duration                       metric.Float64Histogram
}

func (c *Client) initMeters() {
	m, note := c.env.Meter.Meter(scope), func(err error) {
		if err != nil {
			c.log.Warn("metric refused", "error", err)
		}
	}
	counter := func(name, doc string) metric.Int64Counter {
		i, err := m.Int64Counter("drover.agent."+name, metric.WithDescription(doc))
		note(err)
		return i
	}
	gauge := func(name, doc string, get func() int) {
		_, err := m.Int64ObservableGauge("drover.agent."+name, metric.WithDescription(doc),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(int64(get()))
				return nil
			}))
		note(err)
	}
	d, err := m.Float64Histogram("drover.agent.duration", metric.WithUnit("s"), metric.WithDescription("time from a call to its end"))
	note(err)
	c.meters = meters{
		tracer: c.env.Tracer.Tracer(scope), duration: d,
		calls:     counter("calls", "calls ended, by host, path and outcome"),
		callbacks: counter("callbacks", "callbacks answered, by status"),
		polled:    counter("polled", "answers to polls"), lost: counter("lost", "tasks that their agents have lost"),
	}
	gauge("pending", "tasks without a result", func() int {
		c.tab.Lock()
		defer c.tab.Unlock()
		return c.open
	})
	gauge("slots.waiting", "exchanges that wait for a slot", func() int {
		_, waiting := c.slots.sizes()
		return waiting
	})
}

func (m *meters) callback(ctx context.Context, status int) {
	if m.callbacks.Enabled(ctx) {
		m.callbacks.Add(ctx, 1, metric.WithAttributes(attribute.Int("status", status)))
	}
}

// call is a call under way, as metrics and its span see it.
type call struct {
	c     *Client
	span  trace.Span
	began time.Time
	url   *url.URL
}

func (c *Client) begun(ctx context.Context, u *url.URL) (context.Context, *call) {
	k := &call{c: c, began: c.env.Clock.Now(), url: u}
	in, span := c.meters.tracer.Start(ctx, "agent.call", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(k.where()...))
	if k.span = span; span.SpanContext().IsValid() { // else nothing is traced, and ctx need not be kept twice
		ctx = in
	}
	return ctx, k
}

func (k *call) where() []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("host", k.url.Host), attribute.String("path", k.url.Path)}
}

func (k *call) end(ctx context.Context, err error) {
	word := outcome(err)
	if err != nil {
		k.span.SetStatus(codes.Error, word)
	}
	k.span.End()
	m := &k.c.meters
	if m.calls.Enabled(ctx) {
		m.calls.Add(ctx, 1, metric.WithAttributes(append(k.where(), attribute.String("outcome", word))...))
	}
	if m.duration.Enabled(ctx) {
		m.duration.Record(ctx, k.c.env.Clock.Now().Sub(k.began).Seconds(), metric.WithAttributes(k.where()...))
	}
}
