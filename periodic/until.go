package periodic

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/drover-cloud/drover"
)

// Until is the looping call: it calls f on the schedule until f is done, and returns f's value. An error of f is returned at
// once, unless the schedule is wrapped in [Continue]; the end of ctx is, in a sleep as well as in f, which has the same ctx.
// Grid and Delay call f at once, wrapped in [First] after that delay, Calendar at its first date. With Grid, a call that
// outlasts the spacing is followed by the next point of the grid. A schedule that ends gives [ErrNever].
func Until[T any](ctx context.Context, e drover.Env, s Schedule, f func(context.Context) (v T, done bool, err error)) (v T, err error) {
	if err := checkSchedule(s); err != nil {
		return v, err
	}
	if _, ok := unwrap(s).(paced); ok {
		return v, fmt.Errorf("%w: a task's own", ErrSchedule)
	}
	l := newLooping(e.Defaults(), s)
	for {
		if err := l.sleep(ctx); err != nil {
			return v, err
		}
		v, done, err := guardedCall(ctx, f)
		switch {
		case err == nil && done:
			return v, nil
		case err == nil:
			l.errors = 0
		case ctx.Err() == nil && !l.tolerate(err):
			return v, err
		}
		if ctx.Err() != nil {
			return v, context.Cause(ctx)
		}
		if err := l.called(); err != nil {
			return v, err
		}
	}
}

func guardedCall[T any](ctx context.Context, f func(context.Context) (T, bool, error)) (v T, done bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &drover.PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return f(ctx)
}

// looping is the state of a looping call.
type looping struct {
	env    drover.Env
	s      Schedule
	max    int // errors in a row
	errors int
	last   Run
	warned bool
}

func newLooping(e drover.Env, s Schedule) *looping {
	now := e.Clock.Now()
	l := &looping{env: e, s: s, max: tolerance(s), last: Run{Due: now, Started: now, Ended: now}}
	due, ok := firstCall(s, l.last)
	if !ok {
		due = time.Time{}
	}
	l.last.Due = due
	return l
}

// tolerance is the innermost Continue's.
func tolerance(s Schedule) (max int) {
	for {
		switch w := s.(type) {
		case tolerant:
			max, s = w.max, w.Schedule
		case first:
			s = w.Schedule
		default:
			return max
		}
	}
}

// firstCall is when f is called first: a grid's first point is the start.
func firstCall(s Schedule, start Run) (time.Time, bool) {
	switch w := s.(type) {
	case tolerant:
		return firstCall(w.Schedule, start)
	case grid:
		return start.Due, true
	}
	return s.Next(start)
}

func (l *looping) sleep(ctx context.Context) error {
	if l.last.Due.IsZero() {
		return ErrNever
	}
	return l.env.Sleep(ctx, l.last.Due.Sub(l.env.Clock.Now()))
}

// tolerate counts an error.
func (l *looping) tolerate(err error) bool {
	if errors.Is(err, ErrPanic) || drover.IsPermanent(err) {
		return false
	}
	l.errors++
	return l.errors <= l.max
}

// called moves on to the next due time after a call that has ended.
func (l *looping) called() error {
	now := l.env.Clock.Now()
	l.last.Number++
	l.last.Ended = now
	for {
		next, ok := l.s.Next(l.last)
		if !ok || !next.After(l.last.Due) {
			l.last.Due = time.Time{}
			return ErrNever
		}
		late := now.Sub(next)
		l.last.Due = next
		if late <= 0 {
			return nil
		}
		if !l.warned {
			l.warned = true
			l.env.Logger.Warn("periodic.outlasted", "excess", late)
		}
		if g, ok := unwrap(l.s).(grid); ok {
			d := time.Duration(g)
			l.last.Due = l.last.Due.Add((late - 1).Truncate(d))
		}
	}
}
