package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func (j jobs) Move(_ context.Context, x store.Tx, ms []job.Move) ([]bool, error) {
	t, err := j.s.of(x)
	if err != nil {
		return nil, err
	}
	defer j.s.jobs.settle(t, nil)
	return t.move(ms)
}

// Finish starts nothing for a session that is over; the moves are guarded by epoch alone.
func (j jobs) Finish(_ context.Context, x store.Tx, f job.Finish) (job.Finished, error) {
	t, err := j.s.of(x)
	if err != nil {
		return job.Finished{}, err
	}
	for i := range f.Moves {
		if f.Moves[i].From != job.Running {
			return job.Finished{}, fmt.Errorf("memory: finish of %s from %s", f.Moves[i].ID, f.Moves[i].From)
		}
	}
	done, err := t.move(f.Moves)
	if err != nil {
		return job.Finished{}, err
	}
	if !j.s.sessionLive(f.Start.Session.Epoch, t.now) {
		f.Start.Max = 0
	}
	d := t.dealer(f.Start)
	j.s.jobs.settle(t, func(r *rec) bool {
		if !d.takes(r) {
			return false
		}
		d.start(r)
		return true
	})
	return job.Finished{Done: done, Started: d.rows, Awaited: j.s.jobs.awaited(f.Moves, done)}, nil
}

// awaited tells whether somebody has joined a job that is final now.
func (j *jobTables) awaited(ms []job.Move, done []bool) bool {
	for i := range ms {
		if len(j.joiners) > 0 && done[i] && final(ms[i].To) && j.joiners[ms[i].ID] != nil {
			return true
		}
	}
	return false
}

func (t *tx) move(ms []job.Move) ([]bool, error) {
	for i := range ms {
		if err := allowed(&ms[i]); err != nil {
			return nil, err
		}
	}
	done := make([]bool, len(ms))
	for i := range ms {
		done[i] = t.moveOne(&ms[i])
	}
	return done, nil
}

// allowed refuses what no caller may ask for, whatever the row's state.
func allowed(m *job.Move) error {
	ok := true
	switch {
	case m.Park != nil && m.To != job.Parked:
		ok = false
	case m.To == "":
		ok = final(m.From)
	case final(m.From):
		ok = false
	case m.To == m.From:
	case m.To == job.Running, m.To == job.Waiting:
		ok = false
	case m.To == job.Ready:
		ok = m.From != job.Waiting
	}
	if !ok {
		return fmt.Errorf("memory: no move of %s from %q to %q", m.ID, m.From, m.To)
	}
	return nil
}

func (t *tx) moveOne(m *job.Move) bool {
	r := t.s.jobs.row(m.ID)
	if r == nil {
		return false
	}
	if r.State != m.From || r.Epoch != m.Epoch || m.Uncancelled && !r.CancelAt.IsZero() {
		// Repeated after a commit whose answer was lost: it left Running at this very epoch.
		return m.From == job.Running && m.To != job.Running && r.State != job.Running && r.Epoch == m.Epoch && m.Epoch != 0
	}
	if m.To == "" {
		t.remove(r)
		return true
	}
	for _, e := range m.Notes {
		t.note(job.Entry{JobID: m.ID, Epoch: e.Epoch, Node: e.Node, At: e.At, Text: e.Text, Data: e.Data, Failure: e.Failure})
	}
	t.update(r, func(r *rec) {
		recall := m.Unmark&job.Lending != 0 && r.Flags&job.Lending != 0 && r.Turn && t.s.jobs.lentOut(r)
		if r.set(t, m); recall {
			r.Flags |= job.Lending | job.Recalled
		}
		if m.Raise {
			r.Epoch = t.nextEpoch()
		}
		if m.Free || final(m.To) {
			r.Turn, r.since = false, time.Time{}
		}
		if m.From == job.Running && m.To != job.Running {
			r.RunUntil = time.Time{}
			r.Flags &^= job.Lending | job.Recalled
		}
		if m.From == job.Parked && m.To != job.Parked {
			r.unpark(m.Wakes != nil)
		}
		if m.Park != nil {
			r.park(t, m.Park)
		}
		switch r.State = m.To; {
		case final(m.To):
			r.Ended, r.waits = t.now, nil
		case m.To != job.Ready:
		case r.Turn && t.s.jobs.lentOut(r):
			r.State = job.Waiting
		case !r.Turn:
			if t.s.jobs.choose(r); t.s.jobs.needsTurn(r) {
				r.joinLine(t)
			}
		}
	})
	return true
}

// set copies the fields of a move that are not zero.
func (r *rec) set(t *tx, m *job.Move) {
	if !m.RunAt.IsZero() {
		r.RunAt = normal(m.RunAt)
	}
	if m.Attempt != 0 {
		r.Attempt = m.Attempt
	}
	if m.Lost != 0 {
		r.Lost = m.Lost
	}
	if m.ResetLost {
		r.Lost = 0
	}
	if m.Result != nil {
		r.Result = m.Result
	}
	if m.Error != nil {
		r.Error = m.Error
	}
	if m.Progress != nil {
		r.Progress = *m.Progress
	}
	if m.Wakes != nil {
		r.Wakes = m.Wakes
	}
	if m.Priority != nil {
		r.Priority = *m.Priority
	}
	r.Flags = r.Flags&^m.Unmark | m.Mark
	if m.Cancel != nil && r.CancelAt.IsZero() {
		at := normal(m.Cancel.At)
		if at.IsZero() {
			at = t.now
		}
		r.CancelAt, r.CancelBy, r.CancelReason = at, m.Cancel.By, m.Cancel.Reason
	}
}
