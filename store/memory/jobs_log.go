package memory

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// jobLog is what a job's runs left behind.
type jobLog struct {
	steps, journal []job.Entry
}

func (j jobs) Log(_ context.Context, x store.Tx, es []job.Entry) error {
	t, err := j.s.of(x)
	if err != nil {
		return err
	}
	sealed := map[string]bool{}
	for i := range es {
		e := &es[i]
		r := j.s.jobs.row(e.JobID)
		if r == nil || r.State != job.Running || r.Epoch != e.Epoch {
			return store.ErrConflict
		}
		if e.Seal != nil {
			if r.Flags&job.Sealed != 0 || sealed[e.JobID] {
				return store.ErrConflict
			}
			sealed[e.JobID] = true
		}
	}
	defer j.s.jobs.settle(t, nil)
	for _, e := range es {
		t.note(e)
	}
	return nil
}

func (t *tx) note(e job.Entry) {
	if e.At = normal(e.At); e.At.IsZero() {
		e.At = t.now
	}
	if e.Step != "" || e.Text != "" {
		log := t.s.jobs.logs[e.JobID]
		if log == nil {
			log = &jobLog{}
			t.s.jobs.logs[e.JobID] = log
			t.onRollback(func() { delete(t.s.jobs.logs, e.JobID) })
		}
		old := *log
		log.append(e)
		t.onRollback(func() { *log = old })
	}
	if e.Topic != "" {
		t.revise(t.s.jobs.row(e.JobID), func(r *rec) { r.subscribe(e.Topic) })
	}
	if e.Progress == nil && e.Resource == "" && e.Mark == 0 && e.Seal == nil {
		return
	}
	t.update(t.s.jobs.row(e.JobID), func(r *rec) {
		if e.Progress != nil {
			r.Progress = *e.Progress
		}
		if e.Resource != "" {
			r.Resource = e.Resource
		}
		r.Flags |= e.Mark
		if e.Seal != nil {
			r.Flags |= job.Sealed
			r.Result, r.Error = e.Seal.Result, e.Seal.Error
		}
	})
}

// append keeps e as a step, unless there is one of that name, and as the next row of the journal.
func (l *jobLog) append(e job.Entry) {
	step := job.Entry{JobID: e.JobID, Epoch: e.Epoch, Node: e.Node, At: e.At, Step: e.Step, Data: e.Data}
	known := slices.ContainsFunc(l.steps, func(s job.Entry) bool { return s.Step == e.Step })
	if e.Step != "" && !known {
		l.steps = append(slices.Clip(l.steps), step)
	}
	if e.Text != "" {
		if e.N = int64(len(l.journal) + 1); e.N > job.MaxJournal {
			l.journal = slices.Clone(l.journal)
			l.drop(e)
			return
		}
		if e.Step, e.Progress, e.Seal = "", nil, nil; step.Step != "" {
			e.Data = nil // it was the step's
		}
		l.journal = append(l.journal, e)
	}
}

// drop counts a row that there is no room for.
func (l *jobLog) drop(e job.Entry) {
	n := 1
	if len(l.journal) > job.MaxJournal {
		n, _ = strconv.Atoi(string(l.journal[job.MaxJournal].Data))
		n++
	}
	last := job.Entry{JobID: e.JobID, Epoch: e.Epoch, Node: e.Node, At: e.At, N: job.MaxJournal + 1, Text: job.DroppedText, Failure: true}
	last.Data = json.RawMessage(strconv.Itoa(n))
	l.journal = append(l.journal[:job.MaxJournal], last)
}
