package job

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/store"
)

const dueBatch = 1000

// promote moves jobs on whose time has come: scheduled ones that are due, parked ones that waited for
// this time, and live ones past their Deadline.
func (m *Manager) promote(ctx context.Context) error {
	if err := m.each(ctx, Find{Due: "deadline", SkipLocked: true, Limit: dueBatch}, expired); err != nil {
		return err
	}
	if err := m.each(ctx, Find{Due: "parked", Waits: true, SkipLocked: true, Limit: dueBatch}, m.dueWake); err != nil {
		return err
	}
	return m.each(ctx, Find{Due: "scheduled", SkipLocked: true, Limit: dueBatch}, func(r *Row, _ time.Time) (Move, bool) {
		return Move{ID: r.ID, From: Scheduled, To: Ready, Epoch: r.Epoch}, true
	})
}

// dueWake is wakeMove of a row whose time has come.
func (m *Manager) dueWake(r *Row, now time.Time) (Move, bool) {
	mv, ok := wakeMove(r, now)
	if ok {
		m.wakeNotes(r, &mv)
	}
	return mv, ok
}

// expired is what the end of its Deadline does to a job that does not run.
func expired(r *Row, _ time.Time) (Move, bool) {
	mv := Move{ID: r.ID, From: r.State, To: Failed, Epoch: r.Epoch}
	if r.Runs == 0 || r.Flags&Unwinder == 0 {
		mv.Error = &Error{Code: CodeTimeout, Text: ErrDeadline.Error()}
		return mv, true
	}
	if r.Flags&Unwinding != 0 {
		return mv, false
	}
	mv.To, mv.Mark = r.State, Unwinding|Overdue
	if r.State == Scheduled || r.State == Parked {
		mv.To = Ready
	}
	return mv, true
}

// each moves the rows that f finds, a batch per transaction, as long as that gets on.
func (m *Manager) each(ctx context.Context, f Find, of func(*Row, time.Time) (Move, bool)) error {
	for {
		n, moved, err := m.eachBatch(ctx, f, of)
		if err != nil {
			return err
		}
		if moved > 0 {
			m.nudge()
		}
		if n < f.Limit || moved == 0 || ctx.Err() != nil {
			return nil //nolint:nilerr // the ctx's end is told by the round
		}
	}
}

func (m *Manager) eachBatch(ctx context.Context, f Find, of func(*Row, time.Time) (Move, bool)) (n, moved int, err error) {
	var moves []Move
	var done []bool
	err = m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		moves, done = nil, nil
		find := f
		if !f.Before.IsZero() { // an age, counted back from the store's now
			find.Before = tx.Now().Add(f.Before.Sub(ageZero))
		}
		found, err := m.store.List(ctx, tx, find)
		if err != nil {
			return err
		}
		n = len(found.Rows)
		for i := range found.Rows {
			if mv, ok := of(&found.Rows[i], tx.Now()); ok {
				moves = append(moves, mv)
			}
		}
		if len(moves) == 0 {
			return nil
		}
		if done, err = m.store.Move(ctx, tx, moves); err != nil {
			return err
		}
		if f.Due == "retain" {
			return nil
		}
		return m.tell(ctx, tx, moves, done)
	})
	if err != nil {
		return 0, 0, err
	}
	for i, ok := range done {
		if ok {
			moved++
			m.waits.mark(moves[i].ID)
		}
	}
	return n, moved, nil
}
