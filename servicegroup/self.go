package servicegroup

import (
	"context"
	"errors"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/chance"
)

const (
	firstRetry = 250 * time.Millisecond // of a join; doubled up to maxRetry
	maxRetry   = 5 * time.Second
	leaveLimit = 2 * time.Second
)

// phase of the own membership.
type phase int

const (
	outside phase = iota // not joined (yet)
	joined
	left
)

// self is the member's side of a Group, guarded by its mu.
type self struct {
	phase    phase
	member   Member // as the driver answered it; zero while outside
	due      time.Time
	grid     time.Time // any instant of the beats' grid
	retry    time.Duration
	until    time.Time // the end of good standing: beat sent + Down − Interval
	standing bool      // View.Self as last published
	isolated bool
	err      error     // of the last join or beat
	since    time.Time // of err, or of the state without
	final    error     // the ID is lost for good
	probe    *probe
}

// stepBeat joins or beats if that is due.
func (g *Group) stepBeat(ctx context.Context) (time.Time, error) {
	g.mu.Lock()
	s := &g.self
	due, final, idle := s.due, s.final, s.phase == left || g.cfg.Interval < 0
	g.mu.Unlock()
	switch {
	case final != nil:
		return time.Time{}, final
	case idle:
		return time.Time{}, nil
	case due.After(g.now()):
		return due, nil
	}
	if err := g.inTurn(ctx, g.attempt); err != nil && ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.phase == left {
		return time.Time{}, s.final
	}
	return s.due, nil
}

// inTurn runs f while no other join, beat or leave is under way.
func (g *Group) inTurn(ctx context.Context, f func(ctx context.Context) error) error {
	select {
	case <-g.turn:
		defer func() { g.turn <- struct{}{} }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f(ctx)
}

// attempt is one join or beat, in turn.
func (g *Group) attempt(ctx context.Context) error {
	g.mu.Lock()
	p := g.self.phase
	g.mu.Unlock()
	switch p {
	case outside:
		return g.join(ctx)
	case joined:
		return g.beat(ctx)
	}
	return nil
}

// member is what is written of this node.
func (g *Group) member() Member {
	h := g.health()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.self.member
	m.Group, m.ID, m.Addr, m.Version, m.Instance = g.cfg.Group, g.cfg.ID, g.cfg.Addr, g.cfg.Version, g.instance
	m.Meta, m.Health = maps.Clone(g.meta), h
	return m
}

// health asks the host, and cuts what it says to 1 KiB.
func (g *Group) health() (h drover.Health) {
	h.State = "ready"
	if g.cfg.Health == nil {
		return h
	}
	if err := guard(func() error { h = g.cfg.Health(); return nil }); err != nil {
		h = drover.Health{State: "degraded", Err: err}
	}
	h.Name, h.State = cut(h.Name, 128), cut(h.State, 32)
	if t := text(h.Err); len(t) > 768 {
		h.Err = errors.New(cut(t, 768))
	}
	return h
}

func cut(s string, n int) string { return s[:min(n, len(s))] }

func (g *Group) join(ctx context.Context) error {
	sent := g.now()
	ctx, cancel := context.WithTimeout(ctx, g.cfg.limit())
	defer cancel()
	ctx, span := g.meters.tracer.Start(ctx, "servicegroup.join", trace.WithAttributes(attribute.String("id", g.cfg.ID)))
	defer span.End()
	wait, err := g.settleProbe(ctx)
	if err == nil && wait > 0 {
		g.mu.Lock()
		g.self.due = sent.Add(wait)
		g.mu.Unlock()
		return nil
	}
	var m Member
	if err == nil {
		err = guard(func() (err error) { m, err = g.cfg.Driver.Join(ctx, g.member()); return err })
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.self
	switch {
	case errors.Is(err, ErrFenced) || errors.Is(err, ErrTaken):
		g.lost(now, err)
		return s.final
	case err != nil:
		s.retry = min(max(2*s.retry, firstRetry), maxRetry)
		s.due = now.Add(chance.Around(g.cfg.Env.Rand, s.retry, 0.2))
		g.failed(now, err)
		return err
	}
	s.phase, s.member, s.retry, s.probe = joined, m, 0, nil
	s.grid = sent.Add(time.Duration((1 - chance.Unit(g.cfg.Env.Rand)) * float64(g.cfg.Interval)))
	s.due = s.grid
	g.succeeded(sent, now)
	g.log.Info("joined", "incarnation", m.Incarnation)
	g.readSoon(now)
	return nil
}

func (g *Group) beat(ctx context.Context) error {
	m := g.member()
	sent := g.now()
	ctx, cancel := context.WithTimeout(ctx, g.cfg.limit())
	defer cancel()
	err := guard(func() error { return g.cfg.Driver.Beat(ctx, m) })
	now := g.now()
	g.meters.beaten(now.Sub(sent), err)
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.self
	if s.phase != joined || s.member.Incarnation != m.Incarnation {
		return err
	}
	s.due = g.onGrid(s.grid, now)
	switch {
	case err == nil:
		s.member.Beat++
		s.member.Health = m.Health
		g.succeeded(sent, now)
	case errors.Is(err, ErrFenced):
		g.lost(now, err)
	case errors.Is(err, ErrGone):
		g.log.Warn("own record is gone: joining again", "incarnation", m.Incarnation, "err", err)
		s.phase, s.due, s.err, s.since = outside, now, err, now
		g.known.drop(Fold(g.cfg.ID))
		g.publish(now)
	default:
		g.failed(now, err)
	}
	return err
}

// onGrid is the first instant of the grid after now.
func (g *Group) onGrid(grid, now time.Time) time.Time {
	every := g.cfg.every()
	if late := now.Sub(grid); late >= 0 {
		grid = grid.Add(late - late%every + every)
	}
	return grid
}

// succeeded notes a join or beat that was sent then. The caller holds mu.
func (g *Group) succeeded(sent, now time.Time) {
	s := &g.self
	s.until = sent.Add(g.cfg.Down - g.cfg.Interval)
	if s.err != nil {
		g.log.Info("recovered", "outage", now.Sub(s.since))
	}
	if s.isolated && now.Before(s.until) {
		g.log.Info("rejoined")
		s.isolated = false
	}
	if s.err != nil || s.since.IsZero() {
		s.err, s.since = nil, now
	}
	g.refresh(now)
	poke(g.wakes.clock)
}

// failed notes a join or beat that did not get through. The caller holds mu.
func (g *Group) failed(now time.Time, err error) {
	s := &g.self
	if s.err == nil {
		s.since = now
		g.log.Warn("disconnected", "err", err)
	}
	s.err = err
	g.refresh(now)
}

// lost ends the membership for good. The caller holds mu.
func (g *Group) lost(now time.Time, err error) {
	s := &g.self
	s.final, s.phase, s.until, s.since = drover.Permanent(err), left, now, now
	g.log.Error("fenced", "incarnation", s.member.Incarnation, "err", err)
	g.publish(now)
}

// Leave takes this node out of the group: Down with reason Left for the others. The view goes on; a new Group joins again.
// [ErrNotMember] if it has not joined; else the error is the driver's, and the record is left to its age.
func (g *Group) Leave(ctx context.Context) error { return g.inTurn(ctx, g.leave) }

func (g *Group) leave(ctx context.Context) error {
	now := g.now()
	g.mu.Lock()
	s := &g.self
	m, member := s.member, s.phase == joined
	if member {
		s.phase, s.until, s.isolated, s.err, s.since = left, now, false, nil, now
		g.publish(now)
	}
	g.mu.Unlock()
	if !member {
		return ErrNotMember
	}
	ctx, span := g.meters.tracer.Start(ctx, "servicegroup.leave", trace.WithAttributes(attribute.String("id", g.cfg.ID)))
	defer span.End()
	m.Group, m.ID, m.Instance = g.cfg.Group, g.cfg.ID, g.instance
	err := guard(func() error { return g.cfg.Driver.Leave(ctx, m) })
	if err != nil {
		g.log.Warn("not left, the record is left to its age", "err", err)
		return err
	}
	g.log.Info("left", "incarnation", m.Incarnation)
	return nil
}

// depart is Leave at the end of Run.
func (g *Group) depart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	_ = g.Leave(ctx) // logged
}
