package periodic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
)

// Status is what a Set knows of a task.
type Status struct {
	Name, Schedule string
	// State is idle, running, overdue (past its limit), disabled, finished, unknown (a singleton whose ledger cannot be
	// asked), drained or stopped.
	State    string
	Enabled  bool
	Last     time.Time // start of the last run
	Next     time.Time // next due time; zero: none, or only after the run
	Took     time.Duration
	Err      error // of the last run, or of the ledger
	LastDue  time.Time
	Runs     int64 // started
	Failures int64
	Overruns int64 // due times met while running
	Missed   int64 // due times that passed while nothing could run
	Gated    int64
	Taken    int64 // a singleton's due times that other nodes had
	Active   int

	LastSuccess time.Time
	Stale       bool

	Holder string // a singleton's, when this node has the last run it knows of
	Epoch  int64
}

// Status lists the tasks by name.
func (s *Set) Status() []Status {
	s.init()
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, 0, len(s.entries))
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		all = append(all, s.entries[name].status(now))
	}
	return all
}

func (e *entry) status(now time.Time) Status {
	st := Status{
		Name: e.Name, Schedule: text(e.When), State: e.state(), Enabled: !e.disabled, Last: e.started, Took: e.took, Err: e.err, LastDue: e.lastDue,
		Runs: e.number, Failures: e.failures, Overruns: e.overran, Missed: e.missed, Gated: e.gated, Taken: e.taken, Active: len(e.runs),
		LastSuccess: e.succeeded, Epoch: e.epoch, Stale: e.staleFor(now) > 0,
	}
	if e.waiting() {
		st.Next = e.due
	}
	if e.epoch > 0 {
		st.Holder = e.set.env.Node
	}
	return st
}

func (e *entry) state() string {
	switch {
	case e.set.phase == ended:
		return "stopped"
	case e.finished && len(e.runs) == 0:
		return "finished"
	case len(e.runs) > 0 && slices.ContainsFunc(e.runs, func(r *run) bool { return r.overdue }):
		return "overdue"
	case len(e.runs) > 0:
		return "running"
	case e.disabled:
		return "disabled"
	case e.set.draining:
		return "drained"
	case e.unknown:
		return "unknown"
	}
	return "idle"
}

// staleFor is for how long e has been stale.
func (e *entry) staleFor(now time.Time) time.Duration {
	limit := e.stale()
	if limit == 0 || e.disabled || e.finished || !e.begun {
		return 0
	}
	since := e.succeeded
	if since.IsZero() {
		since = e.start
	}
	return max(now.Sub(since)-limit, 0)
}

// Health is degraded while a task is stale, with its name, age and last error.
func (s *Set) Health() drover.Health {
	s.init()
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	h := drover.Health{Name: "periodic", State: "ready", Since: s.since}
	switch {
	case s.phase == ended:
		h.State = "stopped"
		return h
	case s.draining:
		h.State = "draining"
		return h
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[name]
		age := e.staleFor(now)
		if age == 0 {
			continue
		}
		if since := now.Add(-age); len(errs) == 0 || since.Before(h.Since) {
			h.Since = since
		}
		last := e.err
		if last == nil {
			last = errors.New("no error")
		}
		errs = append(errs, fmt.Errorf("periodic: task %q has not succeeded for %v: %w", name, age+e.stale(), last))
	}
	if len(errs) > 0 {
		h.State, h.Err = "degraded", errors.Join(errs...)
	}
	return h
}

// Drain starts nothing new, and returns when the runs that go on have ended, or with ctx's error and the names still running.
func (s *Set) Drain(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.clear()
	select {
	case <-s.idle():
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.active) == 0 {
		return nil
	}
	var names []string
	for r := range s.active {
		names = append(names, r.e.Name)
	}
	slices.Sort(names)
	return fmt.Errorf("periodic: not drained, still running: %s: %w", strings.Join(slices.Compact(names), ", "), context.Cause(ctx))
}
