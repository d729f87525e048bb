package syncqueue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// shard is a part of the keys under one lock. No foreign code and no log call runs under it.
type shard struct {
	mu      sync.Mutex
	entries map[Key]*entry
	singles map[Key]*task
	spare   []*entry // emptied ones, to be used again
}

// entry is a key in use.
type entry struct {
	key     Key
	level   int32
	alarmAt int32 // pending tasks at which to warn
	running line
	pending line
	dedupes map[string]*dedupe
}

// dedupe is what an entry knows of a dedupe string.
type dedupe struct {
	inside  int   // running and pending tasks
	pending *task // the one that Coalesce joins
}

func clamp(n int) int32 { return int32(min(max(n, -1), math.MaxInt32)) }

func (e *entry) free() bool { return e.level <= 0 || e.running.n < int(e.level) }
func (e *entry) idle() bool { return e.running.n == 0 && e.pending.n == 0 }

// admit is what every call must pass before anything else.
func (l *Local) admit(ctx context.Context, k Key, hasFunc bool, opts []Option) (o options, err error) {
	l.setup()
	if !hasFunc {
		return o, fmt.Errorf("%w: function is nil", ErrInvalid)
	}
	if err := k.Validate(); err != nil {
		return o, err
	}
	if o, err = newOptions(opts); err != nil {
		return o, err
	}
	if ctx.Err() != nil {
		return o, ended(ctx)
	}
	if l.closed.Load() {
		return o, l.refuse(k, ErrClosed)
	}
	return o, nil
}

// take counts one more task inside.
func (l *Local) take() error {
	for {
		n := l.total.Load()
		if l.MaxTotal > 0 && n >= int64(l.MaxTotal) {
			return ErrFull
		}
		if l.total.CompareAndSwap(n, n+1) {
			break
		}
	}
	if l.closed.Load() {
		l.gone()
		return ErrClosed
	}
	return nil
}

// refuse counts a refusal and gives err the key.
func (l *Local) refuse(k Key, err error) error {
	reason := "full"
	if errors.Is(err, ErrClosed) {
		reason = "closed"
	}
	l.mRefused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
	return fmt.Errorf("%w: %s", err, k)
}

// lockEntry locks sh and gives k's entry, made if need be.
func (l *Local) lockEntry(sh *shard, k Key) *entry {
	sh.mu.Lock()
	if e := sh.entries[k]; e != nil {
		return e
	}
	level := 1
	if l.Level != nil {
		sh.mu.Unlock()
		level = l.Level(k)
		sh.mu.Lock()
		if e := sh.entries[k]; e != nil {
			return e
		}
	}
	var e *entry
	if n := len(sh.spare); n > 0 {
		e, sh.spare = sh.spare[n-1], sh.spare[:n-1]
	} else {
		e = new(entry)
	}
	e.key, e.level, e.alarmAt = k, clamp(level), clamp(l.backlog())
	if sh.entries == nil {
		sh.entries = map[Key]*entry{}
	}
	sh.entries[k] = e
	return e
}

// release drops e when it is idle, in the critical section that saw it. The caller holds sh.mu.
func (sh *shard) release(e *entry) {
	if !e.idle() || sh.entries[e.key] != e {
		return
	}
	delete(sh.entries, e.key)
	if len(sh.spare) < 16 {
		*e = entry{}
		sh.spare = append(sh.spare, e)
	}
}

// enter puts t into its key's line, or gives it a turn when one is free and nobody waits.
func (l *Local) enter(t *task, o *options) (granted bool, err error) {
	t.since = l.env.Clock.Now()
	sh := l.shard(t.key)
	e := l.lockEntry(sh, t.key)
	err = l.take()
	if err == nil && o.limited && e.inside(o.maxOf) > o.maxPending {
		l.gone()
		err = ErrFull
	}
	if err != nil {
		sh.release(e)
		sh.mu.Unlock()
		return false, l.refuse(t.key, err)
	}
	granted, warn := l.place(e, t)
	sh.mu.Unlock()
	l.entered(t.key, granted, warn)
	return granted, nil
}

// place gives t a turn or a place in the line. The caller holds the shard's lock and has counted t.
func (l *Local) place(e *entry, t *task) (granted bool, warn int) {
	t.e = e
	e.count(t, 1)
	if e.pending.n == 0 && e.free() {
		t.state = running
		e.running.push(t)
		return true, 0
	}
	if !t.own {
		t.signal = make(chan struct{})
	}
	e.pending.push(t)
	if t.shared {
		e.dedupes[t.x.coalesceOf].pending = t
	}
	return false, e.grown()
}

// entered does what place leaves for after the lock.
func (l *Local) entered(k Key, granted bool, warn int) {
	if granted {
		l.mRunning.Add(context.Background(), 1)
		l.arm(l.stuckAfter())
		return
	}
	l.mPending.Add(context.Background(), 1)
	if warn > 0 {
		l.env.Logger.Warn("syncqueue: backlog", "key", k.String(), "pending", warn)
	}
}

// share joins t's call to a pending task, or enters t for it and those that come.
func (l *Local) share(t *task, o *options) (*Handle, error) {
	ctx := t.parent
	t.own, t.shared, t.w = true, true, &watched{waiters: 1}
	t.parent = context.WithoutCancel(ctx)
	t.since = l.env.Clock.Now()
	h := &t.handle
	h.t, h.part = t, new(part)
	sh := l.shard(t.key)
	e := l.lockEntry(sh, t.key)
	err := l.take()
	if err == nil {
		if d := e.dedupes[o.coalesceOf]; d != nil && d.pending != nil {
			l.gone()
			h = &Handle{t: d.pending, part: new(part)}
			h.t.w.waiters++
			sh.mu.Unlock()
			h.expire(o.pending)
			return h, nil
		}
		if o.limited && e.inside(o.maxOf) > o.maxPending {
			l.gone()
			err = ErrFull
		}
	}
	if err != nil {
		sh.release(e)
		sh.mu.Unlock()
		return nil, l.refuse(t.key, err)
	}
	granted, warn := l.place(e, t)
	sh.mu.Unlock()
	l.entered(t.key, granted, warn)
	if granted {
		l.spawn(t)
	} else {
		h.expire(o.pending)
	}
	return h, nil
}

func (e *entry) inside(d string) int {
	if x := e.dedupes[d]; x != nil {
		return x.inside
	}
	return 0
}

// count adds n to the counts of t's dedupe strings.
func (e *entry) count(t *task, n int) {
	x := t.x
	if x == nil {
		return
	}
	if x.limited {
		e.countOf(x.maxOf, n)
	}
	if t.shared && (!x.limited || x.maxOf != x.coalesceOf) {
		e.countOf(x.coalesceOf, n)
	}
}

func (e *entry) countOf(s string, n int) {
	d := e.dedupes[s]
	if d == nil {
		if e.dedupes == nil {
			e.dedupes = map[string]*dedupe{}
		}
		d = new(dedupe)
		e.dedupes[s] = d
	}
	if d.inside += n; d.inside == 0 {
		delete(e.dedupes, s)
	}
}

// left takes t off the pending line; the caller holds the shard's lock.
func (l *Local) left(e *entry, t *task) {
	e.pending.remove(t)
	if t.shared {
		if d := e.dedupes[t.x.coalesceOf]; d.pending == t {
			d.pending = nil
		}
	}
	if b := l.backlog(); e.pending.n < b/2 {
		e.alarmAt = clamp(b)
	}
}
