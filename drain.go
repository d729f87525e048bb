package drover

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// drain is one Drainer being asked.
type drain struct {
	p    *part
	d    Drainer
	done chan struct{}
	err  error // once done
}

// Drain asks every Drainer that runs, all at once, to finish what it has and take nothing new, and waits for them or for
// ctx, whose error then names those that had not finished. A Drainer that is drained already, or is just being asked, is
// not asked again. Called by a component of the Group (known by its ctx), Drain asks and returns at once, since a component
// cannot await itself. The stop of a component ends its drain's ctx. Components that are no Drainers go on; the Group stops
// only when ctx of Run ends or a component returns. From the first Drain on nothing is restarted.
func (g *Group) Drain(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	inside := ownerOf(ctx).inside(g)
	all, fresh := g.beginDrain(inside)
	for _, w := range fresh {
		base := context.WithValue(ctx, ownerKey{}, w.p)
		if inside {
			base = w.p.ctx
		}
		g.env.Go(w.p.path+"/drain", func() {
			defer close(w.done)
			dctx, cancel := context.WithCancelCause(base)
			defer cancel(nil)
			defer context.AfterFunc(w.p.ctx, func() { cancel(ErrStopping) })()
			w.err = guarded(func() error { return inHook(dctx, w.d.Drain) })
		})
	}
	if inside {
		return nil
	}
	var errs []error
	for _, w := range all {
		if err := w.wait(ctx); err != nil {
			errs = append(errs, named(w.p.name, err))
		}
	}
	return errors.Join(errs...)
}

// beginDrain lists the drains under way or done, and those of them to start.
func (g *Group) beginDrain(inside bool) (all, fresh []*drain) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
	for _, p := range g.parts {
		d, ok := p.comp.(Drainer)
		if !ok {
			continue
		}
		if p.drain == nil || p.drain.d != d || !inside && isClosed(p.drain.done) && p.drain.err != nil {
			p.drain = &drain{p: p, d: d, done: make(chan struct{})}
			p.enter("draining")
			fresh = append(fresh, p.drain)
		}
		all = append(all, p.drain)
	}
	return all, fresh
}

func (w *drain) wait(ctx context.Context) error {
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	if isClosed(w.done) {
		return w.err
	}
	return fmt.Errorf("not drained: %w", context.Cause(ctx))
}

func (g *Group) isDraining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining
}

// inside reports whether p belongs to g, or to a Group within it.
func (p *part) inside(g *Group) bool {
	for ; p != nil; p = ownerOf(p.g.ctx) {
		if p.g == g {
			return true
		}
	}
	return false
}

// guarded is f with a panic as its error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
