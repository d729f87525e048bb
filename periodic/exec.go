package periodic

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/drover-cloud/drover"
)

// newRun makes a run and counts it among those that the Set waits for. The caller holds the lock.
func (s *Set) newRun(ctx context.Context, e *entry, due time.Time) *run {
	r := &run{e: e, info: Run{Name: e.Name, Due: due, Attempt: 1}, base: ctx}
	r.Context, r.cancel = context.WithCancelCause(ctx)
	s.active[r] = struct{}{}
	return r
}

// release undoes newRun, unless r is still to be asked for.
func (s *Set) release(r *run) {
	if r.e.claim != r {
		r.cancel(nil)
	}
	delete(s.active, r)
	if len(s.active) == 0 && s.quiet != nil {
		closeOnce(s.quiet)
	}
}

// admit makes r the run, or the claim, that the task's Overlap counts.
func (e *entry) admit(r *run) {
	if e.single != nil {
		e.claimed(r)
		return
	}
	e.runs = append(e.runs, r)
}

// inline is exec on a goroutine on which nobody else ends the ctx of a run at its limit.
func (s *Set) inline(r *run) error {
	if l := r.e.limit; l > 0 {
		var stop func()
		r.Context, stop = context.WithTimeoutCause(r.Context, l, ErrTimeout)
		defer stop()
	}
	return s.exec(r)
}

// spawn is exec on a goroutine of its own.
func (s *Set) spawn(r *run) {
	if s.crew != nil {
		s.crew.give(r)
		return
	}
	name := "periodic/" + r.e.Name
	if r.e.Overlap.Parallel > 1 { // goroutines need names of their own
		name = fmt.Sprintf("%s/%d", name, r.info.Due.UnixNano())
	}
	s.env.Go(name, func() { _ = s.exec(r) })
}

// exec runs r, and then what follows it at once: further due times of CatchUp, and a queued one. It returns r's error.
func (s *Set) exec(r *run) (err error) {
	now := r // the one that runs
	defer func() {
		if now == nil {
			return
		}
		e := &drover.PanicError{Stack: debug.Stack()} // by runtime.Goexit
		defer func() {                                // the ledger's code may end the goroutine too
			if next := s.ended(now, e); next != nil {
				s.spawn(next)
			}
		}()
		if now.owned {
			s.settleUp(now, e)
		}
	}()
	for now != nil {
		if !s.mayStart(now) {
			now = s.dropped(now)
			continue
		}
		e := s.call(now)
		if now == r {
			err = e
		}
		if now.owned {
			s.settleUp(now, e)
		}
		now = s.ended(now, e)
	}
	return err
}

// clear forgets all that has not started.
func (s *Set) clear() {
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		e.queued, e.trigger = nil, false
		if e.claim != nil {
			e.claim.cancel(context.Canceled)
			e.claim = nil
		}
		e.schedule(now)
	}
}

func (s *Set) mayStart(r *run) bool {
	if r.late && !s.gates(r.e) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.e.gated++
		s.m.skip(r.e, "gated", 1)
		return false
	}
	return (r.e.single == nil || r.once || s.ask(r)) && s.began(r)
}

// began stamps the start of r; false: it must not start any more.
func (s *Set) began(r *run) bool {
	now, over := s.env.Clock.Now(), r.Err() != nil
	s.mu.Lock()
	defer s.mu.Unlock()
	e := r.e
	if over || r.Context.Err() != nil || !r.once && (e.gone || s.draining) {
		return false
	}
	if e.number++; e.number == 1 && e.pace != nil {
		e.pace.begin(s.env)
	}
	r.info.Number, r.info.Started = e.number, now
	e.started, e.lastDue, e.epoch = now, r.info.Due, r.info.Epoch
	if e.limit > 0 {
		r.limit = now.Add(e.limit)
		e.schedule(now)
		s.rouse()
	}
	return true
}

// dropped forgets a run that did not start.
func (s *Set) dropped(r *run) (next *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(r)
	s.release(r)
	return s.inLane(r, nil)
}

// inLane hands r's place in its lane on, and gives next if that has it.
func (s *Set) inLane(r, next *run) *run {
	if r.e.lane == nil || r.once || r.e.lane.leave(next) {
		return next
	}
	return nil
}

// forget takes r from its task's runs.
func (s *Set) forget(r *run) {
	e := r.e
	e.runs = slices.DeleteFunc(e.runs, func(x *run) bool { return x == r })
	if e.gone && len(e.runs) == 0 {
		closeOnce(e.removed)
	}
}

// closeOnce closes c unless it is closed. The caller holds the lock that guards c.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// abandon forgets a run that waits in a lane; others end by their ctx.
func (s *Set) abandon(r *run) {
	if r.e.lane != nil && r.e.lane.drop(r) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forget(r)
		s.release(r)
	}
}

// call runs Do, with a span, and makes a panic its error.
func (s *Set) call(r *run) (err error) {
	ctx, done := s.m.begin(r)
	defer func() {
		if v := recover(); v != nil {
			err = &drover.PanicError{Value: v, Stack: debug.Stack()}
		}
		switch cause := context.Cause(r); {
		case errors.Is(cause, ErrTimeout) && err == nil:
			err = fmt.Errorf("%w: ran longer than %v", ErrTimeout, r.e.limit)
		case errors.Is(cause, ErrTimeout) && !errors.Is(err, ErrTimeout):
			err = fmt.Errorf("%w: ran longer than %v: %w", ErrTimeout, r.e.limit, err)
		case errors.Is(cause, ErrLost) && err == nil:
			err = ErrLost
		}
		done(err)
	}()
	return callTask(r.e.Do, ctx)
}

// callTask is the frame by which inTask knows a task.
//
//go:noinline
func callTask(f Func, ctx context.Context) error { return f(ctx) } //nolint:revive // the frame is what counts

// ended books the end of r and gives what runs next on its goroutine.
func (s *Set) ended(r *run, err error) (next *run) {
	now := s.env.Clock.Now()
	news := s.end(r, err, now)
	for _, f := range news {
		f()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := r.e
	s.forget(r)
	if !r.once {
		next = s.following(e, r)
	}
	if !e.gone {
		e.schedule(now)
		s.rouse()
	}
	s.release(r)
	return s.inLane(r, next)
}

// end books how r ended, and gives what is to be logged.
func (s *Set) end(r *run, err error, now time.Time) (news []func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := r.e
	r.info.Ended = now
	took := now.Sub(r.info.Started)
	if !r.once {
		if d := spacing(e.When); e.outlasted && took > d {
			news = append(news, func() {
				s.log.Warn("periodic.outlasted", "task", e.Name, "took", took, "excess", took-d)
			})
		}
		e.outlasted = false
	}
	if errors.Is(err, Done) {
		e.finished, err = true, nil
	}
	if f := s.book(e, r, took, err); f != nil {
		news = append(news, f)
	}
	if !r.once {
		s.follow(e, r, err, now)
	}
	return news
}

// book counts the end of a run; note logs it if it is news.
func (s *Set) book(e *entry, r *run, took time.Duration, err error) (note func()) {
	e.took, e.err = took, err
	s.m.ended(r, took, err)
	if err == nil {
		e.succeeded = r.info.Ended
		if was := e.text; was != "" {
			e.text = ""
			return func() { s.log.Info("periodic.recovered", "task", e.Name, "failed", was) }
		}
		return nil
	}
	e.failures++
	text := err.Error()
	if text == e.text {
		return nil
	}
	e.text = text
	return func() { s.log.Warn("periodic.failed", "task", e.Name, "error", err) }
}

// follow puts the next due time of a task that counts from the end of its runs.
func (s *Set) follow(e *entry, r *run, err error, now time.Time) {
	if e.finished || !afterEnd(e.When) {
		return
	}
	e.last = r.info
	if e.pace == nil {
		e.follow(now)
		return
	}
	d, ok := e.pace.after(r.res, err)
	if !ok {
		e.finished, e.err = true, ErrBudget
		e.failures++
		return
	}
	e.aim(now.Add(d))
}

// following is the run that takes r's place at once.
func (s *Set) following(e *entry, r *run) (next *run) {
	switch {
	case !e.waiting() || r.base.Err() != nil:
		return nil
	case len(r.rest) > 0:
		next = s.newRun(r.base, e, r.rest[0])
		next.rest = r.rest[1:]
	case e.queued != nil:
		next = s.newRun(r.base, e, e.queued.due)
		next.info.Missed, next.late, e.queued = e.queued.missed, true, nil
	default:
		return nil
	}
	e.admit(next)
	return next
}
