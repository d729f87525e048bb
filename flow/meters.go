package flow

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
)

const scope = "github.com/drover-cloud/drover/flow"

// meters are a flow's, for one provider. Instruments that could not be made do nothing.
type meters struct {
	runs, retries, rollbacks, undoFailures metric.Int64Counter
	duration, stepDuration                 metric.Float64Histogram
	tracer                                 trace.Tracer
	flow                                   metric.MeasurementOption
	outcomes                               [3]metric.MeasurementOption
}

const (
	succeeded = iota
	continued
	rolledBack
)

func newMeters(env *drover.Env, name string) *meters {
	m, flow := env.Meter.Meter(scope), attribute.String("flow", name)
	x := &meters{tracer: env.Tracer.Tracer(scope), flow: metric.WithAttributeSet(attribute.NewSet(flow))}
	x.runs, _ = m.Int64Counter("drover.flow.runs")
	x.retries, _ = m.Int64Counter("drover.flow.step.retries")
	x.rollbacks, _ = m.Int64Counter("drover.flow.rollbacks")
	x.undoFailures, _ = m.Int64Counter("drover.flow.undo.failures")
	x.duration, _ = m.Float64Histogram("drover.flow.duration", metric.WithUnit("s"))
	x.stepDuration, _ = m.Float64Histogram("drover.flow.step.duration", metric.WithUnit("s"))
	for i, o := range []string{"succeeded", "continued", "failed"} {
		x.outcomes[i] = metric.WithAttributeSet(attribute.NewSet(flow, attribute.String("outcome", o)))
	}
	return x
}

// span opens one under the caller's, if that is recorded.
func (x *meters) span(ctx context.Context, kind, name string) (context.Context, func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, noSpan
	}
	ctx, span := x.tracer.Start(ctx, kind+" "+name)
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

func noSpan(error) {}

// ran counts a run that has ended.
func (r *run[S]) ran(ctx context.Context, res result, took time.Duration) {
	outcome := succeeded
	switch {
	case res.kept:
		outcome = continued
	case res.err != nil:
		outcome = rolledBack
		if !r.f.noUndo {
			r.meters.rollbacks.Add(ctx, 1, r.meters.flow)
		}
		if n := len(res.err.Undo); n > 0 {
			r.meters.undoFailures.Add(ctx, int64(n), r.meters.flow)
		}
	}
	r.meters.runs.Add(ctx, 1, r.meters.outcomes[outcome])
	r.meters.duration.Record(ctx, took.Seconds(), r.meters.outcomes[outcome])
}

// now is the start of a try, where that is measured.
func (r *run[S]) now() time.Time {
	if r.book == nil {
		return time.Time{}
	}
	return r.env.Clock.Now()
}

// stepped measures a try of a durable step; in place, steps are too quick for that.
func (r *run[S]) stepped(sc *stepCtx, began time.Time) {
	if r.book == nil {
		return
	}
	if sc.phase == PhaseDo && sc.try > 1 {
		r.meters.retries.Add(sc, 1, r.meters.flow)
	}
	r.meters.stepDuration.Record(sc, r.env.Clock.Now().Sub(began).Seconds(), metric.WithAttributes(
		attribute.String("flow", sc.flow), attribute.String("step", sc.step), attribute.String("phase", sc.phase)))
}

// watchDebts measures the open debts of a flow, in the whole cluster.
func watchDebts(m *job.Manager, name string) {
	env := steps.Of(m).Env()
	meter, kind := env.Meter.Meter(scope), "flow-undo:"+name
	open, err := meter.Int64ObservableGauge("drover.flow.debts")
	if err != nil {
		return
	}
	oldest, err := meter.Float64ObservableGauge("drover.flow.debts.oldest", metric.WithUnit("s"))
	if err != nil {
		return
	}
	flow := metric.WithAttributes(attribute.String("flow", name))
	_, _ = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		n, age := 0, time.Duration(0)
		for j, err := range m.List(ctx, job.Query{Kinds: []string{kind}, Limit: 500}) {
			if err != nil {
				return err
			}
			if n++; n == 1 {
				age = env.Clock.Now().Sub(j.Created)
			}
		}
		o.ObserveInt64(open, int64(n), flow)
		o.ObserveFloat64(oldest, max(age, 0).Seconds(), flow)
		return nil
	}, open, oldest)
}
