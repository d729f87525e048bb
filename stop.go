package drover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"
)

const stopTimeout = 10 * time.Second

// stop ends p's ctx and waits for p: nil, or ErrStuck with the stacks of its goroutines.
func (p *part) stop() error {
	p.cancel(ErrStopping)
	if isClosed(p.done) {
		return nil
	}
	limit := p.stopTimeout()
	select {
	case <-p.done:
	case <-p.g.env.Clock.After(limit):
	}
	if isClosed(p.done) {
		return nil
	}
	dump := stacksOf(p.path)
	p.g.mu.Lock()
	p.enter("failing")
	p.err = ErrStuck
	p.g.mu.Unlock()
	p.g.stuck.Add(p.ctx, 1, p.attrs())
	p.g.env.Logger.Error("component stuck", "component", p.path, "node", p.g.env.Node, "after", limit, "stacks", string(dump))
	return named(p.name, fmt.Errorf("%w (%v)\n%s", ErrStuck, limit, dump))
}

// stopTimeout is the option, else the component's own, else 10 s.
func (p *part) stopTimeout() (d time.Duration) {
	if p.opt.stop > 0 {
		return p.opt.stop
	}
	p.g.mu.Lock()
	c := p.comp
	p.g.mu.Unlock()
	defer func() {
		if recover() != nil || d <= 0 {
			d = stopTimeout
		}
	}()
	if s, ok := c.(Stopper); ok {
		return s.StopTimeout()
	}
	return 0
}

// StopTimeout is what the components' stops may take together, and a second: a Group around this one waits that long.
func (g *Group) StopTimeout() time.Duration {
	g.mu.Lock()
	parts := slices.Clone(g.parts)
	g.mu.Unlock()
	sum := time.Second
	for _, p := range parts {
		sum += p.stopTimeout()
	}
	return sum
}

// stacksOf is the goroutine profile cut down to the goroutines of a component, at most 16 KiB of it.
func stacksOf(path string) []byte {
	var all, own bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return []byte(err.Error())
	}
	exact := []byte(`"drover.component":` + strconv.Quote(path))
	below := []byte(`"drover.component":` + strconv.Quote(path + "/")[:len(strconv.Quote(path+"/"))-1])
	for stack := range bytes.SplitSeq(all.Bytes(), []byte("\n\n")) {
		if (bytes.Contains(stack, exact) || bytes.Contains(stack, below)) && own.Len() < 16<<10 {
			own.Write(stack)
			own.WriteString("\n\n")
		}
	}
	return bytes.TrimSpace(own.Bytes())
}

func (g *Group) isDraining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining
}

// Drain asks every Drainer that runs, all at once, to finish what it has and take nothing new, and waits for them or for
// ctx, whose error then names those that had not finished. A component that drains its own Group is asked but not awaited.
// Components that are no Drainers go on; the Group stops only when ctx of Run ends or a component returns. From the first
// Drain on nothing is restarted.
func (g *Group) Drain(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	self := ownerOf(ctx)
	drains := g.beginDrain()
	for _, w := range drains {
		g.env.Go(w.p.path+"/drain", func() { w.done <- guarded(func() error { return w.d.Drain(ctx) }) })
	}
	var errs []error
	for _, w := range drains {
		if self.inside(w.p) {
			continue
		}
		var err error
		select {
		case err = <-w.done:
		case <-ctx.Done():
			select {
			case err = <-w.done:
			default:
				err = fmt.Errorf("not drained: %w", context.Cause(ctx))
			}
		}
		if err != nil {
			errs = append(errs, named(w.p.name, err))
		}
	}
	return errors.Join(errs...)
}

type drain struct {
	p    *part
	d    Drainer
	done chan error
}

func (g *Group) beginDrain() (drains []drain) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
	for _, p := range g.parts {
		if d, ok := p.comp.(Drainer); ok {
			p.enter("draining")
			drains = append(drains, drain{p, d, make(chan error, 1)})
		}
	}
	return drains
}

// inside reports whether p is outer or belongs to a Group that outer runs.
func (p *part) inside(outer *part) bool {
	for p != nil {
		if p == outer {
			return true
		}
		p = ownerOf(p.g.ctx)
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
