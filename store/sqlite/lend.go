package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

const (
	// lentOut: somebody has the turn of drover_job, or of the job ?1; borrowed: or waits for it.
	lentOut  = `(EXISTS (SELECT 1 FROM drover_job b WHERE b.lender <> '' AND b.lender = ?1 AND b.line = 5) OR EXISTS (SELECT 1 FROM drover_legacy g WHERE g.origin <> '' AND g.origin = ?1))`
	borrowed = `(EXISTS (SELECT 1 FROM drover_job b WHERE b.lender <> '' AND b.lender = drover_job.id AND b.line IN (4, 5)) OR EXISTS (SELECT 1 FROM drover_legacy g WHERE g.origin <> '' AND g.origin = drover_job.id))`
)

func (s *standing) holds() bool {
	return s.line.Valid && (s.line.Int64 == holds || s.line.Int64 == borrows)
}

// lenderOf is whose turn a job of k borrows, that of lender or of whom that borrows from; "" if they have none any more.
func (t *tx) lenderOf(ctx context.Context, lender string, k syncqueue.Key) (string, error) {
	for lender != "" {
		var has bool
		above := ""
		err := t.row(ctx, `SELECT EXISTS (SELECT 1 FROM drover_legacy WHERE lender = ?1)
				OR EXISTS (SELECT 1 FROM drover_job WHERE id = ?1 AND line IN (1, 5) AND key_kind = ?2 AND key_id = ?3),
			coalesce((SELECT lender FROM drover_job WHERE id = ?1), '')`, []any{lender, k.Kind, k.ID}, &has, &above)
		if err != nil || has {
			return lender, err
		}
		lender = above
	}
	return "", nil
}

func (t *tx) lentOut(ctx context.Context, id string) (bool, error) {
	return t.has(ctx, `SELECT 1 WHERE `+lentOut, id)
}

// lendingFlags are the job's flags after the move.
func (t *tx) lendingFlags(ctx context.Context, s standing, m job.Move) (job.Flag, error) {
	flags := (s.flags | m.Mark) &^ m.Unmark
	if m.From == job.Running && m.To != job.Running {
		return flags &^ (job.Lending | job.Recalled), nil
	}
	if m.Unmark&s.flags&job.Lending == 0 || !s.holds() || !s.lends {
		return flags, nil
	}
	out, err := t.lentOut(ctx, s.id)
	if out {
		flags |= job.Lending | job.Recalled
	}
	return flags, err
}

// bequeath leaves the turn that a job gave up to those who borrow it; false if there are none.
func (t *tx) bequeath(ctx context.Context, s standing) (left bool, err error) {
	if !s.lends {
		return false, nil
	}
	still, err := t.has(ctx, `SELECT 1 FROM drover_job WHERE id = ? AND `+borrowed, s.id)
	if err != nil || !still {
		return false, err
	}
	origin := ""
	if s.line.Int64 == borrows {
		origin = s.lender
	}
	n, err := t.exec(ctx, `INSERT INTO drover_legacy (lender, key_kind, key_id, origin) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.id, s.key.Kind, s.key.ID, origin)
	return n > 0, err
}

// lend settles who borrows from lenders: a lender goes on first, then the next borrower; a turn that was left to borrowers
// passes on when there are none. It answers who got a turn, the lenders' own included.
func (t *tx) lend(ctx context.Context, lenders []string) (gs []granted, err error) {
	for i := 0; i < len(lenders); i++ { //nolint:intrange // it grows
		more, origin, err := t.lendOne(ctx, lenders[i])
		if err != nil {
			return nil, err
		}
		if gs = append(gs, more...); origin != "" {
			lenders = append(lenders, origin)
		}
	}
	return gs, nil
}

func (t *tx) lendOne(ctx context.Context, lender string) (gs []granted, origin string, err error) {
	taken, err := t.lentOut(ctx, lender)
	if err != nil || taken {
		return nil, "", err
	}
	var seq int64
	var state job.State
	var turn bool
	var flags job.Flag
	g := granted{}
	err = t.row(ctx, `SELECT seq, queue, kind, state, coalesce(line IN (1, 5), 0), flags FROM drover_job WHERE id = ?`, []any{lender},
		&seq, &g.queue, &g.kind, &state, &turn, &flags)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, "", err
	}
	now := t.now.UnixMicro()
	switch {
	case turn && state == job.Waiting:
		g.seq = seq
		_, err = t.exec(ctx, `UPDATE drover_job SET state = 'ready', rev = rev + 1, updated = ? WHERE seq = ?`, now, seq)
		return []granted{g}, "", err
	case turn && flags&job.Recalled != 0:
		t.Hint(job.JobTopic(lender))
		_, err = t.exec(ctx, `UPDATE drover_job SET flags = ?, rev = rev + 1, updated = ? WHERE seq = ?`, int64(flags&^(job.Lending|job.Recalled)), now, seq)
		return nil, "", err
	}
	var k syncqueue.Key
	err = t.row(ctx, `SELECT key_kind, key_id, origin FROM drover_legacy WHERE lender = ?`, []any{lender}, &k.Kind, &k.ID, &origin)
	left := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, "", err
	}
	if turn && !left && state != job.Parked && (state != job.Running || flags&job.Lending == 0) {
		return nil, "", nil
	}
	gs, err = t.borrower(ctx, lender)
	if err != nil || !left || len(gs) > 0 {
		return gs, "", err
	}
	if _, err := t.exec(ctx, `DELETE FROM drover_legacy WHERE lender = ?`, lender); err != nil || origin != "" {
		return nil, origin, err
	}
	gs, err = t.grant(ctx, k)
	return gs, "", err
}

// borrower gives the turn of a lender to the first who waits for it.
func (t *tx) borrower(ctx context.Context, lender string) (gs []granted, err error) {
	err = t.each(ctx, `SELECT seq, queue, kind FROM drover_job WHERE lender <> '' AND lender = ? AND line = 4 ORDER BY place, seq LIMIT 1`, []any{lender},
		func(scan func(...any) error) error {
			var g granted
			err := scan(&g.seq, &g.queue, &g.kind)
			gs = append(gs, g)
			return err
		})
	if err != nil || len(gs) == 0 {
		return nil, err
	}
	_, err = t.exec(ctx, `UPDATE drover_job SET state = 'ready', line = 5, since = ?1, rev = rev + 1, updated = ?1 WHERE seq = ?2`, t.now.UnixMicro(), gs[0].seq)
	return gs, err
}

// auditLending drops legacies that nobody has or waits for, and says how many.
func (t *tx) auditLending(ctx context.Context) (n int, err error) {
	var idle []string
	err = t.each(ctx, `SELECT lender FROM drover_legacy l WHERE NOT EXISTS (SELECT 1 FROM drover_job b WHERE b.lender <> '' AND b.lender = l.lender AND b.line IN (4, 5))
		AND NOT EXISTS (SELECT 1 FROM drover_legacy g WHERE g.origin <> '' AND g.origin = l.lender) ORDER BY lender`, nil, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		idle = append(idle, id)
		return err
	})
	if err != nil || len(idle) == 0 {
		return 0, err
	}
	gs, err := t.lend(ctx, idle)
	t.hintQueues(gs)
	return len(idle), err
}
