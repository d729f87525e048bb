package periodic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// Set runs tasks on one loop. Runs have goroutines, tasks have none; with the default Env.Go runs share them where that delays nobody. It is a drover.Component (Run) and a drover.Stepper (Step,
// which runs the tasks inline). The zero value is ready. Its methods may be called at any time, from tasks too.
type Set struct {
	// Env is set before the first call; zero fields are production.
	Env drover.Env
	// Use are decorators of every task, outside its own.
	Use []Decorator
	// Limit is the hard limit of tasks that set none; 0 is each task's own default. See Task.Limit.
	Limit time.Duration

	once sync.Once
	env  drover.Env
	log  *slog.Logger
	m    meters
	wake chan struct{}

	origin time.Time // of the queue
	crew   *crew     // nil: the host has an Env.Go of its own, and each run a goroutine with its name

	mu       sync.Mutex // never held while a host's code or a Ledger runs
	entries  map[string]*entry
	faults   []error // of Every
	queue    queue
	looks    looks
	target   time.Time // until which the loop sleeps; zero: for ever
	phase    phase
	since    time.Time // of phase
	begun    bool
	seen     time.Time // the clock when the loop last looked
	draining bool
	base     context.Context // of the last look: what runs derive from
	active   map[*run]struct{}
	quiet    chan struct{} // closed when no run is left, if somebody waits
}

type phase int

const (
	built phase = iota
	running
	ended
)

func (s *Set) init() {
	s.once.Do(func() {
		s.env = s.Env.Defaults()
		if s.Env.Go == nil {
			s.crew = &crew{set: s}
		}
		s.log = s.env.Logger.With("node", s.env.Node)
		s.wake = make(chan struct{}, 1)
		s.entries, s.active = map[string]*entry{}, map[*run]struct{}{}
		s.origin = s.env.Clock.Now()
		s.since = s.origin
		s.m.init(s)
	})
}

// Every adds Every(d, name, f, opts...). The error is also kept, for Run and Step to return.
func (s *Set) Every(d time.Duration, name string, f Func, opts ...Option) error {
	err := s.Add(Every(d, name, f, opts...))
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = append(s.faults, err)
	}
	return err
}

// Add adds all of tasks or, if anything is wrong with one of them, none; the error joins all that is: [ErrSchedule], [ErrNever],
// [ErrName], [ErrDuplicate], [ErrTask]. Before Run their timetables start with it, afterwards now.
func (s *Set) Add(tasks ...Task) error {
	s.init()
	now := s.env.Clock.Now()
	fresh := make(map[string]*entry, len(tasks))
	var errs []error
	for _, t := range tasks {
		t = decorate(t, s.Use)
		err := t.check()
		if _, ok := t.When.(calendar); ok && err == nil {
			if _, ok := t.When.Next(Run{Due: now}); !ok {
				err = fmt.Errorf("periodic: task %q: %w: %s", t.Name, ErrNever, text(t.When))
			}
		}
		if err == nil && fresh[t.Name] != nil {
			err = fmt.Errorf("%w: %q", ErrDuplicate, t.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e := &entry{Task: t, set: s, limit: t.limit(s.Limit), disabled: t.Disabled, index: -1}
		if p, ok := unwrap(t.When).(paced); ok {
			e.pace = p.pacer()
		}
		fresh[t.Name] = e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(fresh)) {
		if s.entries[name] != nil {
			errs = append(errs, fmt.Errorf("%w: %q", ErrDuplicate, name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, name := range slices.Sorted(maps.Keys(fresh)) { // in order: begin draws from Rand
		e := fresh[name]
		s.entries[name] = e
		if s.begun {
			e.begin(now)
			e.schedule(now)
		}
	}
	s.rouse()
	return nil
}

// Remove takes a task out: from its call on nothing of it starts, and the ctx of its runs ends. It returns when they have
// ended, or after 10 s with drover.ErrStuck; called by a task it does not wait. [ErrUnknown]: there is no such task.
func (s *Set) Remove(name string) error {
	s.init()
	s.mu.Lock()
	e, err := s.known(name)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	delete(s.entries, name)
	e.gone, e.queued, e.removed = true, nil, make(chan struct{})
	s.queue.put(e, time.Time{})
	runs := slices.Clone(e.runs)
	if e.claim != nil {
		e.claim.cancel(context.Canceled)
		e.claim = nil
	}
	if len(runs) == 0 {
		close(e.removed)
	}
	s.mu.Unlock()
	for _, r := range runs {
		r.cancel(context.Canceled)
		s.abandon(r)
	}
	if inTask() {
		return nil
	}
	limit := s.env.Clock.After(10 * time.Second)
	select {
	case <-e.removed:
		return nil
	case <-limit:
	}
	select {
	case <-e.removed:
		return nil
	default:
		return fmt.Errorf("periodic: remove %q: %w", name, drover.ErrStuck)
	}
}

// inTask says whether the calling goroutine runs a task: one that waited for others, or itself, might wait for ever.
func inTask() bool {
	pcs := make([]uintptr, 64)
	for skip := 0; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for {
			f, more := frames.Next()
			if strings.HasSuffix(f.Function, "periodic.callTask") {
				return true
			}
			if !more {
				break
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

// known is the task of that name. The caller holds the lock.
func (s *Set) known(name string) (*entry, error) {
	if e := s.entries[name]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknown, name)
}

// with runs f on a task that is there and not finished, under the lock, and has it scheduled anew.
func (s *Set) with(name string, f func(e *entry, now time.Time) error) error {
	s.init()
	now := s.env.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.known(name)
	if err != nil {
		return err
	}
	if e.finished {
		return fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if err := f(e, now); err != nil {
		return err
	}
	e.schedule(now)
	s.rouse()
	return nil
}

// Trigger has a task run now, beside its timetable; during a run it counts as a due time that overlaps. [ErrUnknown]: there
// is no such task, or it is finished.
func (s *Set) Trigger(name string) error {
	return s.with(name, func(e *entry, _ time.Time) error { e.trigger = true; return nil })
}

// Enable undoes Disable. Due times since then were missed: Misfire says what becomes of them, save that CatchUp runs none.
func (s *Set) Enable(name string) error {
	return s.with(name, func(e *entry, now time.Time) error {
		if e.disabled && !e.due.IsZero() && e.Misfire.CatchUp > 0 && !e.due.After(now) && !afterEnd(e.When) {
			p := dues(e.When, e.last, e.due, now, 1)
			e.last.Due = p.newest[0]
			e.aim(p.next)
		}
		e.disabled = false
		return nil
	})
}

// Disable lets nothing new of a task start. A run goes on; what was disabled stays so.
func (s *Set) Disable(name string) error {
	return s.with(name, func(e *entry, _ time.Time) error {
		e.disabled, e.trigger, e.queued = true, false, nil
		if e.claim != nil {
			e.claim.cancel(context.Canceled)
			e.claim = nil
		}
		return nil
	})
}

// Reschedule gives a task a new timetable, which starts now. [ErrSchedule]: it is none, or not one for this task.
func (s *Set) Reschedule(name string, to Schedule) error {
	if err := checkSchedule(to); err != nil {
		return fmt.Errorf("periodic: task %q: %w", name, err)
	}
	return s.with(name, func(e *entry, now time.Time) error {
		t := e.Task
		t.When = to
		if err := t.check(); err != nil {
			return err
		}
		_, was := unwrap(e.When).(paced)
		if _, is := unwrap(to).(paced); is != was {
			return fmt.Errorf("periodic: task %q: %w: the function chooses its delays", name, ErrSchedule)
		}
		e.Task, e.limit, e.due = t, t.limit(s.Limit), time.Time{}
		if e.begun {
			s.shift(e, 0, now)
		}
		return nil
	})
}

// RunOnce runs a task at once, on the caller's goroutine: with its decorators, but without gates, Overlap, lane, ledger or
// timetable, also if it is disabled. It returns the task's error.
func (s *Set) RunOnce(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.init()
	s.mu.Lock()
	e, err := s.known(name)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	r := s.newRun(ctx, e, s.env.Clock.Now())
	r.once = true
	s.mu.Unlock()
	return s.inline(r)
}

// rouse wakes the loop if it would sleep too long. The caller holds the lock.
func (s *Set) rouse() {
	if len(s.queue) > 0 && (s.target.IsZero() || s.queue[0].e.at.Before(s.target)) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}
