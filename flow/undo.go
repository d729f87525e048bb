package flow

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
)

// back is what a rollback leaves.
type back struct {
	undo    []error
	skipped []string
	stop    bool  // by StopUndo
	leave   error // not finished: the run is another's, or the node stops
}

// rollback undoes what was begun, from the highest step down. ctx is the run's; its end does not end the rollback.
func (r *run[S]) rollback(ctx context.Context, cause error) (b back) {
	if r.f.noUndo {
		return b
	}
	var cancel context.CancelFunc
	if r.book != nil {
		ctx, cancel = r.book.job.Unwind(ctx)
	} else {
		ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	defer cancel()
	return r.undoAll(ctx, cause, false)
}

// undoAll is rollback within a ctx that is the rollback's already.
func (r *run[S]) undoAll(ctx context.Context, cause error, stop bool) (b back) {
	b.stop = stop
	if r.f.noUndo {
		return b
	}
	if r.at != nil {
		r.s = r.at() // the state around it may have been put back
	}
	if at := &r.resume; at.assumed && r.marks[at.next].state == pending {
		r.marks[at.next].state = started
	}
	ctx, cancel := context.WithTimeout(ctx, r.f.grace)
	defer cancel()
	for _, name := range slices.Backward(r.resume.unknown) {
		b.undo = append(b.undo, &UndoError{Step: name, Err: ErrNoUndo})
	}
	n := len(r.marks)
	if r.resume.order != nil {
		n = len(r.resume.order)
	}
	for n--; n >= 0 && b.leave == nil; n-- {
		i := n
		if r.resume.order != nil {
			i = r.resume.order[n]
		}
		s, m := &r.f.steps[i], &r.marks[i]
		switch {
		case m.state == undoFailed: // before a crash
			b.undo = append(b.undo, m.undoError(s.name))
			b.stop = b.stop || m.stop
		case m.state == pending, m.state == skipped, m.state == undone:
		case s.sub != nil: // has rolled itself back if it failed: this finds what is left
			r.undoSub(ctx, i, cause, &b)
		case m.state == failed && s.opts.undoOnlyDone:
		case s.undo == nil:
			m.state = undone
		case b.stop:
			b.skipped = append(b.skipped, s.name)
		default:
			r.undoStep(ctx, i, cause, &b)
		}
	}
	return b
}

// undoStep undoes step i and notes what becomes of it.
func (r *run[S]) undoStep(ctx context.Context, i int, cause error, b *back) {
	if b.leave = r.bookLeaving(); b.leave != nil {
		return
	}
	s, m := &r.f.steps[i], &r.marks[i]
	err := context.Cause(ctx)
	if err == nil {
		err = r.tryUndo(ctx, i, cause)
	}
	if b.leave = r.bookLeaving(); b.leave != nil && err != nil {
		return // not ours any more, or not now: the next holder undoes it again
	}
	m.was, m.state = m.state, undone
	if err != nil {
		var stop *stopUndoError
		if m.stop = errors.As(err, &stop); m.stop {
			err, b.stop = stop.err, true
		}
		m.state, m.undoErr = undoFailed, err
		b.undo = append(b.undo, m.undoError(s.name))
		r.env.Logger.WarnContext(ctx, "not undone", "flow", r.f.name, "step", s.name, "err", err)
	}
	if r.book != nil {
		if err := r.undoBoundary(ctx, i, cause); err != nil {
			b.leave = err
		}
	}
}

// undoError is what an undo that failed leaves; one that said StopUndo is not owed.
func (m *mark) undoError(name string) *UndoError {
	u := &UndoError{Step: name, Err: m.undoErr}
	if !m.stop {
		u.owed = m.was.outcome()
	}
	return u
}

// tryUndo calls undo up to three times.
func (r *run[S]) tryUndo(ctx context.Context, i int, cause error) error {
	s, m := &r.f.steps[i], &r.marks[i]
	policy := exponential(r.env, time.Second, time.Minute, 0.5)
	for try := 1; ; try++ {
		sc := &stepCtx{
			Context: ctx, flow: r.f.name, step: s.name, index: i, of: len(r.marks), try: try,
			phase: PhaseUndo, outcome: m.state.outcome(), cause: cause,
		}
		r.place(sc, i, try)
		began := r.now()
		var end func(error)
		sc.Context, end = r.meters.span(sc.Context, "undo", s.name) //nolint:fatcontext // sc is made anew for each step
		err := r.timed(sc, s.opts.undoTimeout, s.undo)
		r.stepped(sc, began)
		end(err)
		if err == nil || try >= s.opts.undoTries || ctx.Err() != nil || r.final(err) || !r.pause(ctx, policy) {
			return err
		}
	}
}

// final says whether an undo does not want another try.
func (r *run[S]) final(err error) bool {
	var stop *stopUndoError
	var permanent *backoff.PermanentError
	return errors.As(err, &stop) || errors.As(err, &permanent) || drover.IsPermanent(err) ||
		r.book != nil && r.book.job.Permanent(err)
}
