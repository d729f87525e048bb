package job

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// borrow names, for children whose key an ancestor has too, the nearest such: it is that one's turn that they run under.
func (s *submission) borrow(ctx context.Context, tx store.Tx) error {
	for i := range s.rows {
		row := &s.rows[i]
		if row.ParentEpoch == 0 || row.Sync == (syncqueue.Key{}) {
			continue
		}
		if row.Sync == s.parent.row.Sync {
			row.Lender = s.parent.row.ID
			continue
		}
		above, err := s.parent.above(ctx, tx)
		if err != nil {
			return err
		}
		for _, a := range above {
			if a.Sync == row.Sync {
				row.Lender = a.ID
				break
			}
		}
	}
	return nil
}

// above are the ancestors of a run's job that are still there, the nearest first.
func (r *run) above(ctx context.Context, tx store.Tx) ([]Row, error) {
	r.mu.Lock()
	above, known := r.more().ancestors, r.climbed || r.row.Parent == ""
	r.mu.Unlock()
	if known {
		return above, nil
	}
	for id := r.row.Parent; id != "" && len(above) < maxDepth; {
		p, err := r.m.load(ctx, tx, id)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		above, id = append(above, Row{Job: Job{ID: p.ID, Sync: p.Sync}}), p.Parent
	}
	r.mu.Lock()
	r.more().ancestors, r.climbed = above, true
	r.mu.Unlock()
	return above, nil
}

// reentrant refuses to wait for a job that waits for the turn that this run holds; it says whether there is one.
func (r *run) reentrant(ctx context.Context, id string) (turn bool, err error) {
	if r == nil || r.row.Sync == (syncqueue.Key{}) {
		return false, nil
	}
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		found, err := r.m.store.List(ctx, tx, Find{IDs: []string{r.row.ID, id}})
		if err != nil {
			return err
		}
		turn, err = r.entered(found.Rows)
		return err
	})
	return turn, err
}

// entered says whether this run's job, which is one of rows, holds its turn, and refuses to wait for those of the others that need it.
func (r *run) entered(rows []Row) (turn bool, err error) {
	for i := range rows {
		if o := &rows[i]; o.ID == r.row.ID {
			turn = o.Turn && o.State == Running && o.Epoch == r.row.Epoch
		}
	}
	for i := range rows {
		o := &rows[i]
		if o.ID != r.row.ID && turn && o.Sync == r.row.Sync && !o.Turn && o.Lender == "" && o.State != Running && !o.State.Final() {
			return turn, fmt.Errorf("job: %s waits for %s, which this job holds: %w", o.ID, o.Sync, syncqueue.ErrReentrant)
		}
	}
	return turn, nil
}

// readEntered finds those that would park on a job which waits for the turn that they keep.
func (m *Manager) readEntered(ctx context.Context, tx store.Tx, outs []*outcome) error {
	for _, o := range outs {
		o.reentrant = nil
		c := parkOf(o.err)
		if c == nil || c.freeTurn || o.run.row.Sync == (syncqueue.Key{}) || c.check(o.run) != nil {
			continue
		}
		ids := jobsOf(c.want, nil)
		if len(ids) == 0 {
			continue
		}
		ids = append(ids, o.run.row.ID)
		var rows []Row
		for part := range slices.Chunk(ids, waitChunk) {
			found, err := m.store.List(ctx, tx, Find{IDs: part, Limit: len(part)})
			if err != nil {
				return err
			}
			rows = append(rows, found.Rows...)
		}
		if _, err := o.run.entered(rows); err != nil {
			o.reentrant = fmt.Errorf("%w: %w", invalid("Park", "without FreeTurn"), err)
		}
	}
	return nil
}

// lendTurn lets those run that borrow this run's turn, as long as its handler blocks in Wait: from the first such call to the end
// of the last. The answer takes it back, which may take until a borrower has ended. When the handler's ctx has ended it does not
// wait: that handler only returns.
func (r *run) lendTurn(ctx context.Context) (back func(), err error) {
	r.mu.Lock()
	more := r.more()
	if more.lendLock == nil {
		more.lendLock = make(chan struct{}, 1)
	}
	lock := more.lendLock
	r.mu.Unlock()
	shift := func(by int) (n int, unlock func()) { // one at a time, so that the store hears them in their order
		lock <- struct{}{}
		more.lent += by
		return more.lent, func() { <-lock }
	}
	n, unlock := shift(1)
	if n == 1 {
		_, err = r.mark(ctx, Move{Mark: Lending})
	}
	if err != nil {
		more.lent--
		unlock()
		return nil, err
	}
	unlock()
	r.m.nudge()
	return func() {
		n, unlock := shift(-1)
		defer unlock()
		if n == 0 {
			r.recall(ctx)
		}
	}, nil
}

// mark changes flags of the running job and answers it as it is then.
func (r *run) mark(ctx context.Context, mv Move) (row *Row, err error) {
	mv.ID, mv.From, mv.To, mv.Epoch = r.row.ID, Running, Running, r.row.Epoch
	err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) error {
		done, err := r.m.store.Move(ctx, tx, []Move{mv})
		if err == nil && !done[0] {
			return store.ErrConflict
		}
		if err == nil && !r.m.remote {
			row, err = r.m.load(ctx, tx, r.row.ID)
		}
		return err
	})
	if err == nil && r.m.remote { // which reads nothing it has written
		err = r.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			row, err = r.m.load(ctx, tx, r.row.ID)
			return err
		})
	}
	return row, r.refused(err)
}

// recall ends lending, and waits for the borrower that has the turn.
func (r *run) recall(ctx context.Context) {
	w, _, err := r.m.watch(context.WithoutCancel(ctx), r.row.ID)
	if err == nil {
		defer w.close()
	}
	var row *Row
	for wait := firstBackoff; ; wait = min(2*wait, maxBackoff) {
		if row, err = r.mark(ctx, Move{Unmark: Lending}); err == nil || r.ctx.Err() != nil {
			break
		}
		_ = r.m.env.Sleep(r.ctx, wait)
	}
	for err == nil && w != nil && row.Flags&Lending != 0 && row.State == Running && row.Epoch == r.row.Epoch {
		j, err := w.next(r.ctx, row.Rev)
		if err != nil {
			return
		}
		if row.Rev = j.Rev; j.Epoch != r.row.Epoch || j.State != Running {
			return
		}
		err = r.inTx(r.ctx, func(ctx context.Context, tx store.Tx) error {
			now, err := r.m.load(ctx, tx, r.row.ID)
			if err == nil {
				row = now
			}
			return err
		})
		if err != nil {
			row.Rev = 0 // look again
		}
	}
}
