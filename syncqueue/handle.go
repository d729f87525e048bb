package syncqueue

import (
	"context"
	"fmt"
	"time"
)

// Handle is a task given to Local.Go. Its methods may be called by many, at any time.
type Handle struct {
	t    *task // nil: refused
	part *part // in a shared task; of a refused one: why
}

// part is what one of several Handles has in a task. It is guarded by the lock of the task's shard.
type part struct {
	left bool
	err  error         // once left
	gone chan struct{} // made by the first who waits, closed when left
}

func failed(err error) *Handle { return &Handle{part: &part{err: err}} }

// Wait gives the function's error once it has returned, or why it was not called. When ctx ends first it gives ctx's cause,
// and the task goes on. In a function that holds the task's key Wait is ErrReentrant at once.
func (h *Handle) Wait(ctx context.Context) error {
	_, err := h.wait(ctx)
	return err
}

// Cancel takes the task back: from the line at once, or, when it runs, by cancelling its ctx; its turn ends when its
// function returns. Of a task that others have joined (Coalesce) only this Handle's part ends.
func (h *Handle) Cancel() {
	t := h.t
	switch {
	case t == nil:
	case t.shared:
		_ = h.leave(context.Canceled, context.Canceled) // Wait answers it
	case !t.drop(context.Canceled):
		t.cancellable().cancel(context.Canceled)
	}
}

// wait is Wait, and says whether err is the task's (or the handle's own), not ctx's.
func (h *Handle) wait(ctx context.Context) (ended bool, err error) {
	t := h.t
	if t == nil {
		return true, h.part.err
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	done, gone, err := h.channels()
	if done == nil {
		return true, err
	}
	if held := heldBy(ctx); held != nil {
		if t.key != (Key{}) && held.holds(t.l, t.key, t.single) {
			return false, fmt.Errorf("%w: %s", ErrReentrant, t.key)
		}
		held.waits.Store(&t.key)
		defer held.waits.Store(nil)
	}
	select {
	case <-done:
	case <-gone:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	_, _, err = h.channels()
	return true, err
}

// channels gives what to wait for; a nil done means that the handle has its error.
func (h *Handle) channels() (done, gone chan struct{}, err error) {
	t := h.t
	sh := t.l.shard(t.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := h.part
	if t.shared && p.left {
		return nil, nil, p.err
	}
	if t.state == finished {
		return nil, nil, t.result()
	}
	if t.signal == nil {
		t.signal = make(chan struct{})
	}
	if !t.shared {
		return t.signal, nil, nil
	}
	if p.gone == nil {
		p.gone = make(chan struct{})
	}
	return t.signal, p.gone, nil
}

// waitOrLeave waits for a shared task, and leaves it when ctx ends. Only when ended is the task's result there.
func (h *Handle) waitOrLeave(ctx context.Context) (ended bool, err error) {
	ended, err = h.wait(ctx)
	if !ended {
		err = h.leaveFor(ctx, err)
	}
	return ended && !h.hasLeft(), err
}

func (h *Handle) hasLeft() bool {
	sh := h.t.l.shard(h.t.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return h.part.left
}

func (h *Handle) leaveFor(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		_ = h.leave(err, err)
		return err
	}
	return h.leave(ended(ctx), context.Cause(ctx))
}

// leave gives up a part in a shared task, with one error while it waits and another while it runs; the last to leave takes
// the task with it. It answers the handle's error.
func (h *Handle) leave(pending, run error) error {
	t, p := h.t, h.part
	sh := t.l.shard(t.key)
	sh.mu.Lock()
	if p.left || t.state == finished {
		defer sh.mu.Unlock()
		if p.left {
			return p.err
		}
		return t.result()
	}
	p.left, p.err = true, run
	if t.state == waiting {
		p.err = pending
	}
	err, gone := p.err, p.gone
	t.w.waiters--
	last := t.w.waiters == 0
	if last && t.state == waiting {
		t.e.dedupes[t.x.coalesceOf].pending = nil // nobody joins what is about to be dropped
	}
	sh.mu.Unlock()
	if gone != nil {
		close(gone)
	}
	if last && !t.drop(err) {
		t.cancellable().cancel(err)
	}
	return err
}

// watch leaves the shared task when ctx ends.
func (h *Handle) watch(ctx context.Context) {
	if ctx.Done() == nil {
		return
	}
	h.t.keep(context.AfterFunc(ctx, func() { _ = h.leaveFor(ctx, nil) }))
}

// expire leaves the shared task if it still waits after d.
func (h *Handle) expire(d time.Duration) {
	if d <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	stop := context.AfterFunc(ctx, func() {
		if h.t.isWaiting() {
			_ = h.leave(ErrExpired, ErrExpired)
		}
	})
	h.t.keep(func() bool { defer cancel(); return stop() })
}

// watch drops a waiting task of a goroutine of its own when its ctx ends or d is over.
func (t *task) watch(d time.Duration) {
	ctx := t.parent
	if ctx.Done() == nil && d <= 0 {
		return
	}
	cancel := func() {}
	if d > 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, d, ErrExpired)
	}
	stop := context.AfterFunc(ctx, func() { t.drop(ended(ctx)) })
	t.keep(func() bool { defer cancel(); return stop() })
}

// keep has stop called when t is finished.
func (t *task) keep(stop func() bool) {
	sh := t.l.shard(t.key)
	sh.mu.Lock()
	over := t.state == finished
	if !over {
		w := t.more()
		w.watches = append(w.watches, stop)
	}
	sh.mu.Unlock()
	if over {
		stop()
	}
}

func (t *task) isWaiting() bool {
	sh := t.l.shard(t.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return t.state == waiting
}
