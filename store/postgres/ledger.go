package postgres

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

type ledger struct{ s *Store }

func (l ledger) Take(ctx context.Context, x store.Tx, tok lease.Token, name string, due time.Time) (epoch int64, wait time.Duration, err error) {
	t, err := l.s.of(x)
	if err != nil {
		return 0, 0, err
	}
	if err := leases(l).mine(ctx, t, tok); err != nil {
		return 0, 0, err
	}
	if wait := due.Sub(t.Now()) - time.Second; wait > 0 {
		return 0, wait, nil
	}
	// $2 is later than the last due time, or the same, unfinished and not given out too often; and no other live session is at it.
	err = t.query(ctx, `INSERT INTO @ledger AS l (name, due, session, epoch, attempts) VALUES ($1, $2, $3, nextval('@epoch'), 1)
ON CONFLICT (name) DO UPDATE SET due = excluded.due, session = excluded.session, epoch = excluded.epoch, done = false, outcome = '',
  attempts = CASE WHEN excluded.due = l.due THEN l.attempts + 1 ELSE 1 END
WHERE (excluded.due > l.due OR excluded.due = l.due AND NOT l.done AND l.attempts < $4)
  AND (l.done OR l.session <> ALL (ARRAY(SELECT epoch FROM @session WHERE epoch <> $3 AND `+live+`)))
RETURNING epoch`, func(scan func(...any) error) error { return scan(&epoch) }, name, due.UTC(), tok.Epoch, lease.Attempts)
	if err != nil || epoch > 0 {
		return epoch, 0, err
	}
	// Unfinished: for how long another live session is at it still; nobody is: it is given up.
	err = t.query(ctx, `SELECT (SELECT extract(epoch FROM until - now()) FROM @session WHERE epoch = g.session AND epoch <> $3 AND `+live+`)::float8
FROM @ledger g WHERE name = $1 AND due = $2 AND NOT done`, func(scan func(...any) error) error {
		var left *float64 // seconds
		err := scan(&left)
		if left == nil {
			epoch = -1
		} else {
			wait = time.Duration(max(*left*1e9, 1))
		}
		return err
	}, name, due.UTC(), tok.Epoch)
	return epoch, wait, err
}

func (l ledger) Done(ctx context.Context, x store.Tx, name string, epoch int64, outcome string) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE @ledger SET outcome = CASE WHEN done THEN outcome ELSE $3 END, done = true WHERE name = $1 AND epoch = $2`,
		name, epoch, clip(outcome, 1024))
	if err == nil && n == 0 {
		return store.ErrConflict
	}
	return err
}

func (l ledger) Last(ctx context.Context, x store.Tx, name string) (due time.Time, err error) {
	t, err := l.s.of(x)
	if err != nil {
		return due, err
	}
	err = t.query(ctx, `SELECT due FROM @ledger WHERE name = $1`, func(scan func(...any) error) error { return scan(&due) }, name)
	if !due.IsZero() {
		due = due.UTC()
	}
	return due, err
}
