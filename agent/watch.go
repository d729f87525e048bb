package agent

import (
	"context"
	"time"
)

// watch is a caller that waits for a result.
type watch struct {
	e     *entry
	ctx   context.Context
	call  *call // nil: it has not begun the task, and its end is not the task's
	late  <-chan time.Time
	wake  <-chan struct{}
	stop  func()
	cause error // why it waits no longer
}

func (c *Client) watch(ctx context.Context, e *entry, deadline time.Time, k *call) *watch {
	w := &watch{e: e, ctx: ctx, call: k, stop: func() {}}
	if deadline.Before(e.deadline) {
		w.late = c.env.Clock.After(deadline.Sub(c.env.Clock.Now()))
	}
	if c.cfg.Pending != nil && c.cfg.Notify != nil {
		w.wake, w.stop = c.cfg.Notify.Wake(Topic(string(e.task)))
	}
	return w
}

// result waits, and puts the result in v.
func (w *watch) result(v any) error {
	w.wait()
	return w.end(v)
}

func (w *watch) wait() {
	for w.cause == nil && w.e.ctx.Err() == nil {
		select {
		case <-w.e.ctx.Done():
		case <-w.ctx.Done():
			w.cause = context.Cause(w.ctx)
		case <-w.late:
			w.cause = context.DeadlineExceeded
		case <-w.wake:
			_ = w.e.c.look(w.ctx, []string{string(w.e.task)}) // the next look is within a second
		}
	}
}

func (w *watch) end(v any) (err error) {
	w.stop()
	if w.call != nil {
		defer func() { w.call.end(w.ctx, err) }()
	}
	e := w.e
	if e.ctx.Err() != nil {
		defer e.leave(true)
		if r := e.result(); r.err == nil {
			return decode(r.body, v)
		} else {
			return r.err
		}
	}
	sent := e.reached()
	err = ended(w.cause, sent)
	if e.leave(false) && e.c.finish(e, result{err: err}) && w.call != nil && sent {
		e.c.cancelLater(e)
	}
	return err
}
