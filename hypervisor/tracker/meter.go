package tracker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/store"
)

// meter holds the instruments.
type meter struct {
	tracer                                               trace.Tracer
	claims, audits, conflicts, expired, adopted, drifted metric.Int64Counter
	claimTime, auditTime, auditAge                       metric.Float64Histogram
	used, free, orphans                                  metric.Int64Gauge
}

func (m *meter) init(e drover.Env) error {
	const scope = "github.com/drover-cloud/drover/hypervisor/tracker"
	m.tracer = e.Tracer.Tracer(scope)
	x := e.Meter.Meter(scope)
	var errs []error
	for name, c := range map[string]*metric.Int64Counter{
		"claims": &m.claims, "audits": &m.audits, "conflicts": &m.conflicts, "expired": &m.expired, "adopted": &m.adopted, "drift": &m.drifted,
	} {
		var err error
		*c, err = x.Int64Counter("drover.tracker." + name)
		errs = append(errs, err)
	}
	for name, h := range map[string]*metric.Float64Histogram{
		"claim.duration": &m.claimTime, "audit.duration": &m.auditTime, "audit.age": &m.auditAge,
	} {
		var err error
		*h, err = x.Float64Histogram("drover.tracker."+name, metric.WithUnit("s"))
		errs = append(errs, err)
	}
	for name, g := range map[string]*metric.Int64Gauge{"used": &m.used, "free": &m.free, "orphans": &m.orphans} {
		var err error
		*g, err = x.Int64Gauge("drover.tracker." + name)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tracker: %w", err)
	}
	return nil
}

func (m *meter) count(ctx context.Context, c metric.Int64Counter, err error) {
	c.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result(err))))
}

func (m *meter) claimed(ctx context.Context, took time.Duration, err error) {
	m.count(ctx, m.claims, err)
	m.claimTime.Record(ctx, took.Seconds())
}

func (m *meter) audited(ctx context.Context, host string, took time.Duration, r Report, err error) {
	m.count(ctx, m.audits, err)
	m.auditTime.Record(ctx, took.Seconds())
	kinds := map[NoteKind]int{}
	for _, n := range r.Notes {
		kinds[n.Kind]++
	}
	m.drifted.Add(ctx, int64(kinds[Drift]))
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("host", host), attribute.Int64("generation", r.Usage.Generation),
		attribute.Int("notes", len(r.Notes)))
}

// settled counts a row that an audit moved on.
func (m *meter) settled(ctx context.Context, k NoteKind) {
	switch k {
	case Expire:
		m.expired.Add(ctx, 1)
	case Adopted:
		m.adopted.Add(ctx, 1)
	}
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNoRoom):
		return "no-room"
	case errors.Is(err, ErrDisabled):
		return "disabled"
	case errors.Is(err, ErrInvalid):
		return "invalid"
	case errors.Is(err, ErrStaleEpoch):
		return "stale"
	case errors.Is(err, store.ErrConflict):
		return "conflict"
	case errors.Is(err, hypervisor.ErrOutcomeUnknown):
		return "unknown"
	}
	return "error"
}

// measure records what the hosts hold, in total or by host.
func (t *Tracker) measure(ctx context.Context) {
	now := t.env.Clock.Now()
	var used, free, orphans Amount
	for _, u := range t.Hosts() {
		if a := t.host(u.Host).audit.Load(); !a.since.IsZero() {
			t.meter.auditAge.Record(ctx, now.Sub(a.since).Seconds())
		}
		if t.cfg.HostMetrics {
			t.meter.record(ctx, u.Used, u.Free, u.Orphans, attribute.String("host", u.Host))
			continue
		}
		used, free, orphans = used.Plus(u.Used), free.Plus(u.Free), orphans.Plus(u.Orphans)
	}
	if !t.cfg.HostMetrics {
		t.meter.record(ctx, used, free, orphans)
	}
}

func (m *meter) record(ctx context.Context, used, free, orphans Amount, labels ...attribute.KeyValue) {
	for _, n := range names(used, free, orphans) {
		with := metric.WithAttributes(append(labels, attribute.String("resource", n))...)
		m.used.Record(ctx, used.Get(n), with)
		m.free.Record(ctx, free.Get(n), with)
		m.orphans.Record(ctx, orphans.Get(n), with)
	}
}
