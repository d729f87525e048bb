package periodic

import (
	"fmt"
	"time"
)

// Schedule says when a task is due. It is pure: no clock, no state; hosts may write one. Safe for concurrent use.
type Schedule interface {
	// Next is the due time that follows last, later than last.Due; false: there is none any more. Before the first run,
	// last.Number is 0 and last.Due the start of the timetable.
	Next(last Run) (time.Time, bool)
}

// Run is one run of a task.
type Run struct {
	Name    string
	Due     time.Time // when it should start, without jitter
	Started time.Time
	Ended   time.Time // zero while it runs
	Number  int64     // from 1, in this process
	Missed  int64     // due times that this run stands for besides its own
	Epoch   int64     // of a singleton: the fencing token
	Attempt int       // of Retry, from 1
}

// Grid is the schedule of [Every]: due at the start + k·d, whatever the runs cost.
func Grid(d time.Duration) Schedule { return grid(d) }

type grid time.Duration

func (g grid) Next(last Run) (time.Time, bool) { return last.Due.Add(time.Duration(g)), true }
func (g grid) String() string                  { return "every " + time.Duration(g).String() }

// Delay is the schedule of [After]: d after the end of the run before.
func Delay(d time.Duration) Schedule { return delay(d) }

type delay time.Duration

func (d delay) Next(last Run) (time.Time, bool) {
	if last.Number == 0 {
		return last.Due, true
	}
	return last.Ended.Add(time.Duration(d)), true
}

func (d delay) String() string { return time.Duration(d).String() + " after each run" }

// First is s with its first due time d after the start.
func First(d time.Duration, s Schedule) Schedule { return first{s, d} }

type first struct {
	Schedule
	d time.Duration
}

func (f first) Next(last Run) (time.Time, bool) {
	if last.Number == 0 {
		return last.Due.Add(f.d), true
	}
	return f.Schedule.Next(last)
}

func (f first) String() string { return text(f.Schedule) }

// Continue is s for [Until]: up to max errors in a row count as no progress; the one after them is returned.
func Continue(max int, s Schedule) Schedule { return tolerant{s, max} }

type tolerant struct {
	Schedule
	max int
}

func (t tolerant) String() string { return text(t.Schedule) }

// paced are schedules whose delays the runs choose: of Adaptive and Backoff.
type paced struct {
	pacer func() pacer // fresh for each task of a Set
	text  string
}

func (p paced) Next(last Run) (time.Time, bool) { return last.Due, last.Number == 0 }
func (p paced) String() string                  { return p.text }

// unwrap takes First and Continue off.
func unwrap(s Schedule) Schedule {
	for {
		switch w := s.(type) {
		case first:
			s = w.Schedule
		case tolerant:
			s = w.Schedule
		default:
			return s
		}
	}
}

// afterEnd says that s counts from the end of a run.
func afterEnd(s Schedule) bool {
	switch unwrap(s).(type) {
	case delay, paced:
		return true
	}
	return false
}

// onWallClock says that s follows the wall clock where that is set.
func onWallClock(s Schedule) bool {
	_, ok := unwrap(s).(calendar)
	return ok
}

// spacing is what lies between two due times; 0 if that varies.
func spacing(s Schedule) time.Duration {
	switch s := unwrap(s).(type) {
	case grid:
		return time.Duration(s)
	case delay:
		return time.Duration(s)
	}
	return 0
}

func text(s Schedule) string {
	if t, ok := s.(fmt.Stringer); ok {
		return t.String()
	}
	return fmt.Sprintf("%T", s)
}

// checkSchedule is what is wrong with s, nil if nothing is.
func checkSchedule(s Schedule) error {
	switch w := s.(type) {
	case nil:
		return fmt.Errorf("%w: has no schedule", ErrTask)
	case broken:
		return w.err
	case first:
		if w.d < 0 {
			return fmt.Errorf("%w: first delay %v is negative", ErrSchedule, w.d)
		}
		return checkSchedule(w.Schedule)
	case tolerant:
		if w.max < 0 {
			return fmt.Errorf("%w: Continue(%d) is negative", ErrSchedule, w.max)
		}
		return checkSchedule(w.Schedule)
	case grid, delay:
		if d := spacing(s); d < time.Millisecond {
			return fmt.Errorf("%w: spacing %v is less than 1ms", ErrSchedule, d)
		}
	}
	return nil
}

// broken stands for a schedule that could not be made; Add says why.
type broken struct{ err error }

func (broken) Next(Run) (time.Time, bool) { return time.Time{}, false }

// pending is the due times of a schedule from the first not dealt with up to now.
type pending struct {
	newest []time.Time // the newest ones, at most as many as asked for, oldest first
	n      int64       // all of them
	next   time.Time   // the first after now; zero: none
}

// countLimit bounds the walk over due times that were missed; a grid needs none.
const countLimit = 100_000

// dues lists what s has made due since due, which is one of its due times, up to now.
func dues(s Schedule, last Run, due, now time.Time, keep int) (p pending) {
	if g, ok := unwrap(s).(grid); ok {
		d := time.Duration(g)
		p.n = int64(now.Sub(due)/d) + 1
		top := due.Add(time.Duration(p.n-1) * d)
		for k := min(int64(max(keep, 1)), p.n) - 1; k >= 0; k-- {
			p.newest = append(p.newest, top.Add(-time.Duration(k)*d))
		}
		p.next = top.Add(d)
		return p
	}
	last.Number = max(last.Number, 1)
	for !due.After(now) {
		if len(p.newest) == max(keep, 1) {
			p.newest = append(p.newest[:0], p.newest[1:]...)
		}
		p.newest = append(p.newest, due)
		p.n++
		last.Due = due
		next, ok := s.Next(last)
		if !ok || !next.After(due) {
			return p
		}
		if p.n == countLimit { // far behind: the rest is not counted
			last.Due = now
			next, _ = s.Next(last)
		}
		due = next
	}
	p.next = due
	return p
}
