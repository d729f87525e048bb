package periodic

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/periodic"

// meters are the instruments of a Set. Without an SDK none is enabled and nothing is built for them.
type meters struct {
	tracer             trace.Tracer
	nRuns, nSkipped    metric.Int64Counter
	active             metric.Int64UpDownCounter
	duration, lateness metric.Float64Histogram
	watch              metric.Registration
}

func (m *meters) init(s *Set) {
	m.tracer = s.env.Tracer.Tracer(scope)
	meter := s.env.Meter.Meter(scope)
	// The names are good, and a meter that fails gives an instrument that does nothing.
	m.nRuns, _ = meter.Int64Counter("drover.periodic.runs", metric.WithDescription("Runs, by task and outcome."))
	m.nSkipped, _ = meter.Int64Counter("drover.periodic.skipped", metric.WithDescription("Due times without a run, by task and why."))
	m.active, _ = meter.Int64UpDownCounter("drover.periodic.active", metric.WithDescription("Runs going on."))
	m.duration, _ = meter.Float64Histogram("drover.periodic.duration", metric.WithUnit("s"))
	m.lateness, _ = meter.Float64Histogram("drover.periodic.lateness", metric.WithUnit("s"), metric.WithDescription("From due to start."))
	stale, _ := meter.Int64ObservableGauge("drover.periodic.stale", metric.WithDescription("1: without success for too long."))
	next, _ := meter.Float64ObservableGauge("drover.periodic.next", metric.WithUnit("s"), metric.WithDescription("Until the next due time."))
	m.watch, _ = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := s.env.Clock.Now()
		for _, t := range s.Status() {
			task := metric.WithAttributes(attribute.String("task", t.Name))
			if !t.Next.IsZero() {
				o.ObserveFloat64(next, t.Next.Sub(now).Seconds(), task)
			}
			late := int64(0)
			if t.Stale {
				late = 1
			}
			o.ObserveInt64(stale, late, task)
		}
		return nil
	}, stale, next)
}

func (m *meters) close() {
	if m.watch != nil {
		_ = m.watch.Unregister()
	}
}

func (m *meters) on() bool { return m.nRuns.Enabled(context.Background()) }

func (m *meters) skip(e *entry, why string, n int64) {
	if n > 0 && m.on() {
		m.nSkipped.Add(context.Background(), n, metric.WithAttributes(attribute.String("task", e.Name), attribute.String("why", why)))
	}
}

// begin starts the span of a run; done ends it.
func (m *meters) begin(r *run) (ctx context.Context, done func(error)) {
	if m.on() {
		task := metric.WithAttributes(attribute.String("task", r.e.Name))
		m.active.Add(context.Background(), 1, task)
		m.lateness.Record(context.Background(), r.info.Started.Sub(r.info.Due).Seconds(), task)
	}
	ctx, span := m.tracer.Start(r, "periodic.run")
	if !span.IsRecording() {
		return r, func(error) {}
	}
	span.SetAttributes(attribute.String("task", r.e.Name), attribute.String("due", r.info.Due.Format(time.RFC3339Nano)),
		attribute.Int64("number", r.info.Number), attribute.Int64("missed", r.info.Missed), attribute.Int64("epoch", r.info.Epoch))
	return ctx, func(err error) {
		if err != nil && !errors.Is(err, Done) {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

func (m *meters) ended(r *run, took time.Duration, err error) {
	if !m.on() {
		return
	}
	task := attribute.String("task", r.e.Name)
	m.active.Add(context.Background(), -1, metric.WithAttributes(task))
	m.duration.Record(context.Background(), took.Seconds(), metric.WithAttributes(task))
	m.nRuns.Add(context.Background(), 1, metric.WithAttributes(task, attribute.String("outcome", outcome(err))))
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrPanic):
		return "panic"
	case errors.Is(err, ErrLost):
		return "lost"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	}
	return "error"
}
