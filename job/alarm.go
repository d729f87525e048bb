package job

import (
	"container/heap"
	"context"
	"time"
)

// alarm is when a run has to be looked at next, by the local clock.
type alarm struct {
	bell       *bell     // nil: never
	prev, next *run      // of the same bell
	end        time.Time // when ctx was ended; zero: not yet
	stage      stage
}

type stage int

const (
	inTime stage = iota
	inGrace
	isOverdue
	isFenced
)

// bell is an instant and the runs to be looked at then. Those that were claimed together mostly share one.
type bell struct {
	at          time.Time
	index       int // in the heap
	first, last *run
}

// alarmClock orders the bells by time.
type alarmClock struct {
	bells []*bell
	now   *bell     // the one set last, if it is there
	next  time.Time // what the watch sleeps until; zero: for ever
}

func (c *alarmClock) Len() int           { return len(c.bells) }
func (c *alarmClock) Less(i, j int) bool { return c.bells[i].at.Before(c.bells[j].at) }
func (c *alarmClock) Swap(i, j int) {
	c.bells[i], c.bells[j] = c.bells[j], c.bells[i]
	c.bells[i].index, c.bells[j].index = i, j
}
func (c *alarmClock) Push(x any) {
	b := x.(*bell)
	b.index = len(c.bells)
	c.bells = append(c.bells, b)
}
func (c *alarmClock) Pop() any {
	n := len(c.bells) - 1
	b := c.bells[n]
	c.bells[n] = nil
	c.bells = c.bells[:n]
	return b
}

func (c *alarmClock) set(r *run, at time.Time) {
	c.remove(r)
	b := c.now
	if b == nil || !b.at.Equal(at) {
		b = &bell{at: at}
		c.now = b
		heap.Push(c, b)
	}
	r.alarm.bell, r.alarm.prev = b, b.last
	if b.last == nil {
		b.first = r
	} else {
		b.last.alarm.next = r
	}
	b.last = r
}

func (c *alarmClock) remove(r *run) {
	b, prev, next := r.alarm.bell, r.alarm.prev, r.alarm.next
	if b == nil {
		return
	}
	r.alarm.bell, r.alarm.prev, r.alarm.next = nil, nil, nil
	if prev == nil {
		b.first = next
	} else {
		prev.alarm.next = next
	}
	if next == nil {
		b.last = prev
	} else {
		next.alarm.prev = prev
	}
	if b.first != nil {
		return
	}
	if heap.Remove(c, b.index); c.now == b {
		c.now = nil
	}
}

// earlier says that the watch sleeps too long.
func (c *alarmClock) earlier() bool {
	return len(c.bells) > 0 && (c.next.IsZero() || c.bells[0].at.Before(c.next))
}

// firstAlarm is the run's own end or the first time it may be quiet too long.
func (r *run) firstAlarm() time.Time {
	at := r.began.Add(r.kind.opt.quiet)
	if !r.limit.IsZero() && r.limit.Before(at) {
		at = r.limit
	}
	if r.row.Flags&Unwinding != 0 { // its ctx has ended already
		r.alarm.stage, r.alarm.end = inGrace, r.began
		at = earliest(at, r.began.Add(r.kind.opt.grace))
	}
	return at
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// graceFor starts the grace of a run whose ctx has just ended.
func (m *Manager) graceFor(r *run) {
	now := m.env.Clock.Now()
	m.mu.Lock()
	if b := r.alarm.bell; b != nil && r.alarm.stage == inTime {
		r.alarm.stage, r.alarm.end = inGrace, now
		m.clock.set(r, earliest(b.at, now.Add(r.kind.opt.grace)))
	}
	earlier := m.clock.earlier()
	m.mu.Unlock()
	if earlier {
		poke(m.alarms)
	}
}

// event of a run whose alarm went off.
type ring struct {
	run  *run
	what string
	for_ time.Duration
}

// ringDue looks at the runs whose alarm is due and says when it wants to be called again.
func (m *Manager) ringDue(ctx context.Context) time.Time {
	now := m.env.Clock.Now()
	var rings []ring
	m.mu.Lock()
	for m.clock.Len() > 0 && !m.clock.bells[0].at.After(now) {
		r := m.clock.bells[0].first
		what := r.ring(now)
		m.clock.set(r, r.nextAlarm(now))
		if what != "" {
			rings = append(rings, ring{r, what, now.Sub(r.began)})
		}
	}
	next := time.Time{}
	if m.clock.Len() > 0 {
		next = m.clock.bells[0].at
	}
	m.clock.next = next
	m.mu.Unlock()
	for _, g := range rings {
		m.ringOne(ctx, g)
	}
	return next
}

// ring moves the run on and says what has come. Manager.mu is held.
func (r *run) ring(now time.Time) string {
	a, o := &r.alarm, &r.kind.opt
	switch {
	case a.stage == inTime && !r.limit.IsZero() && !r.limit.After(now):
		a.stage, a.end = inGrace, now
		return "deadline"
	case a.stage == inGrace && !a.end.Add(o.grace).After(now):
		a.stage = isOverdue
		return "overdue"
	case a.stage == isOverdue && o.fenceAfter > 0 && !a.end.Add(o.grace+o.fenceAfter).After(now):
		a.stage = isFenced
		return "fence"
	case r.quietSince(now) >= o.quiet:
		return "quiet"
	}
	return ""
}

func (r *run) quietSince(now time.Time) time.Duration {
	return r.since(now) - time.Duration(r.beat.Load())
}

// nextAlarm is when ring has something to say again. Manager.mu is held.
func (r *run) nextAlarm(now time.Time) time.Time {
	a, o := &r.alarm, &r.kind.opt
	at := now.Add(o.quiet - r.quietSince(now)%o.quiet)
	switch {
	case a.stage == inTime:
		at = earliest(at, r.limit)
	case a.stage == inGrace:
		at = earliest(at, a.end.Add(o.grace))
	case a.stage == isOverdue && o.fenceAfter > 0:
		at = earliest(at, a.end.Add(o.grace+o.fenceAfter))
	}
	if !at.After(now) {
		at = now.Add(1)
	}
	return at
}

func (m *Manager) ringOne(ctx context.Context, g ring) {
	switch r := g.run; g.what {
	case "deadline":
		r.end(ErrDeadline)
	case "overdue":
		r.mu.Lock()
		r.overdue = true
		r.mu.Unlock()
		m.meters.overdue(ctx, r)
		m.log.Warn("job overdue: its handler ignores the end of its context", r.attrs("running", g.for_)...)
	case "fence":
		m.env.Go("fence/"+r.row.ID, func() {
			if err := m.Fence(ctx, r.row.ID, "overdue"); err != nil {
				m.log.Warn("job not fenced", r.attrs("err", err)...)
			}
		})
	case "quiet":
		m.meters.quiet(ctx, r)
		m.log.Warn("job quiet", r.attrs("silent", r.kind.opt.quiet)...)
	}
}

// watchAlarms rings until ctx ends, also while the round waits for the store.
func (m *Manager) watchAlarms(ctx context.Context) {
	for {
		next := m.ringDue(ctx)
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = m.env.Clock.After(next.Sub(m.env.Clock.Now()))
		}
		select {
		case <-ctx.Done():
		case <-m.alarms:
		case <-timer:
		}
		if ctx.Err() != nil {
			return
		}
	}
}
