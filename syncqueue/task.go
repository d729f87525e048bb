package syncqueue

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

type state uint8

const (
	waiting state = iota
	running
	finished
)

// task is one call: its place in the line, its turn and its result. It is also the ctx its function gets, which says what
// keys are held and, for tasks with a Handle, is cancelled on its own; the cancelling half is made only when asked for.
type task struct {
	l      *Local
	key    Key
	parent context.Context
	f      func(context.Context) error
	held   *task  // the task around this one, by parent's values
	x      *extra // constant; nil: none of it

	own    bool       // has a goroutine of its own and is cancelled by a Handle; else it runs on its caller's
	single bool       // the name space of Single
	shared bool       // several Handles have a part in it
	state  state      // guarded by the shard's lock
	mu     sync.Mutex // of making scope
	scope  atomic.Pointer[scope]
	waits  atomic.Pointer[Key] // what its function is waiting for, for the stuck warning

	// Guarded by the shard's lock.
	e          *entry
	prev, next *task         // among the entry's running or pending
	since      time.Time     // of the call, then of the turn
	signal     chan struct{} // own: made by the first who waits, closed when finished; else closed when the turn has come
	w          *watched      // nil: none of it
	handle     Handle        // of its first caller
}

// extra is what few tasks have.
type extra struct {
	name       string
	limit      time.Duration // of the run
	maxOf      string
	limited    bool // MaxPending, by maxOf
	coalesceOf string
	box        any // Single's result
}

// watched is what may come to a task while it is inside.
type watched struct {
	err     error         // of the function, or why it was not called
	waiters int           // handles that have not left, if shared
	warned  time.Time     // last stuck warning
	watches []func() bool // of ctxs whose end would take it back
}

// extras are o's, nil if there are none.
func (o *options) extras() *extra {
	if o.name == "" && o.running == 0 && !o.limited && !o.shared {
		return nil
	}
	return &extra{name: o.name, limit: o.running, limited: o.limited, maxOf: o.maxOf, coalesceOf: o.coalesceOf}
}

// more is t.w, made if need be. The caller holds the shard's lock.
func (t *task) more() *watched {
	if t.w == nil {
		t.w = new(watched)
	}
	return t.w
}

// end makes t finished. The caller holds the shard's lock.
func (t *task) end(err error) {
	t.state = finished
	if err != nil {
		t.more().err = err
	}
}

// result is the error of a finished t. The caller holds the shard's lock.
func (t *task) result() error {
	if t.w == nil {
		return nil
	}
	return t.w.err
}

// unwatch takes what watches over t. The caller holds the shard's lock.
func (t *task) unwatch() (watches []func() bool) {
	if t.w != nil {
		watches, t.w.watches = t.w.watches, nil
	}
	return watches
}

// doneChan is what a finished t has to close, nil if nobody waits for it.
func (t *task) doneChan() chan struct{} {
	if !t.own {
		return nil
	}
	return t.signal
}

func (t *task) name() string {
	if t.x == nil {
		return ""
	}
	return t.x.name
}

type scope struct {
	context.Context
	cancel context.CancelCauseFunc
}

// cancellable is the ctx behind a task with a Handle.
func (t *task) cancellable() *scope {
	if s := t.scope.Load(); s != nil {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.scope.Load()
	if s == nil {
		s = new(scope)
		s.Context, s.cancel = context.WithCancelCause(t.parent)
		t.scope.Store(s)
	}
	return s
}

// Deadline implements context.Context.
func (t *task) Deadline() (time.Time, bool) { return t.parent.Deadline() }

// Done implements context.Context.
func (t *task) Done() <-chan struct{} {
	if !t.own {
		return t.parent.Done()
	}
	return t.cancellable().Done()
}

// Err implements context.Context.
func (t *task) Err() error {
	if s := t.scope.Load(); s != nil {
		return s.Err()
	}
	return t.parent.Err()
}

// Value implements context.Context.
func (t *task) Value(key any) any {
	if key == (heldKey{}) {
		return t
	}
	if s := t.scope.Load(); s != nil {
		return s.Value(key)
	}
	return t.parent.Value(key)
}

type heldKey struct{}

func heldBy(ctx context.Context) *task {
	t, _ := ctx.Value(heldKey{}).(*task)
	return t
}

// holds reports whether t, or a task around it, has the turn of key k of l.
func (t *task) holds(l *Local, k Key, single bool) bool {
	for ; t != nil; t = t.held {
		if t.l == l && t.key == k && t.single == single && t.isRunning() {
			return true
		}
	}
	return false
}

func (t *task) isRunning() bool {
	sh := t.l.shard(t.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return t.state == running
}

// call runs the function under its limit.
func (t *task) call() error {
	if t.x == nil || t.x.limit <= 0 {
		return t.f(t)
	}
	ctx, cancel := context.WithTimeout(t, t.x.limit)
	defer cancel()
	return t.f(ctx)
}

// ended is the error of a task that was waiting when its ctx ended.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(cause, ErrExpired) {
		return cause
	}
	if cause == context.DeadlineExceeded { //nolint:errorlint // no cause of the caller's own
		return ErrExpired
	}
	return errors.Join(ErrExpired, cause)
}

// line is a list of tasks in order.
type line struct {
	head, tail *task
	n          int
}

func (q *line) push(t *task) {
	t.prev, t.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = t
	} else {
		q.head = t
	}
	q.tail = t
	q.n++
}

func (q *line) remove(t *task) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		q.head = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		q.tail = t.prev
	}
	t.prev, t.next = nil, nil
	q.n--
}
