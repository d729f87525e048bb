package job

import (
	"context"
	"fmt"
	"strings"

	"github.com/drover-cloud/drover/store"
)

const (
	maxReason = 1 << 10
	maxTries  = 20 // of a verb whose job moves on under it
)

// Cancel asks for the end of a job, whichever node runs it. One that does not run is cancelled now, and its turn handed on;
// one that has run and whose kind [Unwinds] gets one more run to compensate. The ctx of a running one ends with cause
// [ErrCancelled]: in this call if it runs here, else within a hint or a poll; it is cancelled when its handler returns an
// error, and succeeds if that returns nil. Asking twice is the same as once; the first reason stays. The request goes to all
// live descendants too that are not Detached; a parked job with live children is cancelled when the last of these is final.
//
// Not accepted: [ErrNotFound], [ErrFinished], [ErrNotCancellable] (a started job of such a kind, or past [NoCancel]).
func (m *Manager) Cancel(ctx context.Context, id string, reason ...string) (accepted bool, err error) {
	c := CancelRequest{By: m.asker(ctx), Reason: cut(strings.Join(reason, " "), maxReason)}
	children := false
	row, err := m.steer(ctx, id, "", func(ctx context.Context, tx store.Tx, row *Row) (*Move, error) {
		found, err := m.store.List(ctx, tx, Find{Parents: []string{row.ID}, Limit: 1})
		if err != nil {
			return nil, err
		}
		children, c.At = len(found.Rows) > 0, tx.Now()
		mv, err := m.cancelOf(row, c)
		if err == nil && mv != nil {
			err = m.lastChild(ctx, tx, row, mv)
		}
		return mv, err
	})
	if err != nil {
		return false, err
	}
	if row.State == Running {
		m.cancelHere(row, c.Reason)
	}
	if !children {
		return true, nil
	}
	return true, m.cancelTree(ctx, row.ID, c)
}

// asker is who asks, for the record.
func (m *Manager) asker(ctx context.Context) string {
	if who, _, told := askedBy(ctx); told {
		return who
	}
	if r := runOf(ctx); r != nil {
		if user := r.row.Identity["user"]; user != "" {
			return user
		}
		return "job/" + r.row.ID
	}
	return m.env.Node
}

// cancelOf is what a cancel request does to a row; nil: nothing more.
func (m *Manager) cancelOf(row *Row, c CancelRequest) (*Move, error) {
	mv := &Move{ID: row.ID, From: row.State, To: row.State, Epoch: row.Epoch, Cancel: &c}
	mv.Notes = []Entry{m.noteOf(row, false, "cancel requested by "+c.By, c.Reason)}
	switch {
	case row.State.Final():
		return nil, ErrFinished
	case row.Runs > 0 && row.Flags&(Locked|NoReturn) != 0:
		return nil, ErrNotCancellable
	case row.State == Running:
		if !row.CancelAt.IsZero() {
			return nil, nil
		}
		return mv, nil
	case row.Runs > 0 && row.Flags&Unwinder != 0:
		if row.Flags&Unwinding != 0 {
			return nil, nil
		}
		mv.Mark = Unwinding
		switch row.State {
		case Parked:
			mv.To, mv.Wakes = Ready, []Wake{{Why: "cancel"}}
		case Scheduled:
			mv.To = Ready
		}
		return mv, nil
	case row.State == Parked && !row.CancelAt.IsZero(): // it waits for its last child
		return nil, nil
	}
	mv.To, mv.Error = Cancelled, cancelError(c.Reason)
	return mv, nil
}

// cancelHere ends the ctx of a job that runs on this node, which may know it under another epoch only if it is lost.
func (m *Manager) cancelHere(row *Row, reason string) {
	m.mu.Lock()
	r := m.runs[key{row.ID, row.Epoch}]
	m.mu.Unlock()
	if r == nil {
		return
	}
	if row.CancelReason != "" { // the first reason stays
		reason = row.CancelReason
	}
	r.requestCancel(reason)
}

// takeCancels asks the store for cancel requests of jobs that run here.
func (m *Manager) takeCancels(ctx context.Context) error {
	var rows []Row
	asked := false
	err := m.inCancels(ctx, func(ctx context.Context, tx store.Tx) error {
		m.mu.Lock()
		token := m.bound.token
		asked, m.cancels = true, false
		m.mu.Unlock()
		found, err := m.store.List(ctx, tx, Find{Due: "cancel", Sessions: []int64{token.Epoch}})
		rows = found.Rows
		return err
	})
	if err != nil {
		if asked {
			m.askCancels()
		}
		return err
	}
	for i := range rows {
		m.cancelHere(&rows[i], rows[i].CancelReason)
	}
	return nil
}

func (m *Manager) inCancels(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	m.mu.Lock()
	wanted := m.cancels && len(m.runs) > 0
	m.cancels = wanted
	m.mu.Unlock()
	if !wanted {
		return nil
	}
	return m.inTx(ctx, fn)
}

// steer reads a job and writes what decide says, until the job holds still; nil: nothing to write. It answers the job as it
// was read. What the move changes is hinted and published. The verb is for the journal, if somebody is named who asks; see [By].
func (m *Manager) steer(ctx context.Context, id, verb string, decide func(context.Context, store.Tx, *Row) (*Move, error)) (*Row, error) {
	for range maxTries {
		var row *Row
		done := false
		err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			if row, err = m.load(ctx, tx, id); err != nil {
				return err
			}
			mv, err := decide(ctx, tx, row)
			if err != nil || mv == nil {
				done = true
				return err
			}
			if verb != "" {
				mv.Notes = append(mv.Notes, m.byNote(ctx, row, verb)...)
			}
			done, err = m.moveOne(ctx, tx, row, mv)
			return err
		})
		if err != nil {
			return nil, err
		}
		if done {
			m.waits.mark(row.ID)
			m.nudge()
			return row, nil
		}
	}
	return nil, fmt.Errorf("job: %s does not hold still: %w", id, store.ErrConflict)
}

// moveOne writes one move and what follows from it. A job past its point of no return takes no cancel request: that is
// checked again behind the write, which waits for a NoCancel under way.
func (m *Manager) moveOne(ctx context.Context, tx store.Tx, row *Row, mv *Move) (bool, error) {
	done, err := m.store.Move(ctx, tx, []Move{*mv})
	if err != nil || !done[0] {
		return false, err
	}
	if mv.From == Running && mv.Cancel != nil && !m.remote {
		now, err := m.load(ctx, tx, row.ID)
		if err != nil {
			return false, err
		}
		if now.Flags&NoReturn != 0 {
			return false, ErrNotCancellable
		}
	}
	if mv.From == Running {
		tx.Hint(SessionTopic(row.SessionEpoch))
	}
	tx.Hint(JobTopic(row.ID))
	if mv.To.Final() {
		var ended outcomes
		ended.add(mv.ID, mv.To, mv.Error)
		if err := m.after(ctx, tx, &ended, true); err != nil {
			return false, err
		}
	}
	return true, m.publishIDs(ctx, tx, []string{row.ID})
}
