package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drover-cloud/drover/internal/steps"
	"github.com/drover-cloud/drover/job"
)

const (
	debtFirst = 10 * time.Second // then doubled
	debtMost  = 10 * time.Minute
	debtTries = 50 // of one undo
)

// debt is what a job of kind flow-undo:<name> is given.
type debt struct {
	Job     string          `json:"job"` // that failed
	Version int             `json:"version"`
	S       json.RawMessage `json:"s"`
	Steps   []owed          `json:"steps"` // in the order of their undo
	Cause   json.RawMessage `json:"cause"` // of the rollback
}

type owed struct {
	Step    string `json:"step"` // "a/b" in a flow within
	Outcome string `json:"outcome"`
}

// DebtTopic is the topic on which the debts of a resource, the one of the job that failed, are tried at once:
// m.Wake(ctx, flow.DebtTopic("host/7")). A wake while one is being tried is not kept.
func DebtTopic(resource string) string {
	const most = 128 // bytes of a topic
	topic := "flow.debt/" + resource
	if len(topic) > most {
		topic = topic[:most]
		for !utf8.ValidString(topic) {
			topic = topic[:len(topic)-1]
		}
	}
	return topic
}

// debt is what the failure e leaves to be undone, nil if nothing.
func (r *run[S]) debt(ctx context.Context, e *Error) *debt {
	j, _ := job.FromContext(ctx)
	d := &debt{Job: j.ID, Version: r.f.vers, S: r.book.last, Cause: r.book.job.Encode(e.Err)}
	for _, err := range e.Undo {
		if u, ok := err.(*UndoError); ok && u.owed != "" { //nolint:errorlint // made here, never wrapped
			d.Steps = append(d.Steps, owed{u.Step, u.owed})
		}
	}
	if len(d.Steps) == 0 {
		return nil
	}
	return d
}

// owe ends the job with failure and submits its debt, both or neither.
func (b *book) owe(ctx context.Context, flow string, failure error, d *debt) error {
	ctx, release := b.job.Unwind(ctx)
	defer release()
	unique := d.Job + "/" + flow
	return b.retry(ctx, unique, func() error { return b.job.Owe(ctx, failure, "flow-undo:"+flow, unique, d) })
}

// pay handles a job of kind flow-undo:<name>: one try of each undo that is left, as long as they succeed.
func (v *versions[S]) pay(ctx context.Context, d debt) (s S, err error) {
	f, err := v.get(d.Version)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(d.S, &s); err != nil {
		return s, job.Permanent(fmt.Errorf("%w: %w", ErrState, err))
	}
	r := f.begin(&s)
	if err := r.open(ctx, steps.From(ctx), f.name+"/"); err != nil {
		return s, err
	}
	work, cancel := r.book.work(ctx)
	defer cancel()
	for _, o := range d.Steps {
		if r.book.stored.has(r.path + o.Step + undoMark) {
			continue
		}
		if err := r.payStep(ctx, work, &d, o); err != nil {
			if errors.Is(context.Cause(ctx), job.ErrCancelled) && !errors.Is(err, job.ErrLost) {
				err = forgive(ctx)
			}
			return s, err
		}
	}
	return s, nil
}

// payStep tries the undo of one step once. ctx is the handler's, work the undo's.
func (r *run[S]) payStep(ctx, work context.Context, d *debt, o owed) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j, _ := job.FromContext(ctx)
	name := r.path + o.Step
	tries, mine := 0, 0 // mine: not those of a job that this one is the retry of
	for r.book.stored.has(name + tryMark + strconv.Itoa(tries+1)) {
		if tries++; r.book.stored[name+tryMark+strconv.Itoa(tries)].Job == j.ID {
			mine++
		}
	}
	err := r.payUndo(work, o.Step, o.Outcome, mine+1, r.book.job.Decode(d.Cause))
	if errors.Is(context.Cause(work), job.ErrLost) {
		return context.Cause(work)
	}
	if err == nil {
		rec := record{}
		rec.S, _ = r.book.encode() // what cannot be stored is left as it was stored last
		return r.book.save(ctx, name+undoMark, rec, -1)
	}
	if cause := context.Cause(work); errors.Is(cause, job.ErrCancelled) {
		return cause
	}
	r.meters.undoFailures.Add(ctx, 1, r.meters.flow)
	if again := r.book.save(ctx, name+tryMark+strconv.Itoa(tries+1), record{Err: r.book.job.Encode(err), Job: j.ID}, -1); again != nil {
		return again
	}
	if mine++; mine >= debtTries || r.final(err) || errors.Is(err, ErrNoUndo) {
		return job.Permanent(&UndoError{Step: o.Step, Err: err})
	}
	wait := debtMost
	if mine < 8 {
		wait = min(wait, debtFirst<<(mine-1))
	}
	r.env.Logger.WarnContext(ctx, "debt not paid", "flow", r.f.name, "step", o.Step, "failed", d.Job, "try", mine, "again", wait, "err", err)
	if j.Resource == "" {
		return job.Park(job.After(wait))
	}
	return job.Park(job.OnTopic(DebtTopic(j.Resource)), job.After(wait))
}

// payUndo calls the undo of the step at path, here or in a flow within.
func (r *run[S]) payUndo(ctx context.Context, path, outcome string, try int, cause error) (err error) {
	name, rest, deeper := strings.Cut(path, "/")
	i := r.index(name)
	if i < 0 {
		return fmt.Errorf("%w: %s", ErrNoUndo, name)
	}
	s := &r.f.steps[i]
	switch {
	case deeper && s.sub != nil:
		defer caught(&err) // from what picks the state
		return s.sub.bind(r, r.path+name+"/").payUndo(ctx, rest, outcome, try, cause)
	case deeper || s.sub != nil:
		return fmt.Errorf("%w: %s", ErrNoUndo, path)
	case s.undo == nil:
		return nil
	}
	sc := &stepCtx{
		Context: ctx, flow: r.f.name, step: name, index: i, of: len(r.marks), try: try,
		phase: PhaseUndo, outcome: outcome, cause: cause,
	}
	r.place(sc, i, try)
	began := r.now()
	var end func(error)
	sc.Context, end = r.meters.span(sc.Context, "undo", name)
	err = r.timed(sc, s.opts.undoTimeout, s.undo)
	r.stepped(sc, began)
	end(err)
	return err
}

// forgive notes who has cancelled the debt.
func forgive(ctx context.Context) error {
	by, reason, err := steps.From(ctx).CancelledBy(ctx)
	if err == nil {
		err = job.Note(ctx, forgiven(by, reason), nil)
	}
	if err != nil {
		return unsaved("forgiven", err)
	}
	return context.Cause(ctx)
}

func forgiven(by, reason string) string {
	return strings.TrimSuffix("forgiven by "+by+": "+reason, ": ")
}
