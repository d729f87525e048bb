package drover

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// calm is how long health must be good after it was not.
const calm = 10 * time.Second

// State is new, starting, running, draining, stopping, stopped or failed.
func (s *Service) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == "" {
		return "new"
	}
	return s.state
}

// Ready reports whether work should be sent here: the service runs, no stop has begun, and its Health is neither failing
// nor starting again, as of a session that has to be opened anew. It is never true before PostStart is done.
func (s *Service) Ready() bool {
	if !s.up() {
		return false
	}
	state := s.Health().State
	return state != "failing" && state != "starting" && s.up()
}

func (s *Service) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == "running" && s.asked == unasked && s.ctx.Err() == nil && !isClosed(s.Components.stopping)
}

// Live is false while a Loop of some component has been in one Step for more than three times its interval (1 s at least,
// and 10 s before it has named one). Restart a process of which that is so for minutes.
func (s *Service) Live() bool {
	alive := true
	s.mu.Lock()
	clock := s.env.Clock
	s.mu.Unlock()
	s.Components.each(func(p *part, _ Component) {
		for _, b := range p.loops() {
			alive = alive && !b.stuck(clock.Now())
		}
	})
	return alive
}

// Health is the worst of the components' while the service runs, else its phase. It gets worse at once, and good only when
// it has been seen good for 10 s. It takes 100 ms at most: see Group.Health.
func (s *Service) Health() Health {
	own := s.phase()
	if own.State != "ready" {
		return own
	}
	worst := own
	for _, h := range s.Components.Health() {
		switch h.State {
		case "", "starting", "stopped": // of its own accord: late, or Background
			if h.Err == nil {
				continue
			}
		}
		if badness(h.State) > badness(worst.State) {
			worst = h
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damp.show(worst, s.env.Clock.Now())
}

// phase is the health of a service whose components are all well.
func (s *Service) phase() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{Name: s.Topic, State: s.state, Since: s.since, Err: s.err}
	switch s.state {
	case "", "new":
		h.State = "starting"
	case "running":
		h.State = "ready"
	case "stopping":
		h.State = "draining"
	case "failed":
		h.State = "failing"
	}
	return h
}

// Status is that of the service itself, named by its Topic and with its State, then that of each component.
func (s *Service) Status() []Status {
	h := s.Health()
	s.mu.Lock()
	own := Status{Name: s.Topic, State: s.state, Since: s.since, Err: s.err, Health: h}
	s.mu.Unlock()
	if own.State == "" {
		own.State = "new"
	}
	return append([]Status{own}, s.Components.Status()...)
}

// damper keeps a state that is not good for a while.
type damper struct {
	shown Health
	good  time.Time // since when it has been; zero = it is not
}

func (d *damper) show(h Health, now time.Time) Health {
	switch {
	case h.State != "ready":
		d.good = time.Time{}
		d.shown = h
	case d.shown.State == "" || d.shown.State == "ready":
		d.shown = h
	case d.good.IsZero():
		d.good = now
	case now.Sub(d.good) >= calm:
		d.shown, d.good = h, time.Time{}
	}
	return d.shown
}

// Reload has every Reloader read its configuration again, in order of Add; one that fails keeps the old one, and the errors
// are joined. One Reload runs at a time.
func (s *Service) Reload(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	turn := s.turn
	s.mu.Unlock()
	if turn == nil {
		return nil // nothing runs
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		select {
		case <-turn:
		default:
		}
		return context.Cause(ctx)
	}
	defer func() { <-turn }()
	var errs []error
	s.Components.each(func(p *part, c Component) {
		if r, ok := c.(Reloader); ok {
			if err := guarded(func() error { return inHook(ctx, r.Reload) }); err != nil {
				errs = append(errs, named(p.path, err))
			}
		}
	})
	return errors.Join(errs...)
}

// meters are the instruments of a Service.
type meters struct {
	meter            metric.Meter
	state, ready     metric.Int64ObservableGauge
	health, inflight metric.Int64ObservableGauge
	drainTime        metric.Float64Histogram
}

func (m *meters) init(e Env) {
	m.meter = e.Meter.Meter(scope)
	m.state, _ = m.meter.Int64ObservableGauge("drover.service.state", metric.WithDescription("1 for the present state."))
	m.ready, _ = m.meter.Int64ObservableGauge("drover.service.ready")
	m.health, _ = m.meter.Int64ObservableGauge("drover.service.health", metric.WithDescription("0 ready, 1 stopped, 2 draining, 3 starting, 4 degraded, 5 failing, by component."))
	m.inflight, _ = m.meter.Int64ObservableGauge("drover.service.drain.inflight")
	m.drainTime, _ = m.meter.Float64Histogram("drover.service.drain.duration", metric.WithUnit("s"))
}

func (m *meters) drained(d time.Duration) { m.drainTime.Record(context.Background(), d.Seconds()) }

// observe reports s until end is called.
func (m *meters) observe(s *Service) (end func()) {
	r, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		ready := int64(0)
		if s.Ready() {
			ready = 1
		}
		o.ObserveInt64(m.ready, ready)
		o.ObserveInt64(m.state, 1, metric.WithAttributes(attribute.String("state", s.State())))
		o.ObserveInt64(m.inflight, int64(len(s.Inflight())))
		for _, h := range s.Components.Health() {
			o.ObserveInt64(m.health, int64(badness(h.State)), metric.WithAttributes(attribute.String("component", h.Name)))
		}
		return nil
	}, m.state, m.ready, m.health, m.inflight)
	if err != nil {
		return func() {}
	}
	return func() { _ = r.Unregister() }
}
