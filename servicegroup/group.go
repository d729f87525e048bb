package servicegroup

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
)

// Group is this process's membership in a group, and its view of it: a [drover.Component], [drover.Stepper], [drover.Reporter]
// and [drover.Announcer]. It is safe for concurrent use.
//
// As a member it joins, beats each Interval and leaves when Run ends. As a watcher it reads the group each Interval, and at once
// on a driver's hint. A driver that cannot be reached is retried for ever; drover never ends the process for that: a host that
// wants so watches for [EventIsolated] and returns from a component of its own.
type Group struct {
	cfg      Config
	log      *slog.Logger
	name     string // of goroutines
	instance string
	meters   meters
	view     atomic.Pointer[View]
	turn     chan struct{} // one token: the right to join, beat or leave
	wakes    struct{ beat, read, clock chan struct{} }

	mu      sync.Mutex // held for memory only
	run     int        // 0 not yet, 1 running, 2 has run
	env     drover.Env // of Run
	meta    map[string]string
	self    self
	reader  reader
	known   tracks
	watched watchers
}

// New checks cfg. [ErrConfig], [ErrID] and [ErrMeta] name the field.
func New(cfg Config) (*Group, error) {
	cfg, raised := cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	g := &Group{
		cfg: cfg, log: cfg.Env.Logger.With("component", "servicegroup", "group", cfg.Group, "id", cfg.ID),
		name: "servicegroup/" + cfg.Group + "/" + cfg.ID, instance: cfg.Env.NewID(), meta: cfg.Meta,
		turn: make(chan struct{}, 1), env: cfg.Env,
	}
	g.turn <- struct{}{}
	g.wakes.beat, g.wakes.read, g.wakes.clock = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	g.known.init()
	g.view.Store(&View{critical: cfg.Critical})
	if raised {
		g.log.Warn("Down is not longer than Interval: raised", "interval", cfg.Interval, "down", cfg.Down)
	}
	var err error
	if g.meters, err = newMeters(g); err != nil {
		return nil, fmt.Errorf("servicegroup: meters: %w", err)
	}
	return g, nil
}

// stepFunc is a part of Step as a Stepper, for drover.Loop.
type stepFunc func(ctx context.Context) (time.Time, error)

func (f stepFunc) Step(ctx context.Context) (time.Time, error) { return f(ctx) }

// Run joins, beats and watches until ctx ends, then leaves (within 2 s). The error is nil, or a permanent [ErrFenced] or
// [ErrTaken], which no supervisor repeats; a second Run is [drover.ErrRunning] or [drover.ErrUsed].
func (g *Group) Run(ctx context.Context) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	if err := g.start(inner); err != nil {
		return err
	}
	defer g.finish()
	var parts []chan struct{}
	spawn := func(name string, f func()) {
		done := make(chan struct{})
		parts = append(parts, done)
		g.env.Go(g.name+"/"+name, func() { defer close(done); f() })
	}
	if !g.cfg.BeatOnly {
		spawn("read", func() { _ = drover.Loop(inner, g.cfg.Env, g.wakes.read, stepFunc(g.stepRead)) })
		if w, ok := g.cfg.Driver.(Watcher); ok {
			spawn("hints", func() { g.listen(inner, w) })
		}
	}
	spawn("clock", func() { _ = drover.Loop(inner, g.cfg.Env, g.wakes.clock, stepFunc(g.stepClock)) })
	err := drover.Loop(ctx, g.cfg.Env, g.wakes.beat, stepFunc(g.stepBeat))
	stop()
	for _, done := range parts {
		<-done
	}
	g.depart(ctx)
	return err
}

func (g *Group) start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.run {
	case 1:
		return drover.ErrRunning
	case 2:
		return drover.ErrUsed
	}
	g.run, g.env = 1, g.cfg.Env.For(ctx)
	for _, w := range g.watched.list {
		g.serve(w)
	}
	return nil
}

// finish ends the watchers, each after the last view.
func (g *Group) finish() {
	g.mu.Lock()
	g.run = 2
	list := g.watched.list
	for _, w := range list {
		w.ending = true
		poke(w.wake)
	}
	g.mu.Unlock()
	g.watched.served.Wait()
}

// Step does one beat and one read if they are due, inline, calls the watchers, and says when it wants to be called next.
func (g *Group) Step(ctx context.Context) (next time.Time, err error) {
	steps := []stepFunc{g.stepBeat, g.stepRead, g.stepClock}
	if g.cfg.BeatOnly {
		steps = []stepFunc{g.stepBeat, g.stepClock}
	}
	for _, f := range steps {
		var due time.Time
		if due, err = f(ctx); err != nil {
			break
		}
		if next.IsZero() || !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	g.deliverAll()
	if err != nil {
		return time.Time{}, err
	}
	return next, nil
}

// stepClock notes what only time changes: the end of the own good standing, and that nothing was read for too long.
func (g *Group) stepClock(context.Context) (next time.Time, err error) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refresh(now)
	if g.self.standing {
		next = g.self.until
	}
	if stale := g.reader.last.Add(g.cfg.Down + 1); !g.reader.last.IsZero() && stale.After(now) && (next.IsZero() || stale.Before(next)) {
		next = stale
	}
	return next, nil
}

func (g *Group) now() time.Time { return g.cfg.Env.Clock.Now() }

// Self is the own record as this node last wrote it; Incarnation is 0 while it is not joined.
func (g *Group) Self() Member {
	v := g.view.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.self.member
	m.Group, m.ID, m.Addr, m.Version, m.Instance = g.cfg.Group, g.cfg.ID, g.cfg.Addr, g.cfg.Version, g.instance
	m.Meta = maps.Clone(g.meta)
	m.State, m.Reason = Unknown, Never
	if k := v.index[Fold(g.cfg.ID)]; k != nil && k.Instance == g.instance {
		m.State, m.Reason = k.State, k.Reason
	}
	return m
}

// View is the present one. It takes no lock and does no I/O.
func (g *Group) View() View { return *g.view.Load() }

// IsUp is View().IsUp(id).
func (g *Group) IsUp(id string) bool { return g.view.Load().isUp(id) }

// State of a member, and why. One that was never seen is Unknown: WarmUp before the first read, DriverError while reads fail,
// else Never.
func (g *Group) State(id string) (State, Reason) {
	if m, ok := g.view.Load().Member(id); ok {
		return m.State, m.Reason
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.reader.tries == 0:
		return Unknown, WarmUp
	case g.stale(now):
		return Unknown, DriverError
	}
	return Unknown, Never
}

// Members reads the group now and answers it as judged, sorted by ID. The error is the driver's.
func (g *Group) Members(ctx context.Context) ([]Member, error) {
	if err := g.read(ctx); err != nil {
		return nil, err
	}
	return g.view.Load().Members(), nil
}

// Health is of this node's membership: starting, ready, degraded when beats fail, failing when isolated or fenced, stopped.
func (g *Group) Health() drover.Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := drover.Health{Name: "servicegroup", State: "starting", Err: g.self.err, Since: g.self.since}
	switch s := &g.self; {
	case s.final != nil:
		h.State, h.Err = "failing", s.final
	case s.phase == left:
		h.State = "stopped"
	case s.isolated:
		h.State = "failing"
	case s.err != nil && s.phase == joined:
		h.State = "degraded"
	case s.phase == joined || g.cfg.Interval < 0 && !g.reader.last.IsZero():
		h.State = "ready"
	}
	return h
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
