package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// DB is what the server needs of a store package; sqlite and postgres stores are one.
type DB interface {
	job.DB
	Tracker() tracker.Store
	Ledger() lease.LedgerStore
	Members() servicegroup.Driver
	Records() drover.RecordStore
	Outbox() bus.Outbox
	Queues() syncqueue.Store
	Bun(tx store.Tx) (bun.IDB, error) // for rows of our own in drover's transaction
	Migrate(ctx context.Context) error
	Schema(ctx context.Context) (have, want int, err error)
}

// tables gives access to the rows.
type tables struct {
	db  DB
	bun *bun.DB // reads outside of transactions
}

// tx is an open transaction on our tables.
type tx struct {
	bun.IDB
	tx  store.Tx
	now int64 // microseconds since 1970, by the store's clock
}

// in runs f in a transaction; it may run again.
func (t *tables) in(ctx context.Context, f func(ctx context.Context, q *tx) error) (err error) {
	for range 5 { // compare-and-sets that are lost
		err = t.db.InTx(ctx, func(ctx context.Context, x store.Tx) error {
			q, err := t.open(x)
			if err != nil {
				return err
			}
			return f(ctx, q)
		})
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	return err
}

// write is a transaction of one statement.
func (t *tables) write(ctx context.Context, query string, args ...any) error {
	return t.in(ctx, func(ctx context.Context, q *tx) error { _, err := q.exec(ctx, query, args...); return err })
}

// open joins a transaction that drover opened.
func (t *tables) open(x store.Tx) (*tx, error) {
	q, err := t.db.Bun(x)
	if err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	return &tx{IDB: q, tx: x, now: x.Now().UnixMicro()}, nil
}

// exec answers how many rows a statement touched.
func (q *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := q.NewRaw(query, args...).Exec(ctx)
	if err != nil {
		return 0, fmt.Errorf("cloud: %w", err)
	}
	return r.RowsAffected()
}

func (q *tx) insert(ctx context.Context, rows any) error {
	if _, err := q.NewInsert().Model(rows).Exec(ctx); err != nil {
		return fmt.Errorf("cloud: %w", err)
	}
	return nil
}

// count draws the next number of a counter, which also makes transactions that do so one after another.
func (q *tx) count(ctx context.Context, name string) (n int64, err error) {
	err = q.NewRaw(`UPDATE rs_counter SET n = n + 1 WHERE name = ? RETURNING n`, name).Scan(ctx, &n)
	if err != nil {
		err = fmt.Errorf("cloud: counter %s: %w", name, err)
	}
	return n, err
}

// all reads rows of one model.
func all[R any](ctx context.Context, q bun.IDB, where string, args ...any) (rows []R, err error) {
	s := q.NewSelect().Model(&rows).OrderExpr("created, id")
	if where != "" {
		s = s.Where(where, args...)
	}
	if err := s.Scan(ctx); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	return rows, nil
}

func at(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
