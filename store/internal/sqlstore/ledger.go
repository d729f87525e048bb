package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// Ledger is a lease.LedgerStore on the table drover_ledger.
type Ledger struct{ Dialect }

// Take gives out a due time; see lease.LedgerStore.
func (l Ledger) Take(ctx context.Context, tx store.Tx, t lease.Token, name string, due time.Time) (int64, time.Duration, error) {
	o, err := l.open(tx)
	if err != nil {
		return 0, 0, err
	}
	if err := o.serial(ctx, "ledger/"+name); err != nil {
		return 0, 0, err
	}
	if err := o.holds(ctx, t); err != nil {
		return 0, 0, err
	}
	if wait := due.Sub(tx.Now()) - time.Second; wait > 0 {
		return 0, wait, nil
	}
	attempts, until, err := o.attempt(ctx, t, name, due.UnixMicro())
	switch {
	case err != nil || attempts == 0:
		return 0, time.Duration(until) * time.Microsecond, err
	case attempts > lease.Attempts:
		return -1, 0, nil
	}
	epoch, err := o.Epoch(ctx, tx)
	if err != nil {
		return 0, 0, err
	}
	_, err = o.exec(ctx, `INSERT INTO drover_ledger (name, due, session, epoch, attempts, done, outcome) VALUES (?, ?, ?, ?, ?, 0, '')
		ON CONFLICT (name) DO UPDATE SET due = excluded.due, session = excluded.session, epoch = excluded.epoch,
			attempts = excluded.attempts, done = 0, outcome = ''`, name, due.UnixMicro(), t.Epoch, epoch, attempts)
	if err != nil {
		return 0, 0, err
	}
	return epoch, 0, nil
}

// attempt tells the how manieth time due may be given to t, 0 if not; left is then for how many µs another session is at it still.
func (o *open) attempt(ctx context.Context, t lease.Token, name string, due int64) (n int, left int64, err error) {
	var last int64
	var attempts, done int
	found, err := o.row(ctx, `SELECT g.due, g.attempts, g.done, CASE WHEN s.state <> 'dead' AND s.store = ? AND s.epoch <> ? AND s.until > ? THEN s.until - ? ELSE 0 END
		FROM drover_ledger g LEFT JOIN drover_session s ON s.epoch = g.session WHERE g.name = ?`,
		[]any{t.Store, t.Epoch, o.now, o.now, name}, &last, &attempts, &done, &left)
	switch {
	case err != nil:
		return 0, 0, err
	case !found:
		return 1, 0, nil
	case done == 0 && left > 0 && due == last:
		return 0, left, nil
	case done == 0 && left > 0:
		return 0, 0, nil
	case due > last:
		return 1, 0, nil
	case due == last && done == 0:
		return attempts + 1, 0, nil
	}
	return 0, 0, nil
}

// Done marks a run done; see lease.LedgerStore.
func (l Ledger) Done(ctx context.Context, tx store.Tx, name string, epoch int64, outcome string) error {
	o, err := l.open(tx)
	if err != nil {
		return err
	}
	n, err := o.exec(ctx, `UPDATE drover_ledger SET outcome = CASE WHEN done = 0 THEN ? ELSE outcome END, done = 1
		WHERE name = ? AND epoch = ?`, strings.ToValidUTF8(outcome[:min(len(outcome), 1024)], ""), name, epoch)
	if err == nil && n == 0 {
		err = store.ErrConflict
	}
	return err
}

// Last is the last due time given out; see lease.LedgerStore.
func (l Ledger) Last(ctx context.Context, tx store.Tx, name string) (time.Time, error) {
	o, err := l.open(tx)
	if err != nil {
		return time.Time{}, err
	}
	var due int64
	if found, err := o.row(ctx, `SELECT due FROM drover_ledger WHERE name = ?`, []any{name}, &due); err != nil || !found {
		return time.Time{}, err
	}
	return at(due), nil
}
