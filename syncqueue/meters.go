package syncqueue

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const instruments = "github.com/drover-cloud/drover/syncqueue"

// meters are a Queue's instruments. Without an SDK none is enabled, and nothing is built for them.
type meters struct {
	granted, moved, repaired metric.Int64Counter
	handoff                  metric.Float64Histogram
	paused                   metric.Int64UpDownCounter
	waiting, held            metric.Int64ObservableGauge
	oldest                   metric.Float64ObservableGauge

	kinds sync.Map // ofKind, made once per kind
}

// ofKind are the options of a measurement: made once, as they cost more than it.
type ofKind struct {
	add     []metric.AddOption
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

func (t *meters) of(kind string) *ofKind {
	if o, ok := t.kinds.Load(kind); ok {
		return o.(*ofKind)
	}
	with := metric.WithAttributeSet(attribute.NewSet(attribute.String("kind", kind)))
	o, _ := t.kinds.LoadOrStore(kind, &ofKind{[]metric.AddOption{with}, []metric.RecordOption{with}, []metric.ObserveOption{with}})
	return o.(*ofKind)
}

func (t *meters) init(m metric.Meter) error {
	var errs [8]error
	t.granted, errs[0] = m.Int64Counter("drover.syncqueue.granted", metric.WithDescription("Turns granted, by kind of key: told by the node where their holder first runs."))
	t.handoff, errs[1] = m.Float64Histogram("drover.syncqueue.handoff", metric.WithUnit("s"),
		metric.WithDescription("From a turn being freed to the next holder being started with it, in the same commit."))
	t.moved, errs[2] = m.Int64Counter("drover.syncqueue.moved", metric.WithDescription("Waiters moved in their line."))
	t.repaired, errs[3] = m.Int64Counter("drover.syncqueue.repaired", metric.WithDescription("Lines that the audit repaired: 0 for ever."))
	t.paused, errs[4] = m.Int64UpDownCounter("drover.syncqueue.paused", metric.WithDescription("Keys and kinds paused by this node, less those resumed by it."))
	t.waiting, errs[5] = m.Int64ObservableGauge("drover.syncqueue.waiting", metric.WithDescription("Waiters in the cluster, by kind of key."))
	t.held, errs[6] = m.Int64ObservableGauge("drover.syncqueue.held", metric.WithDescription("Turns held in the cluster, by kind of key."))
	t.oldest, errs[7] = m.Float64ObservableGauge("drover.syncqueue.oldest", metric.WithUnit("s"),
		metric.WithDescription("How long the first waiter has been in line, by kind of key."))
	return errors.Join(errs[:]...)
}

// Granted tells Config.Env.Meter that a turn of kind was granted to who runs with it now. Package job calls it for jobs, Take for
// items.
func (q *Queue) Granted(kind string) {
	if ctx := context.Background(); q.meters.granted.Enabled(ctx) {
		q.meters.granted.Add(ctx, 1, q.meters.of(kind).add...)
	}
}

// HandedOn tells Config.Env.Meter that a turn of kind came to who runs with it now in the commit that freed it, which took that long.
func (q *Queue) HandedOn(kind string, took time.Duration) {
	if ctx := context.Background(); q.meters.handoff.Enabled(ctx) {
		q.meters.handoff.Record(ctx, took.Seconds(), q.meters.of(kind).record...)
	}
}

// Observe tells Config.Env.Meter, whenever it collects, how many wait for turns and hold them, by kind of key, until stop is called.
// Package job calls it while it runs. Without a meter provider nothing is ever counted.
func (q *Queue) Observe() (stop func()) {
	reg, err := q.cfg.Env.Meter.Meter(instruments).RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		kinds, err := q.Page(ctx, Filter{Kinds: true})
		if err != nil {
			return err
		}
		now := q.cfg.Env.Clock.Now()
		for _, k := range kinds {
			of := q.meters.of(k.Key.Kind).observe
			o.ObserveInt64(q.meters.waiting, int64(k.Waiting), of...)
			o.ObserveInt64(q.meters.held, int64(k.Held), of...)
			if k.Waiting > 0 {
				o.ObserveFloat64(q.meters.oldest, max(0, now.Sub(k.Enqueued)).Seconds(), of...)
			}
		}
		return nil
	}, q.meters.waiting, q.meters.held, q.meters.oldest)
	if err != nil {
		q.cfg.Env.Logger.Warn("lines not observed", "component", "syncqueue", "err", err)
		return func() {}
	}
	return func() { _ = reg.Unregister() }
}
