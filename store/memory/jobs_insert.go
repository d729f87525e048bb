package memory

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

func (j jobs) Insert(_ context.Context, x store.Tx, rows []job.Row) ([]job.Row, error) {
	t, err := j.s.of(x)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].ID == "" || rows[i].Queue == "" {
			return nil, errors.New("memory: a job needs an id and a queue")
		}
		if e := rows[i].ParentEpoch; e != 0 {
			p := j.s.jobs.row(rows[i].Parent)
			if p == nil || p.State != job.Running || p.Epoch != e {
				return nil, store.ErrConflict
			}
		}
	}
	defer j.s.jobs.settle(t, nil)
	answer := rows
	for i := range rows {
		met, field := j.s.jobs.meets(&rows[i])
		if (met != nil || rows[i].Steps != nil) && &answer[0] == &rows[0] { // what was asked for is to be kept
			answer = slices.Clone(rows)
		}
		if met != nil {
			answer[i] = met.out()
			answer[i].Met = field
			continue
		}
		t.enter(&rows[i]).answer(&answer[i])
	}
	return answer, nil
}

// answer makes row, as it was asked for, what is stored.
func (r *rec) answer(row *job.Row) {
	row.Seq, row.Place, row.Rev, row.Epoch, row.Met, row.Steps = r.Seq, r.Place, r.Rev, r.Epoch, r.Met, r.Steps
	row.Created, row.Updated, row.Deadline, row.RunAt = r.Created, r.Updated, r.Deadline, r.RunAt
	row.State, row.Lender = r.State, r.Lender
}

// meets finds the row that keeps this one out, and by what.
func (j *jobTables) meets(r *job.Row) (*rec, string) {
	if m := j.row(r.ID); m != nil {
		return m, "id"
	}
	if r.Idem != "" {
		if m := j.idem[scope{r.Account, r.Kind, r.Idem}]; m != nil {
			return m, "idem"
		}
	}
	if r.Unique != "" {
		if m := j.unique[scope{r.Kind, "", r.Unique}]; m != nil {
			return m, "unique"
		}
	}
	if r.Name != "" {
		if m := j.names[scope{r.Parent, "", r.Name}]; m != nil {
			return m, "name"
		}
	}
	return nil, ""
}

// enter stores a new row in its first state.
func (t *tx) enter(row *job.Row) *rec {
	r := &rec{image: t.s.jobs.newImage()}
	r.Row = *row
	r.Seq, r.Place, r.Rev, r.Epoch, r.Met, r.Steps = t.nextSeq(), 0, 1, 0, "", nil
	r.Created, r.Updated = t.now, t.now
	r.Identity = maps.Clone(row.Identity)
	r.Deadline = normal(row.Deadline)
	if r.RunAt = normal(row.RunAt); r.RunAt.IsZero() {
		r.RunAt = t.now
	}
	r.bucket = t.s.jobs.bucketOf(r.Queue, r.Kind)
	t.s.jobs.choose(r)
	switch {
	case r.RunAt.After(t.now):
		r.State = job.Scheduled
	case t.s.jobs.needsTurn(r):
		r.Place = r.Seq * syncqueue.Gap
		r.joinLine(t)
	default:
		r.State = job.Ready
		t.Hint(r.bucket.topic)
	}
	t.insert(r)
	for _, s := range row.Steps {
		t.note(job.Entry{JobID: r.ID, Epoch: s.Epoch, Node: s.Node, At: s.At, Step: s.Step, Data: s.Data})
	}
	return r
}

// out is the row as callers get it.
func (r *rec) out() job.Row {
	row := r.Row
	row.Identity = maps.Clone(row.Identity)
	return row
}
