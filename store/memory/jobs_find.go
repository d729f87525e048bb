package memory

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func (j jobs) List(_ context.Context, x store.Tx, f job.Find) (job.Found, error) {
	t, err := j.s.of(x)
	if err != nil {
		return job.Found{}, err
	}
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	var out job.Found
	var rows []*rec
	switch {
	case f.IDs != nil:
		rows = j.s.jobs.byID(f.IDs)
	case f.Query != nil:
		rows, out.Next, err = j.s.jobs.query(t.now, f.Query)
	case f.Due != "":
		rows, err = j.s.jobs.dueRows(t, &f)
	case f.Sessions != nil:
		for _, s := range f.Sessions {
			if h := j.s.jobs.sessions[s]; h != nil {
				rows = take(rows, h.rows.all(), f.Limit)
			}
		}
	case f.Resources != nil:
		for _, name := range f.Resources {
			if s := j.s.jobs.resources[name]; s != nil {
				rows = take(rows, s.all(), f.Limit)
			}
		}
		slices.SortFunc(rows, bySeq)
	case f.Count != nil:
		out.Counts = j.s.jobs.counts(f.Count)
	case f.Parents != nil:
		rows = j.s.jobs.liveChildren(f.Parents, f.Limit)
	default:
		err = errors.New("memory: a Find that selects nothing")
	}
	if err != nil {
		return job.Found{}, err
	}
	j.answer(&out, rows, f)
	return out, nil
}

func (j jobs) answer(out *job.Found, rows []*rec, f job.Find) {
	if len(rows) > 0 {
		out.Rows = make([]job.Row, 0, len(rows))
	}
	for _, r := range rows {
		row := r.out()
		if f.Waits {
			row = r.withWaits()
		}
		if log := j.s.jobs.logs[r.ID]; log != nil {
			if f.Steps {
				row.Steps = slices.Clone(log.steps)
			}
			if f.Journal {
				out.Journal = append(out.Journal, log.journal...)
			}
		}
		out.Rows = append(out.Rows, row)
	}
}

func bySeq(a, b *rec) int { return cmp.Compare(a.Seq, b.Seq) }

// take appends from seq until there are limit rows.
func take(rows []*rec, seq iter.Seq[*rec], limit int) []*rec {
	if len(rows) < limit {
		for r := range seq {
			if rows = append(rows, r); len(rows) >= limit {
				break
			}
		}
	}
	return rows
}

func (j *jobTables) byID(ids []string) []*rec {
	rows := make([]*rec, 0, len(ids))
	for _, id := range ids {
		if r := j.row(id); r != nil {
			rows = append(rows, r)
		}
	}
	return rows
}

func (j *jobTables) dueRows(t *tx, f *job.Find) ([]*rec, error) {
	var rows []*rec
	switch f.Due {
	case "scheduled":
		rows = take(rows, until(&j.due, micros(t.now)), f.Limit)
	case "deadline":
		rows = take(rows, until(&j.deadlines, micros(t.now)), f.Limit)
	case "parked":
		rows = take(rows, until(&j.wakes, micros(t.now)), f.Limit)
	case "cancel":
		for _, s := range f.Sessions {
			if h := j.sessions[s]; h != nil {
				rows = take(rows, h.cancels.all(), f.Limit)
			}
		}
	case "retain":
		rows = j.retained(f)
	case "unhandled":
		rows = j.unhandled(f)
	default:
		return nil, errors.New("memory: unknown Find.Due " + f.Due)
	}
	return rows, nil
}

func (j *jobTables) liveChildren(parents []string, limit int) []*rec {
	var rows []*rec
	for _, p := range parents {
		if s := j.children[p]; s != nil {
			for r := range s.all() {
				if !final(r.State) {
					rows = append(rows, r)
				}
			}
		}
	}
	slices.SortFunc(rows, bySeq)
	rows = slices.Compact(rows)
	return rows[:min(len(rows), limit)]
}

// until goes through the rows up to key, in order.
func until(s *set, key int64) iter.Seq[*rec] {
	return func(yield func(*rec) bool) {
		for _, chunk := range s.chunks {
			for _, e := range chunk {
				if e.key > key || !yield(e.r.open()) {
					return
				}
			}
		}
	}
}

// retained are final rows whose time is over, oldest first; children stay while their parent lives.
func (j *jobTables) retained(f *job.Find) []*rec {
	var rows []*rec
	for _, b := range j.buckets {
		if f.Kinds != nil && !slices.Contains(f.Kinds, b.kind) || slices.Contains(f.NotKinds, b.kind) {
			continue
		}
		n := 0
		for r := range until(&b.ended, micros(f.Before)) {
			if p := j.row(r.Parent); p != nil && !final(p.State) {
				continue
			}
			rows = append(rows, r)
			if n++; n >= f.Limit {
				break
			}
		}
	}
	slices.SortFunc(rows, func(a, b *rec) int {
		return cmp.Or(a.Ended.Compare(b.Ended), cmp.Compare(a.Seq, b.Seq))
	})
	return rows[:min(len(rows), f.Limit)]
}
