package periodic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
)

// grain is the least the loop sleeps, so that due times close together are one look.
const grain = 1250 * time.Microsecond

// Run runs the tasks until ctx is done and those that were running have returned. It is called once: drover.ErrRunning during
// the first call, drover.ErrUsed after it. An error that Every had is returned at once.
func (s *Set) Run(ctx context.Context) error {
	s.init()
	if err := s.enter(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.leave(cancel)
	if s.crew != nil {
		s.crew.gather()
	}
	return drover.Loop(ctx, s.env, s.wake, looper{s})
}

func (s *Set) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.phase == running:
		return fmt.Errorf("periodic: %w", drover.ErrRunning)
	case s.phase == ended:
		return fmt.Errorf("periodic: %w", drover.ErrUsed)
	case len(s.faults) > 0:
		return errors.Join(s.faults...)
	}
	s.phase, s.since = running, s.env.Clock.Now()
	return nil
}

// leave ends the runs and waits for them.
func (s *Set) leave(cancel func()) {
	cancel()
	s.mu.Lock()
	s.draining = true
	runs := slices.Collect(maps.Keys(s.active))
	s.mu.Unlock()
	s.clear()
	for _, r := range runs {
		s.abandon(r)
	}
	if s.crew != nil {
		s.crew.relieve()
	}
	<-s.idle()
	if s.crew != nil {
		s.crew.dismiss()
	}
	s.m.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.since = ended, s.env.Clock.Now()
}

// idle is closed once no run is left.
func (s *Set) idle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet == nil {
		s.quiet = make(chan struct{})
		if len(s.active) == 0 {
			close(s.quiet)
		}
	}
	return s.quiet
}

// looper is the Set with a goroutine per run, or a crew.
type looper struct{ *Set }

func (l looper) Step(ctx context.Context) (time.Time, error) {
	if l.crew != nil {
		return l.crew.step(func(start func(*run)) time.Time { return l.pass(ctx, start) }), nil
	}
	return l.pass(ctx, l.spawn), nil
}

// Step starts what is due, runs it inline in order of due time and name, and says when it wants to be called next; zero: there
// is nothing to wait for. The first Step starts the timetables.
func (s *Set) Step(ctx context.Context) (next time.Time, err error) {
	s.init()
	s.mu.Lock()
	err = errors.Join(s.faults...)
	s.mu.Unlock()
	if err != nil {
		return time.Time{}, err
	}
	return s.pass(ctx, func(r *run) { _ = s.inline(r) }), nil
}

// RunDue is Step that returns what the runs returned, joined.
func (s *Set) RunDue(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	errs := slices.Clone(s.faults)
	s.mu.Unlock()
	s.pass(ctx, func(r *run) { errs = append(errs, s.inline(r)) })
	return errors.Join(errs...)
}

// pass looks at every task of which something is due, has start start what shall run, and says when to look again.
func (s *Set) pass(ctx context.Context, start func(*run)) time.Time {
	if ctx.Err() != nil {
		return time.Time{}
	}
	for _, e := range s.due(ctx, s.env.Clock.Now()) {
		s.visit(ctx, e, start)
	}
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = time.Time{}
	if len(s.queue) > 0 {
		s.target = s.queue[0].e.at
		if s.phase == running {
			s.target = later(s.target, now.Add(s.looks.space(now)))
		}
	}
	return s.target
}

// due takes the tasks to look at, in order of due time and name.
func (s *Set) due(ctx context.Context, now time.Time) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = ctx
	if !s.begun {
		s.begun = true
		for _, name := range slices.Sorted(maps.Keys(s.entries)) {
			e := s.entries[name]
			e.begin(now)
			e.schedule(now)
		}
	}
	s.clockSet(now)
	es := s.queue.take(now)
	slices.SortFunc(es, func(a, b *entry) int { return cmp.Or(a.due.Compare(b.due), strings.Compare(a.Name, b.Name)) })
	return es
}

// setBack is how far the wall clock must be set back for calendars to begin anew.
const setBack = 3 * time.Hour

// clockSet notices that the wall clock was set back while the other went on.
func (s *Set) clockSet(now time.Time) {
	seen := s.seen
	s.seen = now
	if seen.IsZero() || max(now.Sub(seen), 0)-now.Round(0).Sub(seen.Round(0)) < setBack {
		return
	}
	s.log.Warn("periodic.clock", "was", seen.Round(0), "is", now.Round(0))
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[name]
		if !e.begun || !onWallClock(e.When) {
			continue
		}
		if e.single == nil && e.index >= 0 {
			s.shift(e, 0, now)
		}
		e.schedule(now)
	}
}

// visit does what is due of one task.
func (s *Set) visit(ctx context.Context, e *entry, start func(*run)) {
	now := s.env.Clock.Now()
	s.overdue(e, now)
	if !s.wants(e, now) {
		return
	}
	open := s.gates(e)
	s.mu.Lock()
	var todo []*run
	switch {
	case !e.waiting():
	case !open:
		s.gated(e, now)
	default:
		todo = s.settle(ctx, e, now)
	}
	e.schedule(now)
	s.mu.Unlock()
	for _, r := range todo {
		if e.lane == nil || e.lane.enter(r) {
			start(r)
		}
	}
}

// wants says whether e shall run now, gates aside. If not it is scheduled again.
func (s *Set) wants(e *entry, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	yes := e.waiting() && (e.trigger || e.isDue(now) || e.claim != nil && e.claim.ready(now))
	if !yes && !e.gone {
		e.schedule(now)
	}
	return yes
}

func (e *entry) isDue(now time.Time) bool {
	if e.onWall() {
		now = now.Round(0)
	}
	return !e.due.IsZero() && !e.due.Add(e.jitter).After(now)
}

// ready says that a claim is to be tried again.
func (r *run) ready(now time.Time) bool { return !r.askAt.IsZero() && !r.askAt.After(now) }

// take gives the due times of e up to now and moves on to the next one.
func (e *entry) take(now time.Time) (p pending) {
	if !e.isDue(now) {
		return p
	}
	if e.onWall() {
		now = now.Round(0)
	}
	if afterEnd(e.When) {
		p = pending{newest: []time.Time{e.due}, n: 1}
		e.due = time.Time{}
		return p
	}
	p = dues(e.When, e.last, e.due, now, e.Misfire.CatchUp)
	e.last.Due, e.last.Number = p.newest[len(p.newest)-1], max(e.last.Number, 1)
	e.due = time.Time{}
	if !p.next.IsZero() {
		e.aim(p.next)
	} else {
		e.finished = true
	}
	return p
}

// gated passes over the due times for which a gate was false.
func (s *Set) gated(e *entry, now time.Time) {
	p := e.take(now)
	e.gated += p.n
	s.m.skip(e, "gated", p.n)
	if e.trigger {
		e.gated, e.trigger = e.gated+1, false
		s.m.skip(e, "gated", 1)
	}
	if p.n > 0 && afterEnd(e.When) {
		e.aim(now.Add(max(spacing(e.When), time.Second)))
	}
}

// settle decides what becomes of the due times of e, and gives what to start.
func (s *Set) settle(ctx context.Context, e *entry, now time.Time) (todo []*run) {
	if c := e.claim; c != nil && c.ready(now) {
		c.askAt = time.Time{}
		s.active[c] = struct{}{}
		todo = append(todo, c)
	}
	if p := e.take(now); p.n > 0 {
		if r := s.decided(ctx, e, decide(e.Overlap, e.Misfire, len(e.runs), p), p); r != nil {
			todo = append(todo, r)
		}
	}
	if e.trigger {
		e.trigger = false
		p := pending{newest: []time.Time{now}, n: 1}
		if r := s.decided(ctx, e, decide(e.Overlap, Misfire{}, len(e.runs), p), p); r != nil {
			todo = append(todo, r)
		}
	}
	return todo
}

// decided books a decision; the run is to be started.
func (s *Set) decided(ctx context.Context, e *entry, d decision, p pending) *run {
	e.overran += d.overran
	e.missed += d.skipped + d.missed
	s.m.skip(e, "overlapped", d.overran)
	s.m.skip(e, "missed", d.skipped+d.missed)
	if d.overran > 0 {
		e.outlasted = true
	}
	if d.queue {
		q := &queuedDue{p.newest[len(p.newest)-1], p.n - 1}
		if e.queued != nil {
			q.missed += e.queued.missed + 1
		}
		e.queued = q
		return nil
	}
	if len(d.run) == 0 {
		return nil
	}
	r := s.newRun(ctx, e, d.run[0])
	r.info.Missed, r.rest, r.quick = d.missed, d.run[1:], e.isQuick()
	e.admit(r)
	return r
}

// gates asks them all, without the lock.
func (s *Set) gates(e *entry) bool {
	for _, f := range e.Gates {
		if !s.gate(e, f) {
			return false
		}
	}
	return true
}

func (s *Set) gate(e *entry, f func() bool) (open bool) {
	defer func() {
		if v := recover(); v != nil {
			open = false
			s.mu.Lock()
			first := !e.panicked
			e.panicked = true
			s.mu.Unlock()
			if first {
				s.log.Error("periodic: a gate panicked", "task", e.Name, "panic", fmt.Sprint(v))
			}
		}
	}()
	return f()
}

// overdue ends the ctx of runs that have passed their limit.
func (s *Set) overdue(e *entry, now time.Time) {
	s.mu.Lock()
	var late []*run
	for _, r := range e.runs {
		if !r.overdue && !r.limit.IsZero() && !r.limit.After(now) {
			r.overdue = true
			late = append(late, r)
		}
	}
	s.mu.Unlock()
	for _, r := range late {
		r.cancel(ErrTimeout)
		s.log.Warn("periodic.stuck", "task", e.Name, "limit", e.limit, "run", r.info.Number)
	}
}
