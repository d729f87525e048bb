package job

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/drover-cloud/drover/store"
)

const (
	maxChildren = 10_000
	treeBatch   = 1000
)

// cancelTree hands the cancel request of a job on to its descendants, 1000 per transaction, those nearest to it first.
func (m *Manager) cancelTree(ctx context.Context, root string, c CancelRequest) error {
	for level := []string{root}; len(level) > 0; {
		var below []string
		for part := range slices.Chunk(level, treeBatch) {
			ids, err := m.cancelChildren(ctx, part, c)
			if err != nil {
				return err
			}
			below = append(below, ids...)
		}
		level = below
	}
	return nil
}

// cancelChildren cancels the live children of parents and answers their ids.
func (m *Manager) cancelChildren(ctx context.Context, parents []string, c CancelRequest) (ids []string, err error) {
	var found Found
	err = m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		found, err = m.store.List(ctx, tx, Find{Parents: parents, Limit: maxChildren * len(parents)})
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range found.Rows {
		if !found.Rows[i].Detached {
			ids = append(ids, found.Rows[i].ID)
		}
	}
	for part := range slices.Chunk(ids, treeBatch) {
		var rows []Row
		err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
			now, err := m.store.List(ctx, tx, Find{IDs: part, Limit: len(part)})
			if err != nil {
				return err
			}
			next := &outcomes{}
			c.At = tx.Now()
			if rows, err = m.cancelRows(ctx, tx, now.Rows, func(*Row) CancelRequest { return c }, next); err != nil {
				return err
			}
			return m.after(ctx, tx, next, true)
		})
		if err != nil {
			return nil, err
		}
		m.woken(rows)
		for i := range rows {
			if rows[i].State == Running {
				m.cancelHere(&rows[i], c.Reason)
			}
		}
	}
	return ids, nil
}

// cancelRows puts a cancel request to each row that takes one, as it was read, and notes in next which are final by that. It
// answers those that took it.
func (m *Manager) cancelRows(ctx context.Context, tx store.Tx, rows []Row, why func(*Row) CancelRequest, next *outcomes) (took []Row, err error) {
	var moves []Move
	for i := range rows {
		r := &rows[i]
		if r.Detached {
			continue
		}
		mv, err := m.cancelOf(r, why(r))
		if err != nil || mv == nil { // final, or past its point of no return
			continue
		}
		if err := m.lastChild(ctx, tx, r, mv); err != nil {
			return nil, err
		}
		moves, took = append(moves, *mv), append(took, *r)
	}
	if len(moves) == 0 {
		return nil, nil
	}
	done, err := m.store.Move(ctx, tx, moves)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i, mv := range moves {
		if !done[i] {
			continue
		}
		ids = append(ids, mv.ID)
		tx.Hint(JobTopic(mv.ID))
		switch {
		case mv.To.Final():
			next.add(mv.ID, mv.To, mv.Error)
		case mv.From == Running:
			tx.Hint(SessionTopic(took[i].SessionEpoch))
		}
	}
	return took, m.publishIDs(ctx, tx, ids)
}

// lastChild lets a parked job with live children outlive them: it is cancelled when the last one is final.
func (m *Manager) lastChild(ctx context.Context, tx store.Tx, r *Row, mv *Move) error {
	if r.State != Parked || mv.To != Cancelled {
		return nil
	}
	found, err := m.store.List(ctx, tx, Find{Parents: []string{r.ID}, Limit: maxChildren})
	if err != nil {
		return err
	}
	p := &Parking{}
	for i := range found.Rows {
		if !found.Rows[i].Detached {
			p.Jobs = append(p.Jobs, found.Rows[i].ID)
		}
	}
	if len(p.Jobs) == 0 {
		return nil
	}
	p.Conditions, _ = json.Marshal(parked{Last: true}) // cannot fail
	mv.To, mv.Error, mv.Park = Parked, nil, p
	mv.Unmark = Held | Poisoned
	return nil
}
