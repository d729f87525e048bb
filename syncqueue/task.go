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
	held   *task // the task around this one, by parent's values
	name   string
	limit  time.Duration // of the run
	own    bool          // has a goroutine of its own and is cancelled by a Handle; else it runs on its caller's
	single bool          // the name space of Single

	handle Handle // of its first caller
	box    any    // Single's result

	mu    sync.Mutex // of making scope
	scope atomic.Pointer[scope]
	waits atomic.Pointer[Key] // what its function is waiting for, for the stuck warning

	// Guarded by the shard's lock.
	e          *entry
	prev, next *task // among the entry's running or pending
	state      state
	since      time.Time     // of the call, then of the turn
	warned     time.Time     // last stuck warning
	grant      chan struct{} // tells a waiting caller that it has the turn
	done       chan struct{} // made by the first who waits, closed when finished
	err        error
	waiters    int // handles that have not left, if shared
	shared     bool
	maxOf      string
	coalesceOf string
	limited    bool
	watches    []func() bool // of ctxs whose end would take it back
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
	if t.limit <= 0 {
		return t.f(t)
	}
	ctx, cancel := context.WithTimeout(t, t.limit)
	defer cancel()
	return t.f(ctx)
}

// ended is the error of a task that was waiting when its ctx ended.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(cause, ErrExpired) {
		return cause
	}
	if cause == context.DeadlineExceeded {
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
