package flow

import (
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/steps"
)

const finallyTimeout = 30 * time.Second

// state of a step within a run.
type state uint8

const (
	pending state = iota
	skipped
	started
	ended // done
	failed
	undone
	undoFailed
)

// outcome is what an undo is told.
func (s state) outcome() string {
	switch s {
	case ended:
		return OutcomeDone
	case failed:
		return OutcomeFailed
	}
	return OutcomeInterrupted
}

// mark is what a run knows of a step.
type mark struct {
	state   state
	tries   int    // before this run of the job
	was     state  // of undone and undoFailed: before
	sub     runner // the step's own flow, once begun
	undoErr error  // of undoFailed
	stop    bool   // undoErr was StopUndo
}

// run is one Run of a flow, or of a flow within it.
type run[S any] struct {
	f      *Flow[S]
	s      *S
	env    *drover.Env
	meters *meters
	marks  []mark
	at     func() *S // of a flow within another: where s is
	kept   []error
	keptAt int    // the step of the last
	where  string // the step of the first; "a/b" of a flow within

	book   *book  // nil in place
	path   string // of stored steps, durable only
	resume resume
}

// halt is why a run goes no further: leave without a verdict, or fail.
type halt struct {
	err     error
	step    string // that failed; "" between steps
	leave   bool
	final   bool    // not worth another try
	undo    []error // of a flow within: what its own rollback left
	skipped []string
}

// result of a whole run.
type result struct {
	err   *Error
	leave error
	kept  bool // err is of Continue only: nothing was rolled back
}

// Run runs the steps over s and returns nil, or an *[Error] after the rollback: in place, or durable if ctx is a job's. s
// belongs to the flow until Run returns. [ErrEmpty] if there are no steps. In a job it may also return what a step or
// Check returned to park the job or have it run again, or the cause of ctx when the node stops or the claim is lost: the
// handler must return that as it is.
func (f *Flow[S]) Run(ctx context.Context, s *S) error {
	r := f.begin(s)
	if len(f.steps) == 0 {
		r.finally(ctx, ErrEmpty)
		return ErrEmpty
	}
	if job := steps.From(ctx); job != nil {
		return r.durable(ctx, job)
	}
	return r.exec(ctx).fault()
}

func (f *Flow[S]) begin(s *S) *run[S] {
	f.seal()
	return &run[S]{f: f, s: s, env: &f.env, meters: f.meters, marks: make([]mark, len(f.steps))}
}

// fault is err as an error.
func (res result) fault() error {
	if res.err == nil {
		return nil
	}
	return res.err
}

// exec runs forward, back if that fails, and ends.
func (r *run[S]) exec(ctx context.Context) (res result) {
	began := r.env.Clock.Now()
	ctx, end := r.meters.span(ctx, "flow", r.f.name)
	defer func() { end(cmp.Or(res.leave, res.fault())) }()
	h := r.forward(ctx)
	switch {
	case h.leave:
		return result{leave: h.err}
	case h.err != nil:
		res.err = &Error{Flow: r.f.name, Step: h.step, Err: h.err, Undo: h.undo, Skipped: h.skipped}
		b := r.rollback(ctx, h.err)
		if b.leave != nil {
			return result{leave: b.leave}
		}
		res.err.Undo = append(res.err.Undo, b.undo...)
		res.err.Skipped = append(res.err.Skipped, b.skipped...)
	case len(r.kept) > 0:
		res.kept = true
		res.err = &Error{Flow: r.f.name, Step: r.where, Err: r.kept[0]}
		if len(r.kept) > 1 {
			res.err.Err = errors.Join(r.kept...)
		}
	}
	if r.at == nil {
		r.log(ctx, res)
	}
	r.ran(ctx, res, r.env.Clock.Now().Sub(began))
	r.finally(ctx, res.fault())
	return res
}

func (r *run[S]) log(ctx context.Context, res result) {
	switch {
	case res.err == nil:
		if r.book != nil {
			r.env.Logger.InfoContext(ctx, "flow ended", "flow", r.f.name)
		}
	case res.kept:
		r.env.Logger.InfoContext(ctx, "flow ended", "flow", r.f.name, "step", res.err.Step, "err", res.err.Err)
	default:
		r.env.Logger.InfoContext(ctx, "flow failed", "flow", r.f.name, "step", res.err.Step, "err", res.err.Err,
			"left", len(res.err.Undo)+len(res.err.Skipped))
	}
}

// forward runs the steps that are still to run.
func (r *run[S]) forward(ctx context.Context) (h halt) {
	next, h := r.begin(ctx)
	for h.err == nil && next < len(r.marks) {
		if h = r.step(ctx, next); h.leave {
			return h
		}
		prev := next
		if h.err == nil {
			next, h = r.advance(ctx, prev+1)
		}
		if r.book != nil {
			h = r.boundary(ctx, prev, next, h)
		}
	}
	return h
}

// advance finds the next step to start, from i on.
func (r *run[S]) advance(ctx context.Context, i int) (int, halt) {
	for ; ; i++ {
		if h := r.gate(ctx, i); h.err != nil || i == len(r.marks) {
			return i, h
		}
		when := r.f.steps[i].when
		if when == nil {
			return i, halt{}
		}
		var needed bool
		err := safely(func() (err error) { needed, err = when(ctx, r.s); return err })
		if err != nil {
			return i, halt{err: err, step: r.f.steps[i].name, leave: r.leaves(ctx, err)}
		}
		if needed {
			return i, halt{}
		}
		r.marks[i].state = skipped
	}
}

// gate is passed before step i, or after the last.
func (r *run[S]) gate(ctx context.Context, i int) halt {
	if r.book != nil {
		if err := r.book.leaving(i == len(r.marks)); err != nil {
			return halt{err: err, leave: true}
		}
	}
	if ctx.Err() != nil {
		return halt{err: context.Cause(ctx)}
	}
	for _, ask := range r.f.checks {
		if err := r.call(ctx, ask); err != nil {
			return halt{err: err, leave: r.leaves(ctx, err)}
		}
	}
	return halt{}
}

// leaves says whether err means to come back later; only a job can, and not one that is being cancelled.
func (r *run[S]) leaves(ctx context.Context, err error) bool {
	return r.book != nil && r.book.job.Leaves(err) && (ctx.Err() == nil || r.book.leaving(false) != nil)
}

// call turns a panic into an error.
func (r *run[S]) call(ctx context.Context, f func(context.Context, *S) error) (err error) {
	defer caught(&err)
	return f(ctx, r.s)
}

func caught(err *error) {
	if v := recover(); v != nil {
		*err = &drover.PanicError{Value: v, Stack: debug.Stack()}
	}
}

// finally runs what must run at the end, whatever happens.
func (r *run[S]) finally(ctx context.Context, end error) {
	if len(r.f.finals) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finallyTimeout)
	defer cancel()
	for _, f := range slices.Backward(r.f.finals) {
		begin := r.env.Clock.Now()
		if err := safely(func() error { f(ctx, r.s, end); return nil }); err != nil {
			r.env.Logger.WarnContext(ctx, "panic in Finally", "flow", r.f.name, "err", err)
		}
		if d := r.env.Clock.Now().Sub(begin); d > finallyTimeout {
			r.env.Logger.WarnContext(ctx, "Finally is slow", "flow", r.f.name, "took", d)
		}
	}
}
