package job

import (
	"context"

	"github.com/drover-cloud/drover/store"
)

const sweepBatch = 1000

// sweep moves jobs away from sessions that are over by the store's clock, a batch per transaction. Sweepers on several nodes
// skip each other's rows.
func (m *Manager) sweep(ctx context.Context) error {
	for {
		var rows []Row
		var moves []Move
		var done []bool
		err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			rows, moves, done, err = m.sweepBatch(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		m.swept(rows, moves, done)
		if len(rows) < sweepBatch {
			return nil
		}
	}
}

func (m *Manager) sweepBatch(ctx context.Context, tx store.Tx) (rows []Row, moves []Move, done []bool, err error) {
	dead, err := m.session.Dead(ctx, tx)
	if err != nil || len(dead) == 0 {
		return nil, nil, nil, err
	}
	sessions := make([]int64, len(dead))
	for i, t := range dead {
		sessions[i] = t.Epoch
	}
	found, err := m.store.List(ctx, tx, Find{Sessions: sessions, SkipLocked: true, Limit: sweepBatch})
	if err != nil || len(found.Rows) == 0 {
		return nil, nil, nil, err
	}
	moves = make([]Move, len(found.Rows))
	for i := range found.Rows {
		r := &found.Rows[i]
		moves[i] = m.orphan(r)
		moves[i].Notes = []Entry{claimedNote(r, ""), m.noteOf(r, true, "lost with session "+r.Session, "")}
		if moves[i].Mark&Poisoned != 0 {
			moves[i].Notes = append(moves[i].Notes, m.noteOf(r, true, "parked as poison: its node died too often", ""))
		}
	}
	done, err = m.store.Move(ctx, tx, moves)
	if err != nil {
		return nil, nil, nil, err
	}
	return found.Rows, moves, done, m.tell(ctx, tx, moves, done)
}

// orphan is what becomes of a job whose session died (T16–T19 of the state machine). What the kind says counts where it is
// known; another node's claim looks at it again.
func (m *Manager) orphan(r *Row) Move {
	mv := Move{ID: r.ID, From: Running, To: Ready, Epoch: r.Epoch, Raise: true, Lost: r.Lost + 1}
	opt := defaultHandler()
	if k := m.kindNamed(r.Kind); k != nil {
		opt = k.opt
	}
	switch {
	case r.Flags&Sealed != 0:
		mv.To = sealedState(r)
	case !r.CancelAt.IsZero() && r.Flags&Unwinder == 0:
		mv.To, mv.Error = Cancelled, cancelError(r.CancelReason)
	case !r.CancelAt.IsZero():
		mv.Mark = Unwinding
	case opt.onLost == Fail && opt.abandon == nil:
		mv.To, mv.Error = Failed, lostError(nil)
	case opt.onLost == Fail:
		mv.Mark = Abandoned
	}
	if mv.To == Ready && mv.Lost >= opt.maxLost {
		mv.To, mv.Free, mv.Mark = Parked, true, mv.Mark|Poisoned
	}
	return mv
}

func (m *Manager) swept(rows []Row, moves []Move, done []bool) {
	for i := range rows {
		if !done[i] {
			continue
		}
		r, mv := &rows[i], &moves[i]
		m.meters.swept(r, mv)
		attrs := []any{"job", r.ID, "kind", r.Kind, "session", r.Session, "epoch", r.Epoch, "lost", mv.Lost, "to", mv.To}
		if mv.Mark&Poisoned != 0 {
			m.log.Error("job poison: its node died too often", attrs...)
		} else {
			m.log.Warn("job lost", attrs...)
		}
		m.waits.mark(r.ID)
	}
	if len(rows) > 0 {
		m.nudge()
	}
}

// tell hints and publishes what moves outside a finish have changed.
func (m *Manager) tell(ctx context.Context, tx store.Tx, moves []Move, done []bool) error {
	var ids []string
	var ended outcomes
	for i, mv := range moves {
		if done[i] {
			ids = append(ids, mv.ID)
			if tx.Hint(JobTopic(mv.ID)); mv.To.Final() {
				ended.add(mv.ID, mv.To, mv.Error)
			}
		}
	}
	if err := m.after(ctx, tx, &ended, true); err != nil {
		return err
	}
	return m.publishIDs(ctx, tx, ids)
}
