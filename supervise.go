package drover

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// supervise runs p's component, again and again where Restart says so.
func (p *part) supervise(ctx context.Context) error {
	g := p.g
	policy := newRestarts(Policy{}, g.env.Rand)
	for {
		err := p.runOnce(ctx)
		if err == nil || ctx.Err() != nil || !p.opt.restart || IsPermanent(err) || g.isDraining() {
			return err
		}
		var d time.Duration
		if p.opt.delay != nil {
			d = p.opt.delay()
		} else {
			d = policy.next(g.env.Clock.Now())
		}
		if d < 0 {
			return fmt.Errorf("%w: %w", ErrRestarts, err)
		}
		g.mu.Lock()
		p.restarts++
		p.err = err
		p.enter("degraded")
		if p.opt.delay == nil && policy.last() {
			p.enter("failing")
		}
		n := p.restarts
		g.mu.Unlock()
		g.restarts.Add(ctx, 1, p.attrs())
		g.env.Logger.Warn("component.restarted", "component", p.path, "node", g.env.Node, "error", err, "in", d, "restarts", n)
		if g.env.Sleep(ctx, d) != nil {
			return nil //nolint:nilerr // stopped while it waited: no failure
		}
	}
}

func (p *part) attrs() metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("component", p.path))
}

// runOnce makes the component and runs it to its end; a panic, its own or of a goroutine that is its (Env.For), is its error.
func (p *part) runOnce(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	p.g.mu.Lock()
	p.runStop, p.foreign = cancel, nil
	p.g.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		close(over)
		cancel(nil)
		p.g.mu.Lock()
		p.comp, p.runStop = nil, nil
		foreign := p.foreign
		p.g.mu.Unlock()
		if foreign != nil && isStop(err) {
			err = nil
		}
		if foreign != nil {
			err = errors.Join(foreign, err)
		}
	}()
	c := p.make()
	if c == nil {
		return Permanent(fmt.Errorf("component factory gave nil: %w", ErrConfig))
	}
	p.g.mu.Lock()
	p.comp = c
	p.g.mu.Unlock()
	if r, ok := c.(Readier); ok {
		p.g.env.For(ctx).Go(p.path+"/ready", func() {
			select {
			case <-r.Ready():
				p.becomeReady()
			case <-over:
			}
		})
	} else {
		p.becomeReady()
	}
	return c.Run(ctx)
}
