package lease

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/drover-cloud/drover/lease"

type meters struct {
	renewals, lost metric.Int64Counter
	changes        metric.Int64Counter
	held           metric.Int64UpDownCounter
}

func newMeters(s *Session) (m meters, err error) {
	meter := s.cfg.Env.Meter.Meter(scope)
	count := func(name string) (c metric.Int64Counter) {
		if err == nil {
			c, err = meter.Int64Counter("drover.lease." + name)
		}
		return c
	}
	m = meters{renewals: count("renewals"), lost: count("lost"), changes: count("changes")}
	if err == nil {
		m.held, err = meter.Int64UpDownCounter("drover.lease.held")
	}
	if err == nil {
		_, err = meter.Float64ObservableGauge("drover.lease.trust", metric.WithUnit("s"),
			metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
				o.Observe(s.trustLeft(), metric.WithAttributes(attribute.String("session", s.cfg.Name)))
				return nil
			}))
	}
	return m, err
}

// trustLeft is in seconds, 0 while no session is open.
func (s *Session) trustLeft() float64 {
	now := s.cfg.Env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return 0
	}
	return max(0, s.cur.trust.until.Sub(now).Seconds())
}

func (m meters) renewed(err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.renewals.Add(context.Background(), 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

func (m meters) hold(name string, n int64) {
	attrs := metric.WithAttributes(attribute.String("name", name))
	m.held.Add(context.Background(), n, attrs)
	if n > 0 {
		m.changes.Add(context.Background(), 1, attrs)
	}
}
