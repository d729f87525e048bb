package drover

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// part is a component of a Group: its value of the moment, its supervision and its end.
type part struct {
	g    *Group
	name string // in g
	make func() Component
	opt  groupOptions

	ready chan struct{} // closed once
	done  chan struct{} // closed after the last Run has returned

	// Set by claim, constant afterwards.
	path   string // with the names of the Groups around
	ctx    context.Context
	cancel context.CancelCauseFunc

	// Guarded by g.mu.
	started  bool
	removed  bool      // its end stops nobody
	comp     Component // nil between runs
	runStop  context.CancelCauseFunc
	foreign  error // of a goroutine of the component
	state    string
	since    time.Time
	restarts int
	err      error
	asked    *ask   // the last
	drain    *drain // the last
	beats    []*beat
}

func newPart(g *Group, name string, make_ func() Component, o groupOptions) *part {
	return &part{g: g, name: name, make: make_, opt: o, ready: make(chan struct{}), done: make(chan struct{})}
}

type ownerKey struct{}

// ownerOf is the part whose Run was given ctx, nil outside a Group.
func ownerOf(ctx context.Context) *part {
	p, _ := ctx.Value(ownerKey{}).(*part)
	return p
}

// For is e whose Go belongs to the component that was given ctx by its Group: a panic in such a goroutine ends the
// component as if its Run had panicked, and the goroutine is found under the component's name and its own when the
// component is stuck. A component with goroutines calls it first thing in Run. Outside a Group it is e.
func (e Env) For(ctx context.Context) Env {
	p := ownerOf(ctx)
	if p == nil {
		return e
	}
	start := e.Defaults().Go
	e.Go = func(name string, f func()) {
		start(name, func() {
			pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("drover.go", name)))
			defer func() {
				if v := recover(); v != nil {
					p.fail(fmt.Errorf("goroutine %s: %w", name, &PanicError{Value: v, Stack: debug.Stack()}))
				}
			}()
			f()
		})
	}
	return e
}

// enter changes the state. The caller holds g.mu.
func (p *part) enter(state string) { p.state, p.since = state, p.g.env.Clock.Now() }

// fail ends the present run with err.
func (p *part) fail(err error) {
	p.g.mu.Lock()
	p.foreign = errors.Join(p.foreign, err)
	stop := p.runStop
	p.g.mu.Unlock()
	if stop != nil {
		stop(err)
	}
}

// launch starts the goroutine of p, which claim has marked.
func (p *part) launch() {
	p.g.env.Go(p.path, func() {
		err := error(&PanicError{Stack: []byte("runtime.Goexit")}) // unless supervise returns
		defer func() { p.finish(err) }()
		pprof.Do(p.ctx, pprof.Labels("drover.component", p.path), func(ctx context.Context) {
			err = p.supervise(ctx)
		})
	})
}

// finish records the end of p; the first end stops the Group.
func (p *part) finish(err error) {
	g := p.g
	if p.ctx.Err() != nil && isStop(err) {
		err = nil
	}
	if err != nil {
		g.env.Logger.Error("component.failed", "component", p.path, "node", g.env.Node, "error", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.err = err
	p.enter("stopped")
	if !p.removed && (err != nil || !p.opt.background) {
		g.haltLocked(named(p.name, err))
	}
	close(p.done)
}

// isStop reports whether err says only that a ctx ended.
func isStop(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == context.Canceled || err == ErrStopping { //nolint:errorlint // link by link
			return true
		}
	}
	return false
}

func (p *part) becomeReady() {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	if p.state != "stopped" && p.state != "draining" {
		p.enter("ready")
	}
	if !isClosed(p.ready) {
		close(p.ready)
	}
}

// awaitReady waits until the Group may go on to the next component: nil, ErrNotReady, or ErrStopping when it may not.
func (p *part) awaitReady() error {
	g := p.g
	limit := cmpOr(p.opt.ready, time.Minute)
	select {
	case <-p.ready:
	case <-p.done:
	default:
		select {
		case <-p.ready:
		case <-p.done: // of its own accord; halt knows whether that matters
		case <-g.stopping:
		case <-g.ctx.Done():
		case <-g.env.Clock.After(limit):
			if !isClosed(p.ready) && !isClosed(p.done) && g.ctx.Err() == nil && !isClosed(g.stopping) {
				return named(p.name, fmt.Errorf("%w (%v)", ErrNotReady, limit))
			}
		}
	}
	if g.ctx.Err() != nil || isClosed(g.stopping) {
		return named(p.name, ErrStopping)
	}
	return nil
}

// added is what Add does during Run, after launch.
func (p *part) added() error {
	err := p.awaitReady()
	if errors.Is(err, ErrNotReady) {
		p.g.mu.Lock()
		p.removed = true
		p.g.mu.Unlock()
		return errors.Join(err, p.stop())
	}
	return err
}

func cmpOr(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}
