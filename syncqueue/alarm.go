package syncqueue

import (
	"cmp"
	"context"
	"slices"
	"time"
)

func (l *Local) backlog() int {
	if l.Backlog > 0 {
		return l.Backlog
	}
	return 50
}

func (l *Local) stuckAfter() time.Duration {
	if l.StuckAfter > 0 {
		return l.StuckAfter
	}
	return 10 * time.Minute
}

// grown gives the number of pending tasks when it is one to warn of. The caller holds the shard's lock.
func (e *entry) grown() int {
	if e.pending.n < int(e.alarmAt) {
		return 0
	}
	e.alarmAt = clamp(5 * int(e.alarmAt))
	return e.pending.n
}

// arm sets the alarm for stuck tasks, unless it is set. It costs a timer and no goroutine, and goes by real time; what is
// stuck is then judged by Env.Clock.
func (l *Local) arm(d time.Duration) {
	if l.armed.Load() || !l.armed.CompareAndSwap(false, true) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, func() {
		cancel()
		l.checkStuck()
	})
}

// stuck is what is said of a task that runs too long.
type stuck struct {
	key   Key
	name  string
	since time.Time
	waits *Key
}

// checkStuck warns of tasks that run too long, and sets the alarm for the next to become so.
func (l *Local) checkStuck() {
	l.armed.Store(false) // before looking: who starts now sets it again
	now, limit := l.env.Clock.Now(), l.stuckAfter()
	var found []stuck
	var soonest time.Duration
	look := func(t *task) {
		last := t.since
		if t.w != nil && t.w.warned.After(last) {
			last = t.w.warned
		}
		if now.Sub(last) >= limit {
			found = append(found, stuck{t.key, t.name(), t.since, t.waits.Load()})
			last, t.more().warned = now, now
		}
		if d := last.Add(limit).Sub(now); soonest == 0 || d < soonest {
			soonest = d
		}
	}
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, e := range sh.entries {
			for t := e.running.head; t != nil; t = t.next {
				look(t)
			}
		}
		for _, t := range sh.singles {
			look(t)
		}
		sh.mu.Unlock()
	}
	if soonest > 0 {
		l.arm(max(soonest, time.Millisecond))
	}
	slices.SortFunc(found, func(a, b stuck) int {
		return cmp.Or(a.key.Compare(b.key), a.since.Compare(b.since), cmp.Compare(a.name, b.name))
	})
	for _, s := range found {
		l.mStuck.Add(context.Background(), 1)
		args := []any{"key", s.key.String(), "name", s.name, "since", s.since}
		if s.waits != nil {
			args = append(args, "waits_for", s.waits.String())
		}
		l.env.Logger.Warn("syncqueue: stuck", args...)
	}
}
