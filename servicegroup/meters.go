package servicegroup

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/servicegroup"

type meters struct {
	tracer   trace.Tracer
	beats    metric.Int64Counter
	duration metric.Float64Histogram
	events   metric.Int64Counter
}

func newMeters(g *Group) (m meters, err error) {
	meter := g.cfg.Env.Meter.Meter(scope)
	m.tracer = g.cfg.Env.Tracer.Tracer(scope)
	var e [4]error
	m.beats, e[0] = meter.Int64Counter("drover.servicegroup.beats")
	m.duration, e[1] = meter.Float64Histogram("drover.servicegroup.beat.duration", metric.WithUnit("s"))
	m.events, e[2] = meter.Int64Counter("drover.servicegroup.events")
	e[3] = gauges(meter, g)
	return m, errors.Join(e[:]...)
}

// gauges read the view.
func gauges(meter metric.Meter, g *Group) error {
	attrs := metric.WithAttributes(attribute.String("group", g.cfg.Group), attribute.String("id", g.cfg.ID))
	var errs []error
	gauge := func(name, unit string, read func(v *View) float64, more ...metric.ObserveOption) {
		_, err := meter.Float64ObservableGauge("drover.servicegroup."+name, metric.WithUnit(unit),
			metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
				o.Observe(read(g.view.Load()), append(more, attrs)...)
				return nil
			}))
		errs = append(errs, err)
	}
	_, err := meter.Int64ObservableGauge("drover.servicegroup.members", metric.WithInt64Callback(
		func(_ context.Context, o metric.Int64Observer) error {
			v := g.view.Load()
			for s, list := range [][]Member{Unknown: v.Unknown, Up: v.Up, Down: v.Down} {
				o.Observe(int64(len(list)), attrs, metric.WithAttributes(attribute.String("state", State(s).String())))
			}
			return nil
		}))
	errs = append(errs, err)
	gauge("age", "s", func(v *View) (oldest float64) {
		for i := range v.Up {
			oldest = max(oldest, v.Up[i].Age.Seconds())
		}
		return oldest
	})
	gauge("view.version", "", func(v *View) float64 { return float64(v.Version) })
	gauge("frozen", "", func(v *View) float64 { return unit(v.Frozen) })
	gauge("isolated", "", func(v *View) float64 { return unit(v.isolated) })
	return errors.Join(errs...)
}

func unit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *meters) beaten(d time.Duration, err error) {
	outcome := "ok"
	switch {
	case errors.Is(err, ErrFenced):
		outcome = "fenced"
	case errors.Is(err, ErrGone):
		outcome = "gone"
	case err != nil:
		outcome = "error"
	}
	attrs := metric.WithAttributes(attribute.String("outcome", outcome))
	m.beats.Add(context.Background(), 1, attrs)
	m.duration.Record(context.Background(), d.Seconds(), attrs)
}

// changed counts the events of a new version; nobody pays for it who does not meter.
func (m *meters) changed(old, v *View) {
	ctx := context.Background()
	if !m.events.Enabled(ctx) {
		return
	}
	for _, e := range Diff(*old, *v) {
		m.events.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", string(e.Kind))))
	}
}
