package job

import (
	"context"
	"errors"
	"slices"

	"github.com/drover-cloud/drover/store"
)

// maxBlocked is how many handlers of a node block in Wait at most.
const maxBlocked = 10_000

// Await gives the result of a final job, or its error, which errors.Is and errors.As see through. For a live one the error is
// a [Park] on it ([OnJobs]), which the handler returns as it is: on its next run Await has the result. [ErrNotFound]; [syncqueue.ErrReentrant] as of
// [Manager.Wait].
func Await[R any](ctx context.Context, id string) (v R, err error) {
	r, err := handlerOf(ctx)
	if err != nil {
		return v, err
	}
	j, err := r.m.Get(ctx, id)
	if err != nil {
		return v, err
	}
	if !j.State.Final() {
		if _, err := r.reentrant(ctx, j.ID); err != nil {
			return v, err
		}
		return v, Park(OnJobs(j.ID))
	}
	return Result[R](j)
}

// Joined gives the jobs of OnJobs and OnChildren that woke this run, in order of submission, and the errors of those that
// failed or were cancelled, joined. Jobs that are not there any more are left out. It is the same throughout a run, and empty
// in a run that no job woke.
func Joined(ctx context.Context) ([]*Job, error) {
	r, err := handlerOf(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, w := range r.row.Wakes {
		if w.Why == "job" {
			ids = append(ids, w.Name)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var js []*Job
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		js = nil
		for part := range slices.Chunk(ids, waitChunk) {
			found, err := r.m.store.List(ctx, tx, Find{IDs: part, Limit: len(part)})
			if err != nil {
				return err
			}
			for i := range found.Rows {
				js = append(js, found.Rows[i].public())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(js, func(a, b *Job) int { return int(a.Seq - b.Seq) })
	var errs []error
	for _, j := range js {
		if j.State == Failed || j.State == Cancelled {
			_, err := Result[struct{}](j)
			errs = append(errs, err)
		}
	}
	return js, errors.Join(errs...)
}

// Subscribe makes signals to topic from now on count for the running job although it parks only later: look whether what is
// waited for has come after subscribing, not before. A subscription ends with the signal that wakes the job, or with the job.
// [ErrInvalid], [ErrLost].
func Subscribe(ctx context.Context, topic string) error {
	if why := badName(topic); why != "" {
		return &FieldError{"Topic", why}
	}
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	return r.log(ctx, Entry{Topic: topic})
}

// readChildren finds the live children of those that park on them.
func (m *Manager) readChildren(ctx context.Context, tx store.Tx, outs []*outcome) error {
	at := map[string]*outcome{}
	var parents []string
	for _, o := range outs {
		o.children = nil
		if c := parkOf(o.err); c != nil && c.needsChildren() {
			at[o.run.row.ID] = o
			parents = append(parents, o.run.row.ID)
		}
	}
	if len(parents) == 0 {
		return nil
	}
	found, err := m.store.List(ctx, tx, Find{Parents: parents, Limit: maxChildren * len(parents)})
	if err != nil {
		return err
	}
	for i := range found.Rows {
		if r := &found.Rows[i]; !r.Detached {
			at[r.Parent].children = append(at[r.Parent].children, r.ID)
		}
	}
	return nil
}

// settleParked looks again at what has just parked: what came before it did is not missed, what comes later finds it.
func (m *Manager) settleParked(ctx context.Context, tx store.Tx, b *batch) error {
	at := map[string]int64{}
	var ids []string
	for i, mv := range b.moves {
		if b.done[i] && mv.To == Parked && mv.Park != nil {
			ids = append(ids, mv.ID)
			at[mv.ID] = mv.Epoch
		}
	}
	if len(ids) == 0 {
		return nil
	}
	parked := b.parked
	if parked == nil {
		found, err := m.store.List(ctx, tx, Find{IDs: ids, Waits: true, Limit: len(ids)})
		if err != nil {
			return err
		}
		parked = found.Rows
	}
	rows := slices.DeleteFunc(slices.Clone(parked), func(r Row) bool { return r.Epoch != at[r.ID] })
	return m.wakeRows(ctx, tx, rows, &outcomes{})
}

// countChildren is how many children a job has, live or final.
func (m *Manager) countChildren(ctx context.Context, tx store.Tx, parent string) (n int, err error) {
	q := Query{Parent: parent, States: []State{Scheduled, Waiting, Ready, Running, Parked, Succeeded, Failed, Cancelled}, Limit: maxPage}
	for {
		found, err := m.store.List(ctx, tx, Find{Query: &q, Limit: q.Limit})
		if err != nil {
			return 0, err
		}
		if n, q.After = n+len(found.Rows), found.Next; q.After == "" || n > maxChildren {
			return n, nil
		}
	}
}
