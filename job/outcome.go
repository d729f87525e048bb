package job

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/internal/chance"
	"github.com/drover-cloud/drover/internal/errtext"
	"github.com/drover-cloud/drover/store"
)

const (
	minAgain = 10 * time.Millisecond
	maxStack = 8 << 10
)

// decide turns what a handler left into a transition, and a failure into a row of the journal. It is called inside the
// transaction that writes both; jitter is drawn there. The store's now costs a statement where none was made yet, so only
// those ask for it who need it.
func (m *Manager) decide(o *outcome, now func() time.Time) (Move, *Entry) {
	r := o.run
	mv := Move{ID: r.row.ID, From: Running, Epoch: r.row.Epoch, Progress: r.unstored()}
	switch {
	case o.sealed != nil:
		mv.To = sealedState(o.sealed)
		return mv, nil
	case r.abandoned():
		mv.To, mv.Error = Failed, lostError(o.err)
		return mv, nil
	case o.err == nil && len(o.result) > m.cfg.MaxResult:
		mv.To, mv.Error = Failed, &Error{Code: CodeTooLarge, Text: fmt.Sprintf("result of %d bytes, most are %d", len(o.result), m.cfg.MaxResult)}
		return mv, nil
	case o.err == nil:
		mv.To, mv.Result = Succeeded, o.result
		return mv, nil
	}
	r.mu.Lock()
	cancelled, reason := r.cancelled, ""
	if cancelled {
		reason = r.more().reason
	}
	r.mu.Unlock()
	again, park := new(againError), parkOf(o.err)
	switch {
	case cancelled:
		return m.cancelledMove(o, reason, now), nil
	case errors.Is(o.cause, ErrStopping) && !isPermanent(o.err) && park == nil:
		mv.To, mv.Uncancelled = Ready, true
		return mv, nil
	case park != nil && park.check(r) == nil && o.reentrant == nil:
		mv.To, mv.Uncancelled, mv.Free, mv.Park = Parked, true, park.freeTurn, park.park(now(), o.children)
		return mv, nil
	case errors.As(o.err, &again) && !isPermanent(o.err):
		o.wait = max(again.d, minAgain)
		mv.To, mv.RunAt, mv.Uncancelled = Scheduled, now().Add(o.wait), true
		return mv, nil
	}
	if park != nil {
		o.err = Permanent(cmp.Or(park.check(r), o.reentrant))
	}
	mv.Uncancelled = true
	m.failed(o, &mv, now())
	return mv, m.failureNote(o)
}

// failed spends an attempt: the job is retried, or has failed.
func (m *Manager) failed(o *outcome, mv *Move, now time.Time) {
	row, opt := &o.run.row, &o.run.kind.opt
	mv.To, mv.Attempt = Failed, row.Attempt+1
	limit := row.MaxAttempts
	if limit == 0 {
		limit = opt.attempts
	}
	pastDeadline := !row.Deadline.IsZero() && !now.Before(row.Deadline)
	if pastDeadline || row.Flags&Overdue != 0 {
		mv.Error = &Error{Code: CodeTimeout, Text: ErrDeadline.Error(), Causes: []Error{*encode(o.failure())}}
		return
	}
	if !isPermanent(o.err) && mv.Attempt < limit {
		if wait := m.delay(opt.policy, mv.Attempt); wait != backoff.Stop {
			o.wait = wait
			mv.To, mv.RunAt = Scheduled, now.Add(wait)
			return
		}
	}
	mv.Error = encode(o.failure())
}

// failure is the handler's error, without our marks, and with the cause where the handler only says that its ctx ended.
func (o *outcome) failure() error {
	err := o.err
	var p *permanentError
	if errors.As(err, &p) && error(p) == err { //nolint:errorlint // only the outermost mark is taken off
		err = p.err
	}
	var bp *backoff.PermanentError
	if errors.As(err, &bp) && error(bp) == err { //nolint:errorlint // as above
		err = bp.Err
	}
	if errors.Is(err, context.Canceled) && errors.Is(o.cause, ErrDeadline) && !errors.Is(err, ErrDeadline) {
		err = fmt.Errorf("%w: %w", ErrDeadline, err)
	}
	return err
}

// cancelledMove ends a job whose cancel request came before its outcome. A handler whose kind Unwinds gets another run to
// compensate if it did not know of the request when it stopped short, or says Again.
func (m *Manager) cancelledMove(o *outcome, reason string, now func() time.Time) Move {
	r := o.run
	mv := Move{ID: r.row.ID, From: Running, Epoch: r.row.Epoch, Progress: r.unstored(), To: Cancelled}
	again := new(againError)
	switch {
	case !r.kind.opt.unwinds || isPermanent(o.err):
	case errors.As(o.err, &again):
		o.wait = max(again.d, minAgain)
		mv.To, mv.RunAt, mv.Mark = Scheduled, now().Add(o.wait), Unwinding
		return mv
	case !errors.Is(o.cause, ErrCancelled):
		mv.To, mv.Mark = Ready, Unwinding
		return mv
	default:
		if park := parkOf(o.err); park != nil && park.check(r) == nil && o.reentrant == nil {
			mv.To, mv.Mark, mv.Free, mv.Park = Parked, Unwinding, park.freeTurn, park.park(now(), o.children)
			return mv
		}
	}
	mv.Error = cancelError(reason)
	if o.err != nil && parkOf(o.err) == nil && !errors.Is(o.err, context.Canceled) && !errors.Is(o.err, ErrCancelled) {
		mv.Error.Causes = []Error{*encode(o.failure())}
	}
	return mv
}

func cancelError(reason string) *Error {
	e := &Error{Code: CodeCancelled, Text: ErrCancelled.Error()}
	if reason != "" {
		e.Text += ": " + cut(reason, maxReason)
	}
	return e
}

func lostError(cause error) *Error {
	e := &Error{Code: CodeLost, Text: "the node that ran the job died"}
	if cause != nil && !errors.Is(cause, ErrLost) {
		e.Causes = []Error{*encode(cause)}
	}
	return e
}

func sealedState(r *Row) State {
	switch {
	case r.Error == nil:
		return Succeeded
	case r.Error.Code == CodeCancelled && !r.CancelAt.IsZero():
		return Cancelled
	}
	return Failed
}

// readSeals looks up the jobs whose handlers called FinishTx: whether that committed only the store knows.
func (m *Manager) readSeals(ctx context.Context, tx store.Tx, outs []*outcome) error {
	var ids []string
	for _, o := range outs {
		o.sealed = nil
		o.run.mu.Lock()
		if o.run.sealing {
			ids = append(ids, o.run.row.ID)
		}
		o.run.mu.Unlock()
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := m.store.List(ctx, tx, Find{IDs: ids, Limit: len(ids)})
	if err != nil {
		return err
	}
	rows := map[string]*Row{}
	for i := range found.Rows {
		rows[found.Rows[i].ID] = &found.Rows[i]
	}
	for _, o := range outs {
		if row := rows[o.run.row.ID]; row != nil && row.Epoch == o.run.row.Epoch && row.Flags&Sealed != 0 {
			o.sealed = row
		}
	}
	return nil
}

// failureNote is the journal's row of a failed run.
func (m *Manager) failureNote(o *outcome) *Entry {
	e := &Entry{JobID: o.run.row.ID, Epoch: o.run.row.Epoch, Node: m.env.Node, Failure: true, Text: cut(errtext.Of(o.failure()), maxErrorText)}
	if p, ok := panicked(o.err); ok && len(p.Stack) > 0 {
		e.Data, _ = json.Marshal(map[string]string{"stack": cut(string(p.Stack), maxStack)})
	}
	if e.Text == "" {
		e.Text = "failed"
	}
	return e
}

// defaultPolicy is 1 s, doubled up to 5 min, ±20 %.
func defaultPolicy() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval, b.RandomizationFactor = time.Second, 2, 5*time.Minute, 0.2
	return b
}

// delay asks a fresh policy as often as attempts were spent and takes its last answer, or backoff.Stop. The jitter of an
// exponential policy is drawn from Env.Rand and its MaxElapsedTime ignored: both would follow another clock than ours.
func (m *Manager) delay(policy func() backoff.BackOff, attempt int) time.Duration {
	b := policy()
	jitter := 0.0
	if e, ok := b.(*backoff.ExponentialBackOff); ok {
		jitter, e.RandomizationFactor, e.MaxElapsedTime = e.RandomizationFactor, 0, 0
		e.Reset()
	}
	var d time.Duration
	for range min(attempt, 1000) {
		if d = b.NextBackOff(); d == backoff.Stop {
			return backoff.Stop
		}
	}
	return max(0, min(chance.Around(m.env.Rand, d, max(jitter, 0)), math.MaxInt64/4))
}
