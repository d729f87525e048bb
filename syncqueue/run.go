package syncqueue

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/drover-cloud/drover"
)

// grant gives a free turn of e to the first in line. The caller holds the shard's lock and starts the task after it.
func (l *Local) grant(e *entry) *task {
	t := e.pending.head
	if t == nil || !e.free() {
		return nil
	}
	l.left(e, t)
	now := l.env.Clock.Now()
	l.mWait.Record(context.Background(), now.Sub(t.since).Seconds())
	t.state, t.since = running, now
	e.running.push(t)
	return t
}

// start lets a task run that was granted its turn.
func (l *Local) start(t *task) {
	l.mPending.Add(context.Background(), -1)
	l.mRunning.Add(context.Background(), 1)
	l.arm(l.stuckAfter())
	if t.own {
		l.spawn(t)
		return
	}
	close(t.signal)
}

// await waits for the turn of a task on its caller's goroutine.
func (l *Local) await(t *task, pending time.Duration) error {
	ctx := t.parent
	if pending > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, pending, ErrExpired)
		defer cancel()
	}
	if t.held != nil {
		t.held.waits.Store(&t.key)
		defer t.held.waits.Store(nil)
	}
	select {
	case <-t.signal:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	err := ended(ctx)
	if !t.drop(err) { // the turn came at the same time: hand it on
		l.pass(t)
	}
	return err
}

// leave ends t's turn with err. It gives the next task that has the turn now, not yet started.
func (l *Local) leave(t *task, err error) (next *task) {
	sh := l.shard(t.key)
	sh.mu.Lock()
	t.end(err)
	if e := t.e; e != nil {
		e.running.remove(t)
		e.count(t, -1)
		next = l.grant(e)
		sh.release(e)
		t.e = nil
	}
	if t.single {
		delete(sh.singles, t.key)
	}
	done, watches := t.doneChan(), t.unwatch()
	sh.mu.Unlock()
	t.settle(done, watches)
	if t.key != (Key{}) {
		l.mRunning.Add(context.Background(), -1)
		l.gone()
	}
	return next
}

// settle tells those who wait for t that it is finished, and gives back what watched over it.
func (t *task) settle(done chan struct{}, watches []func() bool) {
	if done != nil {
		close(done)
	}
	for _, stop := range watches {
		stop()
	}
	if s := t.scope.Load(); s != nil {
		s.cancel(nil)
	}
}

// pass ends t's turn and starts the next task.
func (l *Local) pass(t *task) {
	if next := l.leave(t, nil); next != nil {
		l.start(next)
	}
}

// spawn starts a goroutine for t, which has its turn. It goes on with the tasks that get the turn from it.
func (l *Local) spawn(t *task) {
	name := "syncqueue"
	if l.Env.Go != nil { // the default does nothing with it
		name = t.key.goroutine()
	}
	l.env.Go(name, func() {
		for next := t; next != nil; {
			next = next.l.run(next)
		}
	})
}

// run runs t and ends its turn, whatever t does. It gives a next task of a goroutine of its own to run.
func (l *Local) run(t *task) (next *task) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		next = l.leave(t, &drover.PanicError{Value: v, Stack: debug.Stack()})
		if next != nil && (v == nil || !next.own) { // by Goexit: this goroutine ends
			l.start(next)
			next = nil
		} else if next != nil {
			l.resumed()
		}
	}()
	var err error
	if t.Err() != nil {
		err = ended(t)
	} else {
		err = t.call()
	}
	returned = true
	next = l.leave(t, err)
	if next == nil {
		return nil
	}
	if !next.own {
		l.start(next)
		return nil
	}
	l.resumed()
	return next
}

// resumed counts a task that a running goroutine goes on with.
func (l *Local) resumed() {
	l.mPending.Add(context.Background(), -1)
	l.mRunning.Add(context.Background(), 1)
}

// drop takes t out of the line with err; false if it does not wait any more.
func (t *task) drop(err error) bool {
	l := t.l
	sh := l.shard(t.key)
	sh.mu.Lock()
	if t.state != waiting {
		sh.mu.Unlock()
		return false
	}
	e := t.e
	l.left(e, t)
	e.count(t, -1)
	t.e = nil
	t.end(err)
	sh.release(e)
	done, watches := t.doneChan(), t.unwatch()
	sh.mu.Unlock()
	t.settle(done, watches)
	l.mPending.Add(context.Background(), -1)
	l.gone()
	return true
}

// inPlace runs f on the caller's goroutine without a turn.
func inPlace(ctx context.Context, f func(context.Context) error, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return f(ctx)
}

// guarded is f with a panic as its error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &drover.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
