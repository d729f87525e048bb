package periodic

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
)

// Func is the body of a task. Its ctx carries the run ([RunOf]), ends at the run's limit with cause [ErrTimeout], and when
// the task is removed or the Set stops. An error is recorded, and the next run comes by the timetable; [Done] ends the task.
type Func func(ctx context.Context) error

// Task names its schedule, its function and its policies. Make one with Every, After, Cron, Adaptive or Backoff; it is a value,
// and may be added to several Sets.
type Task struct {
	Name string // 1 to 128 of A-Z a-z 0-9 . _ / -, a letter or digit first; unique in its Set
	When Schedule
	Do   Func

	Overlap Overlap // zero: a due time that comes during a run is skipped and counted
	Misfire Misfire // zero: due times that were missed become one run, at once

	// Limit is the hard limit of a run, retries included. 0 is the Set's, else 10 spacings, at least 1 minute; 1 hour for
	// Cron. Negative is none.
	Limit time.Duration
	// Jitter is the most by which a start is put off, by chance, each run anew. The timetable never moves by it.
	Jitter time.Duration
	// Spread is the most by which the whole timetable is moved, once, by chance, so that nodes and tasks do not all begin
	// together. 0 is the spacing, at most 60 s; negative is off.
	Spread time.Duration
	// Gates are asked at the due time, and all must be true. They are quick and do not block; one that panics is false.
	Gates []func() bool
	// Stale is how long after the last success the Set's Health is degraded. 0 is never, negative is 3 spacings.
	Stale    time.Duration
	Disabled bool // until Enable

	now    bool // also once at the start
	lane   *Lane
	single *singleton
	errs   []error // of decorators
}

// Overlap says what becomes of a due time that comes during a run. The zero value skips it.
type Overlap struct {
	Queued   bool // one is remembered and starts when the run ends
	Parallel int  // so many runs at once
}

// Misfire says what becomes of due times that passed while nothing could run. The zero value makes one run of them.
type Misfire struct {
	Skip    bool // nothing
	CatchUp int  // the newest of them are run, one after the other, each with its own Due
}

// Decorator wraps a task: its Do, its policies, or both. Hosts write their own the same way.
type Decorator func(Task) Task

// Option is another word for Decorator.
type Option = Decorator

// Every runs f on a fixed grid: d after the start, 2·d after the start, and so on, d ≥ 1 ms. What a run costs moves nothing.
func Every(d time.Duration, name string, f Func, with ...Decorator) Task {
	return decorate(Task{Name: name, When: Grid(d), Do: f}, with)
}

// After runs f at the start, and then each time d after the end of the run before, d ≥ 1 ms.
func After(d time.Duration, name string, f Func, with ...Decorator) Task {
	return decorate(Task{Name: name, When: Delay(d), Do: f}, with)
}

// Cron runs f at the times of [Calendar].
func Cron(expr string, loc *time.Location, name string, f Func, with ...Decorator) Task {
	s, err := Calendar(expr, loc)
	if err != nil {
		s = broken{err}
	}
	return decorate(Task{Name: name, When: s, Do: f}, with)
}

// Adaptive runs f, which chooses the delay until its next run: at least 1 ms, negative means 60 s. With an error and no
// delay it is 1 s, doubled with each error in a row up to 60 s, so that a failing task does not spin. The first run comes
// at the start.
func Adaptive(name string, f func(ctx context.Context) (idle time.Duration, err error), with ...Decorator) Task {
	return decorate(adaptive(Task{Name: name}, f), with)
}

// Backoff runs f after delays of a policy, p, which f's progress resets. Out of budget the task is finished, with [ErrBudget].
// An error is no progress. The first run comes at the start.
func Backoff(name string, p func() backoff.BackOff, f func(ctx context.Context) (progress bool, err error), with ...Decorator) Task {
	t := Task{Name: name}
	if p == nil {
		t.errs = append(t.errs, fmt.Errorf("%w: Backoff without a policy", ErrSchedule))
		p = Policy{}.New
	} else if x, ok := p().(*exponential); ok {
		if err := x.policy.check(); err != nil {
			t.errs = append(t.errs, err)
		}
	}
	t.When = paced{func() pacer { return &retreat{make: p} }, "with backoff"}
	if f != nil {
		t.Do = func(ctx context.Context) error {
			progress, err := f(ctx)
			tell(ctx, func(r *result) { r.progress = progress && err == nil })
			return err
		}
	}
	return decorate(t, with)
}

func adaptive(t Task, f func(ctx context.Context) (time.Duration, error)) Task {
	t.When = paced{func() pacer { return &chosen{} }, "as it chooses"}
	t.Do = nil
	if f != nil {
		t.Do = func(ctx context.Context) error {
			idle, err := f(ctx)
			tell(ctx, func(r *result) { r.idle = idle })
			return err
		}
	}
	return t
}

// decorate applies the decorators so that the first is outermost.
func decorate(t Task, with []Decorator) Task {
	for i := len(with) - 1; i >= 0; i-- {
		t = with[i](t)
	}
	return t
}

// Tasker is a type with a table of its own tasks. A type that embeds another lists both: append(t.Base.PeriodicTasks(), own...).
type Tasker interface{ PeriodicTasks() []Task }

// Methods is the table of v, each name prefixed with the name of v's type and a dot, and decorated.
func Methods(v Tasker, with ...Decorator) []Task {
	typ := reflect.TypeOf(v)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	var all []Task
	for _, t := range v.PeriodicTasks() {
		t.Name = typ.Name() + "." + t.Name
		all = append(all, decorate(t, with))
	}
	return all
}

// limit is the hard limit of a run; 0 is none.
func (t *Task) limit(set time.Duration) time.Duration {
	l := t.Limit
	if l == 0 {
		l = set
	}
	switch {
	case l != 0:
	case onWallClock(t.When):
		l = time.Hour
	default:
		l = max(10*spacing(t.When), time.Minute)
	}
	return max(l, 0)
}

// stale is how long after a success the task is stale; 0 is never.
func (t *Task) stale() time.Duration {
	if t.Stale < 0 {
		return 3 * spacing(t.When)
	}
	return t.Stale
}

// spread is the range of the phase.
func (t *Task) spread() time.Duration {
	most := time.Minute
	if d := spacing(t.When); d > 0 {
		most = min(d, most)
	}
	switch _, set := t.When.(first); {
	case t.Spread < 0, set, onWallClock(t.When):
		return 0
	case t.Spread == 0:
		return most
	}
	return t.Spread
}

// check is everything that is wrong with t.
func (t *Task) check() error {
	errs := t.errs
	bad := func(kind error, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{kind}, a...)...))
	}
	if t.Do == nil {
		bad(ErrTask, "has no function")
	}
	if err := checkSchedule(t.When); err != nil {
		errs = append(errs, err)
	}
	if t.Jitter < 0 {
		bad(ErrSchedule, "Jitter %v is negative", t.Jitter)
	}
	if d := spacing(t.When); t.Jitter > 0 && d > 0 && t.Jitter > d/2 {
		bad(ErrSchedule, "Jitter %v is more than half the spacing %v", t.Jitter, d)
	}
	if t.Overlap.Parallel < 0 {
		bad(ErrTask, "Parallel(%d) is negative", t.Overlap.Parallel)
	}
	if t.Misfire.CatchUp < 0 || t.Misfire.CatchUp > 1000 {
		bad(ErrTask, "CatchUp(%d) must be 0 to 1000", t.Misfire.CatchUp)
	}
	if t.single != nil {
		if err := t.single.check(t); err != nil {
			errs = append(errs, err)
		}
	}
	if !goodName(t.Name) {
		return fmt.Errorf("periodic: task %q: %w", clip(t.Name, 140), errors.Join(append([]error{
			fmt.Errorf("%w: must be 1 to 128 of A-Z a-z 0-9 . _ / -, a letter or digit first", ErrName)}, errs...)...))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("periodic: task %q: %w", t.Name, errors.Join(errs...))
}

func goodName(name string) bool {
	for i, c := range []byte(name) {
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '/' && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

var _ drover.Component = (*Set)(nil)
