package drover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
)

// Group runs components together. It starts them in order of Add, each when the one before is ready, and stops them in
// exactly the reverse order of their start. The first of them that returns, with an error or without, stops the others.
// The zero value is an empty Group; a Group runs once. All methods may be called at any time from any goroutine, those
// of its own components included. A Group is itself a Component and may be added to another, whose Env fills its own.
type Group struct {
	// Env is set before Run; zero fields come from the Group around this one, if any, else they are production.
	Env Env

	mu       sync.Mutex // never held while component code runs or is waited for
	phase    phase
	draining bool
	parts    []*part // in order of Add
	order    []*part // in order of start
	names    map[string]*part
	bases    map[string]bool // of Replicate
	config   []error         // found by Add before Run
	errs     []error         // of Run, in order of arrival
	ready    chan struct{}   // closed when all have started
	stopping chan struct{}   // closed when the stop begins

	// Set by a Service before Run.
	onReady   func() error    // when all but the late ones are ready; its error stops the Group
	onStop    func()          // when the stop begins, before the first component is cancelled
	stopAfter time.Duration   // in place of 10 s
	spans     context.Context // what the spans of starting components belong to; nil = none

	// Set when Run begins, constant afterwards.
	env      Env
	prefix   string
	ctx      context.Context
	restarts metric.Int64Counter
	stuck    metric.Int64Counter
}

// scope names this library to OpenTelemetry.
const scope = "github.com/drover-cloud/drover"

type phase int

const (
	idle phase = iota
	running
	stopping // nothing starts any more
	ended
)

// Add adds c under a name that is unique in the Group. Before Run it starts nothing, and what is wrong with it (ErrConfig,
// ErrDuplicate) is returned by Run as well. During Run it starts c at once and waits until c is ready: ErrNotReady if
// that takes too long (c is stopped again), ErrStopping when the Group stops or has stopped.
func (g *Group) Add(name string, c Component, opts ...GroupOption) error {
	o := newOptions(opts)
	if c == nil {
		return g.refuse(name, fmt.Errorf("component is nil: %w", ErrConfig))
	}
	if _, ok := c.(Func); !ok && o.restart {
		return g.refuse(name, fmt.Errorf("Restart needs Replicate or a Func, to make a new value: %w", ErrConfig))
	}
	return g.add(name, func() Component { return c }, o)
}

// Replicate adds n components name-0, name-1…; f makes each of them when it starts, and again when Restart repeats it.
// The rest is as for Add; n < 1 is ErrConfig.
func (g *Group) Replicate(name string, n int, f func(i int) Component, opts ...GroupOption) error {
	o := newOptions(opts)
	switch {
	case name == "":
		return g.refuse(name, fmt.Errorf("name is empty: %w", ErrConfig))
	case n < 1:
		return g.refuse(name, fmt.Errorf("Replicate of %d components: %w", n, ErrConfig))
	case f == nil:
		return g.refuse(name, fmt.Errorf("component factory is nil: %w", ErrConfig))
	}
	for i := range n {
		if err := g.add(fmt.Sprintf("%s-%d", name, i), func() Component { return f(i) }, o); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bases == nil {
		g.bases = map[string]bool{}
	}
	g.bases[name] = true
	return nil
}

func (g *Group) add(name string, make func() Component, o groupOptions) error {
	p := newPart(g, name, make, o)
	g.mu.Lock()
	if err := g.check(p); err != nil {
		g.mu.Unlock()
		return g.refuse(name, err)
	}
	if g.phase >= stopping || g.phase == running && (g.ctx.Err() != nil || isClosed(g.stopping)) {
		g.mu.Unlock()
		return named(name, ErrStopping)
	}
	if g.names == nil {
		g.names = map[string]*part{}
	}
	g.names[name] = p
	g.parts = append(g.parts, p)
	now := g.phase == running && (!o.afterReady || isClosed(g.readyLocked()))
	if now {
		g.claim(p)
	}
	g.mu.Unlock()
	if !now {
		return nil
	}
	p.launch()
	return p.added()
}

// check finds what is wrong with p. The caller holds g.mu.
func (g *Group) check(p *part) error {
	switch {
	case p.name == "":
		return fmt.Errorf("name is empty: %w", ErrConfig)
	case g.names[p.name] != nil:
		return ErrDuplicate
	case p.opt.stop < 0 || p.opt.ready < 0:
		return fmt.Errorf("StopTimeout or ReadyTimeout is negative: %w", ErrConfig)
	}
	for _, n := range p.opt.needs {
		switch q := g.names[n]; {
		case q == nil && !g.bases[n]:
			return fmt.Errorf("Needs(%q) names nothing added before: %w", n, ErrConfig)
		case q != nil && q.opt.afterReady && !p.opt.afterReady:
			return fmt.Errorf("Needs(%q) names one that starts later (AfterReady): %w", n, ErrConfig)
		}
	}
	return nil
}

// refuse keeps an error of Add for Run, unless that has begun.
func (g *Group) refuse(name string, err error) error {
	err = named(name, err)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.phase == idle {
		g.config = append(g.config, err)
	}
	return err
}

// Run starts the components and waits for the end of ctx or for the first of them to return; then it stops them. It gives
// nil after an orderly stop, else the errors of the components in order of arrival, each with its name: their own,
// ErrNotReady, ErrRestarts, ErrStuck, a *PanicError. Run a second time gives ErrRunning or ErrUsed.
func (g *Group) Run(ctx context.Context) error {
	if err := g.open(ctx); err != nil {
		return err
	}
	if ctx.Err() == nil && g.startAll() && g.opened() {
		g.mu.Lock()
		close(g.readyLocked())
		g.mu.Unlock()
		if g.startLate() {
			select {
			case <-ctx.Done():
			case <-g.stopping:
			}
		}
	}
	if g.onStop != nil {
		g.onStop()
	}
	g.stopAll()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phase = ended
	if len(g.errs) == 1 {
		return g.errs[0]
	}
	return errors.Join(g.errs...)
}

func (g *Group) open(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.phase {
	case running, stopping:
		return ErrRunning
	case ended:
		return ErrUsed
	}
	g.stopping = make(chan struct{})
	if len(g.config) > 0 {
		g.phase = ended
		return errors.Join(g.config...)
	}
	env := g.Env
	if o := ownerOf(ctx); o != nil {
		env, g.prefix = env.over(o.g.env), o.path+"/"
	}
	g.env, g.ctx, g.phase = env.Defaults(), ctx, running
	m := g.env.Meter.Meter(scope)
	g.restarts, _ = m.Int64Counter("drover.group.restarts")
	g.stuck, _ = m.Int64Counter("drover.group.stuck")
	return nil
}

// startAll starts what does not wait for readiness; false means stop.
func (g *Group) startAll() bool  { return g.start(false) }
func (g *Group) startLate() bool { return g.start(true) }

func (g *Group) start(late bool) bool {
	for {
		p := g.next(late)
		if p == nil {
			return g.ctx.Err() == nil && !isClosed(g.stopping)
		}
		end := g.span(p)
		p.launch()
		err := p.awaitReady()
		end(err)
		if err != nil {
			if !errors.Is(err, ErrStopping) {
				g.halt(err)
			}
			return false
		}
	}
}

// opened tells the Service that all components are ready; false means stop.
func (g *Group) opened() bool {
	if g.onReady == nil {
		return true
	}
	if err := g.onReady(); err != nil {
		g.halt(err)
		return false
	}
	return true
}

// span is open while p starts.
func (g *Group) span(p *part) (end func(error)) {
	if g.spans == nil {
		return func(error) {}
	}
	_, span := g.env.Tracer.Tracer(scope).Start(g.spans, "component "+p.path)
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// next claims the first part that has not been started.
func (g *Group) next(late bool) *part {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.phase != running || g.ctx.Err() != nil || isClosed(g.stopping) {
		return nil
	}
	for _, p := range g.parts {
		if !p.started && p.opt.afterReady == late {
			g.claim(p)
			return p
		}
	}
	return nil
}

// claim marks p as started. The caller holds g.mu.
func (g *Group) claim(p *part) {
	p.started = true
	p.path = g.prefix + p.name
	p.enter("starting")
	p.ctx, p.cancel = context.WithCancelCause(context.WithValue(context.WithoutCancel(g.ctx), ownerKey{}, p))
	g.order = append(g.order, p)
}

// halt begins the stop, with an error or without.
func (g *Group) halt(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.haltLocked(err)
}

func (g *Group) haltLocked(err error) {
	if err != nil {
		g.errs = append(g.errs, err)
	}
	if !isClosed(g.stopping) {
		close(g.stopping)
	}
}

// stopAll stops what was started, last first.
func (g *Group) stopAll() {
	g.halt(nil)
	g.mu.Lock()
	g.phase = stopping
	order := slices.Clone(g.order)
	g.mu.Unlock()
	for _, p := range slices.Backward(order) {
		if err := p.stop(); err != nil {
			g.halt(err)
		}
	}
}

// Ready is closed when all components have started and are ready; a Group in a Group is awaited like any Readier.
func (g *Group) Ready() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.readyLocked()
}

func (g *Group) readyLocked() chan struct{} {
	if g.ready == nil {
		g.ready = make(chan struct{})
	}
	return g.ready
}

// isClosed is for channels that are closed and never sent to.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// each calls f for every component that runs, in order of Add; for a Group in the Group, for its components instead.
func (g *Group) each(f func(p *part, c Component)) {
	type running struct {
		p *part
		c Component
	}
	var all []running
	g.mu.Lock()
	for _, p := range g.parts {
		if p.comp != nil {
			all = append(all, running{p, p.comp})
		}
	}
	g.mu.Unlock()
	for _, r := range all {
		if inner, ok := r.c.(*Group); ok {
			inner.each(f)
			continue
		}
		f(r.p, r.c)
	}
}
