package conductor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

const scope = "github.com/drover-cloud/drover/conductor"

// meters are those of a client or a server.
type meters struct {
	env                                                 drover.Env
	calls, conflicts, replays, denied, backports, saved metric.Int64Counter
	commits                                             metric.Int64Histogram
	duration                                            metric.Float64Histogram
	unready                                             atomic.Int64
}

func (m *meters) init(env drover.Env) error {
	m.env = env
	meter := env.Meter.Meter(scope)
	var errs []error
	counter := func(name string) metric.Int64Counter {
		c, err := meter.Int64Counter("drover.conductor." + name)
		errs = append(errs, err)
		return c
	}
	m.calls, m.conflicts, m.replays = counter("calls"), counter("conflicts"), counter("replays")
	m.denied, m.backports, m.saved = counter("denied"), counter("backports"), counter("bytes_saved")
	var err error
	m.commits, err = meter.Int64Histogram("drover.conductor.commits")
	errs = append(errs, err)
	m.duration, err = meter.Float64Histogram("drover.conductor.duration", metric.WithUnit("s"))
	errs = append(errs, err)
	_, err = meter.Int64ObservableGauge("drover.conductor.unready", metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
		o.Observe(m.unready.Load())
		return nil
	}))
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("conductor: meters: %w", err)
	}
	return nil
}

// watch tells of the calls under way, by host, and of those that wait.
func (m *meters) watch(gates ...*gate) error {
	meter := m.env.Meter.Meter(scope)
	inflight, err1 := meter.Int64ObservableGauge("drover.conductor.inflight")
	queue, err2 := meter.Int64ObservableGauge("drover.conductor.queue")
	err := errors.Join(err1, err2)
	if err == nil {
		_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			running, waiting := map[string]int64{}, int64(0)
			for _, g := range gates {
				waiting += g.load(running)
			}
			for _, host := range sorted(running) {
				o.ObserveInt64(inflight, running[host], metric.WithAttributes(attribute.String("host", host)))
			}
			o.ObserveInt64(queue, waiting)
			return nil
		}, inflight, queue)
	}
	if err != nil {
		return fmt.Errorf("conductor: meters: %w", err)
	}
	return nil
}

// call measures a call from now to the call of done.
func (m *meters) call(ctx context.Context, space, method string) (done func(err error)) {
	began := m.env.Clock.Now()
	name := "conductor.read"
	if method == callCommit {
		name = "conductor.commit"
	}
	_, span := m.env.Tracer.Tracer(scope).Start(ctx, name, trace.WithAttributes(attribute.String("space", space), attribute.String("method", method)))
	return func(err error) {
		span.End()
		attrs := metric.WithAttributes(attribute.String("store", space), attribute.String("method", method), attribute.String("outcome", outcome(err)))
		m.calls.Add(ctx, 1, attrs)
		m.duration.Record(ctx, m.env.Clock.Now().Sub(began).Seconds(), attrs)
	}
}

func outcome(err error) string {
	for _, o := range []struct {
		err  error
		name string
	}{{nil, "ok"}, {ErrDenied, "denied"}, {ErrUnknown, "unknown"}, {ErrNoConductor, "no-conductor"}, {store.ErrConflict, "conflict"},
		{bus.ErrBusy, "busy"}, {bus.ErrInvalid, "invalid"}} {
		if o.err == nil && err == nil || o.err != nil && errors.Is(err, o.err) {
			return o.name
		}
	}
	return "error"
}
