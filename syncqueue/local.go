package syncqueue

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/drover-cloud/drover"
)

// Local takes turns within a process: as many at a time per key as its level says, in order of the calls. A function has
// its turn until it returns, panics or exits its goroutine; there is nothing to forget. Its ctx carries the keys held, so
// that waiting for a key one holds is ErrReentrant instead of a deadlock. The zero value is ready; the exported fields are
// set before first use and not changed afterwards. All methods may be called from any goroutine, also from running
// functions. Keys are independent: they share no goroutine, and hardly a lock.
//
// A call gives ErrInvalid for a nil function, negative options or a bad Key, ErrClosed once Drain was called, ErrFull by
// MaxTotal or MaxPending, ErrExpired or the cause of ctx when that ends before the turn comes; then the function has not
// been called and never will be. With the zero Key the function runs at once and is not listed.
type Local struct {
	Env drover.Env

	// Level is how many turns a key has at once, asked when the key comes into use: a property of the key, never of the
	// caller. Nil means 1; ≤ 0 is unlimited.
	Level func(Key) int
	// MaxTotal bounds the tasks inside, waiting or running; beyond it calls get ErrFull. 0 is no bound.
	MaxTotal int
	// Backlog is how many must be pending on a key for a warning, the next at five times as many; default 50.
	Backlog int
	// StuckAfter is how long a function may run before it is warned of, once per StuckAfter; default 10 min.
	StuckAfter time.Duration

	once   sync.Once
	env    drover.Env
	seed   maphash.Seed
	shards [64]shard
	total  atomic.Int64 // tasks inside
	closed atomic.Bool
	armed  atomic.Bool // the stuck alarm
	idle   idleSignal

	mRunning, mPending metric.Int64UpDownCounter
	mWait              metric.Float64Histogram
	mStuck, mRefused   metric.Int64Counter
}

// Do waits for key's turn, runs f on the caller's goroutine and gives its error; a panic of f goes on in the caller, with
// the turn freed. On a key the caller holds already it is ErrReentrant at once (see AllowReentrant).
func (l *Local) Do(ctx context.Context, k Key, f func(context.Context) error, opts ...Option) error {
	o, err := l.admit(ctx, k, f != nil, opts)
	if err != nil {
		return err
	}
	held := heldBy(ctx)
	if k == (Key{}) || held.holds(l, k, false) {
		if k != (Key{}) && !o.reentrant {
			return fmt.Errorf("%w: %s", ErrReentrant, k)
		}
		return inPlace(ctx, f, o.running)
	}
	t := &task{l: l, key: k, parent: ctx, f: f, held: held, x: o.extras()}
	if o.shared {
		h, err := l.share(t, &o)
		if err != nil {
			return err
		}
		_, err = h.waitOrLeave(ctx)
		return err
	}
	granted, err := l.enter(t, &o)
	if err != nil {
		return err
	}
	if !granted {
		if err := l.await(t, o.pending); err != nil {
			return err
		}
	}
	defer l.pass(t)
	return t.call()
}

// Go is Do without waiting: f runs on a goroutine of its own when its turn has come, and a panic is its *drover.PanicError.
// What Do would return is the Handle's error. Waiting tasks have no goroutine.
func (l *Local) Go(ctx context.Context, k Key, f func(context.Context) error, opts ...Option) *Handle {
	o, err := l.admit(ctx, k, f != nil, opts)
	if err != nil {
		return failed(err)
	}
	held := heldBy(ctx)
	t := &task{l: l, key: k, parent: ctx, f: f, held: held, x: o.extras(), own: true}
	t.handle.t = t
	switch {
	case k == (Key{}):
		t.state = running
		l.spawn(t)
		return &t.handle
	case o.reentrant && held.holds(l, k, false):
		return failed(guarded(func() error { return inPlace(ctx, f, o.running) }))
	case o.shared:
		h, err := l.share(t, &o)
		if err != nil {
			return failed(err)
		}
		h.watch(ctx)
		return h
	}
	granted, err := l.enter(t, &o)
	switch {
	case err != nil:
		return failed(err)
	case granted:
		l.spawn(t)
	default:
		t.watch(o.pending)
	}
	return &t.handle
}

// SetLevel changes the level of a key in use: raised, it starts waiting tasks within the call; lowered, it ends none and
// starts none until fewer run. n ≤ 0 is unlimited. A key not in use gets its level from Level.
func (l *Local) SetLevel(k Key, n int) {
	l.setup()
	sh := l.shard(k)
	sh.mu.Lock()
	var next []*task
	if e := sh.entries[k]; e != nil {
		e.level = clamp(n)
		for t := l.grant(e); t != nil; t = l.grant(e) {
			next = append(next, t)
		}
	}
	sh.mu.Unlock()
	for _, t := range next {
		l.start(t)
	}
}

func (l *Local) setup() {
	l.once.Do(func() {
		l.env = l.Env.Defaults()
		l.seed = maphash.MakeSeed()
		m := l.env.Meter.Meter("github.com/drover-cloud/drover/syncqueue")
		l.mRunning, _ = m.Int64UpDownCounter("drover.syncqueue.local.running")
		l.mPending, _ = m.Int64UpDownCounter("drover.syncqueue.local.pending")
		l.mWait, _ = m.Float64Histogram("drover.syncqueue.local.wait", metric.WithUnit("s"))
		l.mStuck, _ = m.Int64Counter("drover.syncqueue.local.stuck")
		l.mRefused, _ = m.Int64Counter("drover.syncqueue.local.refused")
	})
}

func (l *Local) shard(k Key) *shard {
	h := maphash.String(l.seed, k.ID) ^ maphash.String(l.seed, k.Kind)<<1
	return &l.shards[h%uint64(len(l.shards))]
}
