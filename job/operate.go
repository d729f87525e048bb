package job

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drover-cloud/drover/store"
)

// RetryOption of [Manager.Retry].
type RetryOption func(*retryOptions)

type retryOptions struct{ keepSteps bool }

// KeepSteps gives the new job the finished steps of the old one, which [Step] then skips.
func KeepSteps() RetryOption { return func(o *retryOptions) { o.keepSteps = true } }

// Retry makes a new job of a failed or cancelled one: same kind, args, key, identity and settings, RetryOf set. The old one
// and its result stay as they are. [ErrNotFound]; [ErrInvalid] for a live or succeeded job; [ErrDraining].
func (m *Manager) Retry(ctx context.Context, id string, opts ...RetryOption) (*Job, error) {
	var o retryOptions
	for _, set := range opts {
		set(&o)
	}
	var j *Job
	fresh := ""
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := m.learnIn(ctx, tx); err != nil {
			return err
		}
		if err := m.Accepting(); err != nil {
			return err
		}
		found, err := m.find(ctx, tx, Find{IDs: []string{id}, Steps: o.keepSteps})
		if err != nil {
			return err
		}
		old := &found.Rows[0]
		if old.State != Failed && old.State != Cancelled {
			return invalid("State", "job %s is %s: only failed and cancelled jobs are retried", id, old.State)
		}
		if fresh == "" {
			fresh = m.env.NewID()
		}
		rows, err := m.store.Insert(ctx, tx, []Row{old.again(fresh)})
		if err != nil {
			return err
		}
		j = rows[0].public()
		return m.publish(ctx, tx, "submit", &rows[0])
	})
	if err != nil {
		return nil, err
	}
	m.submitted([]*Job{j})
	m.recordBy(ctx, j.ID, "retry of "+id)
	return j, nil
}

// again is a new row with what the caller asked for. A deadline that made the old one fail is not asked for again.
func (r *Row) again(id string) Row {
	n := Row{Job: Job{
		ID: id, Kind: r.Kind, Queue: r.Queue, Root: id, RetryOf: r.ID, Args: r.Args, MaxAttempts: r.MaxAttempts,
		Sync: r.Sync, Priority: r.Priority, Identity: r.Identity, Resource: r.Resource,
	}}
	n.Steps = r.Steps // as far as read
	n.Account, n.Timeout, n.Flags = r.Account, r.Timeout, r.Flags&(Unwinder|Locked)
	return n
}

// Hold parks a job that does not run until Wake("job/<id>"); its turn goes on, its place in line is kept. [ErrNotFound],
// [ErrFinished], [store.ErrConflict] for one that runs.
func (m *Manager) Hold(ctx context.Context, id string) error {
	_, err := m.steer(ctx, id, "hold", func(_ context.Context, _ store.Tx, row *Row) (*Move, error) {
		switch {
		case row.State.Final():
			return nil, ErrFinished
		case row.State == Running:
			return nil, conflict("hold", row)
		case row.State == Parked:
			return nil, nil
		}
		return &Move{ID: row.ID, From: row.State, To: Parked, Epoch: row.Epoch, Free: true, Mark: Held,
			Notes: []Entry{m.noteOf(row, false, "parked", "held by an operator")}}, nil
	})
	return err
}

// Reschedule changes when a scheduled job is due; a time in the past is now. [ErrInvalid] for a year before 2000 or after 2200, [ErrNotFound], [ErrFinished],
// [store.ErrConflict] for a job that is not scheduled.
func (m *Manager) Reschedule(ctx context.Context, id string, at time.Time) error {
	if why := badTime(at); why != "" {
		return &FieldError{"At", why}
	}
	var wait time.Duration
	_, err := m.steer(ctx, id, "reschedule", func(_ context.Context, tx store.Tx, row *Row) (*Move, error) {
		switch {
		case row.State.Final():
			return nil, ErrFinished
		case row.State != Scheduled:
			return nil, conflict("reschedule", row)
		}
		mv := &Move{ID: row.ID, From: Scheduled, To: Scheduled, Epoch: row.Epoch, RunAt: micro(at)}
		if wait = at.Sub(tx.Now()); wait <= 0 {
			mv.To, mv.RunAt = Ready, tx.Now()
		}
		return mv, nil
	})
	if err == nil && wait > 0 {
		m.dueAt(wait)
	}
	return err
}

// SetPriority changes a job's priority, −100 to 100, lower runs first. It matters until the job is claimed. [ErrInvalid],
// [ErrNotFound], [ErrFinished].
func (m *Manager) SetPriority(ctx context.Context, id string, p int) error {
	if p < -maxPriority || p > maxPriority {
		return invalid("Priority", "%d, must be %d to %d", p, -maxPriority, maxPriority)
	}
	_, err := m.steer(ctx, id, "priority", func(_ context.Context, _ store.Tx, row *Row) (*Move, error) {
		if row.State.Final() {
			return nil, ErrFinished
		}
		return &Move{ID: row.ID, From: row.State, To: row.State, Epoch: row.Epoch, Priority: &p}, nil
	})
	return err
}

// Fence fails a running job with code "fenced" although its handler has not returned, and hands its turn on: for a handler
// that hangs and whose effects are known to have ended. What it still writes is refused; [Token] refuses what it does
// elsewhere. [ErrNotFound], [ErrFinished], [store.ErrConflict] for a job that does not run.
func (m *Manager) Fence(ctx context.Context, id, reason string) error {
	row, err := m.steer(ctx, id, "fence", func(_ context.Context, _ store.Tx, row *Row) (*Move, error) {
		switch {
		case row.State.Final():
			return nil, ErrFinished
		case row.State != Running:
			return nil, conflict("fence", row)
		}
		e := &Error{Code: CodeFenced, Text: strings.TrimSuffix("fenced: "+cut(reason, maxReason), ": ")}
		notes := []Entry{claimedNote(row, ""), m.noteOf(row, true, e.Text, "")}
		return &Move{ID: row.ID, From: Running, To: Failed, Epoch: row.Epoch, Raise: true, Error: e, Notes: notes}, nil
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	r := m.runs[key{row.ID, row.Epoch}]
	m.mu.Unlock()
	if r != nil {
		r.lose(ErrLost)
	}
	m.log.Warn("job fenced", "job", row.ID, "kind", row.Kind, "epoch", row.Epoch, "reason", reason)
	return nil
}

func conflict(verb string, row *Row) error {
	return fmt.Errorf("job: cannot %s %s, it is %s: %w", verb, row.ID, row.State, store.ErrConflict)
}
