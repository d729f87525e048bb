package sched

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"
)

// leftoverAfter is how long goroutines may take to end after main has returned.
const leftoverAfter = 24 * time.Hour

// Run drives main to its end, or the world to its failure. It must be the bubble's first goroutine.
func (s *Sched) Run(main func()) {
	s.mu.Lock()
	s.driver = s.newG(self(), "driver", nil, newDraws("driver"))
	s.gs[s.driver.id] = s.driver
	s.mu.Unlock()
	s.start(s.driver, "main", nil, func() {
		defer func() {
			s.mu.Lock()
			s.mainDone = true
			s.mu.Unlock()
		}()
		main()
	})
	timer := time.NewTimer(s.cfg.Horizon)
	defer timer.Stop()
	for s.round(timer) {
	}
	s.finish(timer)
}

// round does one thing and reports whether the world goes on.
func (s *Sched) round(timer *time.Timer) bool {
	synctest.Wait()
	s.Pulse.Add(1)
	s.mu.Lock()
	s.log.Close()
	s.current = nil
	s.mu.Unlock()
	if s.reap() {
		return true
	}
	s.check()
	s.mu.Lock()
	over := s.failure != "" || s.mainDone
	s.mu.Unlock()
	if over {
		return false
	}
	now := time.Now()
	if s.thaw(now) || s.script(now) {
		return true
	}
	again := s.collect(now)
	if len(s.ready) > 0 {
		s.pick(now)
		return true
	}
	if s.idle(now) {
		return true
	}
	if now.Sub(s.start_) >= s.cfg.Horizon {
		s.Fail(fmt.Sprintf("the horizon of %v is reached, and main has not returned", s.cfg.Horizon))
		return false
	}
	s.sleep(timer, now, again)
	return true
}

// sleep lets virtual time pass until again, the horizon, or an arrival.
func (s *Sched) sleep(timer *time.Timer, now, again time.Time) {
	for _, p := range s.procs { // whose timers may fire meanwhile
		if now.Before(p.frozen) && (again.IsZero() || p.frozen.Before(again)) {
			again = p.frozen
		}
	}
	if end := s.start_.Add(s.cfg.Horizon); again.IsZero() || again.After(end) {
		again = end
	}
	timer.Reset(again.Sub(now))
	s.mu.Lock()   // what the driver read without it comes before what woken goroutines write under it
	s.mu.Unlock() //nolint:staticcheck // empty on purpose
	select {
	case <-s.arrived:
	case <-timer.C:
	}
}

// check runs what must hold.
func (s *Sched) check() {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case abort: // said already
		default:
			s.Fail(fmt.Sprint(v))
		}
	}()
	if what := s.cfg.Rules.Check(); what != "" {
		s.Fail(what)
	}
}

// reap ends one goroutine that waits in a dead process.
func (s *Sched) reap() bool {
	for i, e := range s.parked {
		dead := e.G != nil && e.G.Proc != nil && e.G.Proc.dead
		if e.Proc != nil && e.Proc.dead && !dead {
			s.release(i, Verdict{Kind: Fail, Err: s.cfg.Crashed})
			return true
		}
		if dead {
			s.release(i, Verdict{Kind: Die})
			return true
		}
	}
	return false
}

// script releases a script goroutine that waits for rest, or for what has become true.
func (s *Sched) script(now time.Time) bool {
	for i, e := range s.parked {
		if e.kind == restEntry || e.kind == untilEntry && s.holds(e) {
			s.release(i, Verdict{})
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure != ""
}

func (s *Sched) holds(e *Entry) (ok bool) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case abort:
		default:
			s.Fail(fmt.Sprintf("eventually %q: %v", e.what, v))
		}
	}()
	return e.ok()
}

// collect finds what may run now, in order, and says when to look again if that is nothing.
func (s *Sched) collect(now time.Time) (again time.Time) {
	s.ready = s.ready[:0]
	sooner := func(t time.Time) {
		if !t.IsZero() && (again.IsZero() || t.Before(again)) {
			again = t
		}
	}
	for _, e := range s.parked {
		switch {
		case e.kind == settleEntry:
			continue
		case e.kind == untilEntry:
			sooner(e.until)
			continue
		case e.Proc != nil && now.Before(e.Proc.frozen) && !e.InTx:
			sooner(e.Proc.frozen)
			continue
		case now.Before(e.until):
			sooner(e.until)
		default:
			ok, t := s.cfg.Rules.Ready(e, now)
			if ok {
				s.ready = append(s.ready, e)
				continue
			}
			sooner(t)
		}
		if e.Ctx == nil {
			continue
		}
		if e.Ctx.Err() != nil {
			s.ready = append(s.ready, e)
		} else if e.unwatch == nil && e.Ctx.Done() != nil {
			e.unwatch = context.AfterFunc(e.Ctx, s.poke)
		}
	}
	return again
}

// pick draws one of what may run, and its verdict, and lets it go.
func (s *Sched) pick(now time.Time) {
	e := s.ready[0]
	if n := len(s.ready); n > 1 {
		e = s.ready[s.rng.IntN(n)]
	}
	i := slices.Index(s.parked, e)
	var v Verdict
	switch {
	case e.kind == scriptEntry || e.kind == startEntry:
		s.release(i, v)
		return
	case e.Ctx != nil && e.Ctx.Err() != nil && s.isHeld(e, now):
		v = Verdict{Kind: Fail, Err: context.Cause(e.Ctx)}
	case e.kind == holdEntry:
		s.release(i, v)
		return
	default:
		v = s.cfg.Rules.Judge(e, now)
	}
	if v.Kind == Hold {
		e.Judged, e.until = true, now.Add(v.Hold)
		return
	}
	s.point(e, v, now)
	s.release(i, v)
}

func (s *Sched) isHeld(e *Entry, now time.Time) bool {
	ok, _ := s.cfg.Rules.Ready(e, now)
	return !ok || now.Before(e.until)
}

// point counts and traces the operation of e.
func (s *Sched) point(e *Entry, v Verdict, now time.Time) {
	s.Points.Add(1)
	s.mu.Lock()
	s.line().Op(now, e.Name, e.Op, e.Key)
	s.current = e.G
	if v.Err != nil {
		s.log.Result(v.Note, v.Err.Error())
	}
	s.mu.Unlock()
	if !now.Equal(s.instant) {
		s.instant, s.atOnce = now, 0
	}
	if s.atOnce++; s.atOnce == maxAtOnce {
		s.Fail(fmt.Sprintf("%d operations at one instant: time does not move on; the last is %s %s", maxAtOnce, e.Name, e.Op))
	}
}

// release lets the i-th parked entry go.
func (s *Sched) release(i int, v Verdict) {
	e := s.parked[i]
	s.mu.Lock()
	s.parked = slices.Delete(s.parked, i, i+1)
	s.mu.Unlock()
	if e.unwatch != nil {
		e.unwatch()
	}
	if e.call != nil {
		if v.Kind == Run {
			e.call()
		}
		return
	}
	if e.G != nil {
		e.G.ch <- v
	}
}

// idle is reached when nothing can run at this instant: settled scripts go on, and overdue expectations fail.
func (s *Sched) idle(now time.Time) bool {
	for i, e := range s.parked {
		if e.kind == settleEntry {
			s.release(i, Verdict{})
			return true
		}
		if e.kind == untilEntry && !now.Before(e.until) {
			s.Fail(fmt.Sprintf("eventually %q: not within the time given", e.what))
			return true
		}
	}
	return false
}

// finish ends all goroutines.
func (s *Sched) finish(timer *time.Timer) {
	s.mu.Lock()
	s.log.Close()
	s.ending, s.endedAt = true, time.Since(s.start_)
	s.mu.Unlock()
	s.cfg.Rules.End()
	timer.Reset(leftoverAfter)
	for done := false; !done; {
		synctest.Wait()
		s.Pulse.Add(1)
		if len(s.parked) > 0 {
			s.release(0, Verdict{Kind: Die})
			continue
		}
		if s.thaw(time.Now().Add(leftoverAfter)) {
			continue
		}
		s.mu.Lock()
		s.mu.Unlock() //nolint:staticcheck // as in sleep
		select {
		case <-s.arrived:
		case <-timer.C:
			done = true
		}
	}
	if names := s.Live(); len(names) > 0 {
		s.mu.Lock()
		if s.failure == "" {
			s.failure = "goroutines left behind: " + strings.Join(names, ", ") + "\n" + Stacks(s.bubble)
			s.failedAt = s.endedAt
		}
		s.mu.Unlock()
	}
}
