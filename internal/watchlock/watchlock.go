// Package watchlock has locks that know their holder, report one that is held too long, and are seen by the simulator.
//
// A component makes one [Watch], a [Lock] of it for each thing to guard, and runs the Watch beside its loop:
//
//	t.watch = watchlock.New(env, "tracker")
//	t.snapshots = t.watch.Lock("snapshots")
//	…
//	env.Go("tracker/locks", func() { _ = t.watch.Run(ctx) }) // until ctx ends
//	…
//	err := t.snapshots.Do(ctx, watchlock.Holder{Op: "audit", Host: host}, func() { t.snaps[host] = record })
//
// What runs under a Lock is arithmetic on memory: a call of a store, bus, agent or driver there, or waiting for a goroutine or a
// timer, is a mistake, which testkit finds: its decorated stores fail the world when their caller is under a Lock (see [Caller]).
//
// Guarantees: first come, first served; a waiter that leaves costs nobody a turn; an ended ctx gives its cause even when the lock
// is free, and f is not run. A hold above one second is logged once per further second, with its holder, age and waiters, and
// counted (drover.lock.held). A panic or runtime.Goexit in f frees the lock.
//
// Not guaranteed: reports while the Watch does not run; re-entry, which waits until ctx ends.
package watchlock

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/fair"
)

// every is what is between two reports of a hold, and before the first.
const every = time.Second

// Holder says who holds a Lock, for reports. Op is the label; what is empty is not reported.
type Holder struct{ Op, Host, Claim string }

// Watch reports holds of its Locks. It is safe for concurrent use.
type Watch struct {
	env       drover.Env
	log       *slog.Logger
	component string
	held      metric.Int64Counter
	idle      atomic.Bool // Run waits for a lock to be taken
	wake      chan struct{}

	mu    sync.Mutex
	locks []*Lock
}

// New makes the Watch of a component; env has its defaults.
func New(env drover.Env, component string) *Watch {
	w := &Watch{env: env, component: component, wake: make(chan struct{}, 1)}
	w.log = env.Logger.With("component", component, "node", env.Node)
	w.held, _ = env.Meter.Meter("github.com/drover-cloud/drover").Int64Counter("drover.lock.held",
		metric.WithDescription("Seconds for which locks were held beyond the first, by component, lock and label."))
	return w
}

// Lock makes one, named for reports. It lives as long as w.
func (w *Watch) Lock(name string) *Lock {
	l := &Lock{watch: w, name: name}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locks = append(w.locks, l)
	return l
}

// Lock is a mutual exclusion lock, made by [Watch.Lock].
type Lock struct {
	watch *Watch
	name  string
	turn  fair.Lock

	mu       sync.Mutex // of what follows
	by       Holder
	since    time.Time     // zero: nobody holds it
	reported time.Duration // of this hold, in whole seconds
}

// Do waits for its turn and runs f. The error is ctx's cause; then f has not run.
func (l *Lock) Do(ctx context.Context, by Holder, f func()) error {
	if err := l.turn.Lock(ctx); err != nil {
		return err
	}
	defer l.turn.Unlock()
	l.note(by, l.watch.env.Clock.Now())
	defer l.note(Holder{}, time.Time{})
	if l.watch.idle.Load() && l.watch.idle.CompareAndSwap(true, false) {
		select {
		case l.watch.wake <- struct{}{}:
		default:
		}
	}
	underLock(f)
	return nil
}

func (l *Lock) note(by Holder, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by, l.since, l.reported = by, since, 0
}

// Run reports until ctx ends. It is idle while no lock is taken, and looks at most once or twice a second else.
func (w *Watch) Run(ctx context.Context) error {
	defer w.idle.Store(false)
	for ctx.Err() == nil {
		next := w.look()
		var due <-chan time.Time
		if next > 0 {
			due = w.env.Clock.After(next)
		}
		select {
		case <-ctx.Done():
		case <-due:
		case <-w.wake: // most holds end at once: looked at only when one may be reported
			_ = w.env.Sleep(ctx, every)
		}
	}
	return nil
}

// look reports what is due, and tells after how long the next report may be; 0: nothing is held.
func (w *Watch) look() (next time.Duration) {
	w.idle.Store(true)
	now := w.env.Clock.Now()
	for _, l := range w.all() {
		h, due := l.state(now, true)
		if due {
			w.report(h)
		}
		if wait := every - h.Age%every; h.Lock != "" && (next == 0 || wait < next) {
			next = wait
		}
	}
	if next > 0 && !w.idle.CompareAndSwap(true, false) {
		<-w.wake // what was taken meanwhile is due after next
	}
	return next
}

func (w *Watch) report(h Held) {
	args := []any{"lock", h.Lock, "label", h.Op, "held", h.Age, "waiting", h.Waiting}
	if h.Host != "" {
		args = append(args, "host", h.Host)
	}
	if h.Claim != "" {
		args = append(args, "claim", h.Claim)
	}
	w.log.Warn("lock held too long", args...)
	w.held.Add(context.Background(), 1, metric.WithAttributes(attribute.String("component", w.component),
		attribute.String("lock", h.Lock), attribute.String("label", h.Op)))
}

func (w *Watch) all() []*Lock {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.locks // only ever appended to
}

// Held is a hold.
type Held struct {
	Lock string
	Holder
	Age     time.Duration
	Waiting int
}

// Held gives the present holds, in the order in which the locks were made, for a component's Status.
func (w *Watch) Held() (hs []Held) {
	now := w.env.Clock.Now()
	for _, l := range w.all() {
		if h, _ := l.state(now, false); h.Lock != "" {
			hs = append(hs, h)
		}
	}
	return hs
}

// state is the hold, zero if there is none; due: it is to be reported (again), which counts as done if reporting.
func (l *Lock) state(now time.Time, reporting bool) (h Held, due bool) {
	waiting := l.turn.Waiting()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return h, false
	}
	h = Held{Lock: l.name, Holder: l.by, Age: max(now.Sub(l.since), 0), Waiting: waiting}
	if seconds := h.Age / every; reporting && seconds > l.reported {
		l.reported, due = seconds, true
	}
	return h, due
}
