package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// DB is what the server needs of a store package; sqlite and postgres stores are one.
type DB interface {
	job.DB
	Tracker() tracker.Store
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
func (t *tables) in(ctx context.Context, f func(ctx context.Context, q *tx) error) error {
	return t.db.InTx(ctx, func(ctx context.Context, x store.Tx) error {
		q, err := t.open(x)
		if err != nil {
			return err
		}
		return f(ctx, q)
	})
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

// version of our tables; the statements of each are applied once, in order.
var schema = [][]string{{
	`CREATE TABLE rs_counter (name TEXT PRIMARY KEY, n BIGINT NOT NULL)`,
	`CREATE TABLE rs_zone (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL)`,
	`CREATE TABLE rs_pod (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, zone TEXT NOT NULL)`,
	`CREATE TABLE rs_cluster (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, pod TEXT NOT NULL)`,
	`CREATE TABLE rs_host (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL UNIQUE,
		cluster TEXT NOT NULL, address TEXT NOT NULL, cpus BIGINT NOT NULL, mhz BIGINT NOT NULL, memory_mib BIGINT NOT NULL)`,
	`CREATE TABLE rs_offering (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
		cpus BIGINT NOT NULL, mhz BIGINT NOT NULL, memory_mib BIGINT NOT NULL)`,
	`CREATE TABLE rs_template (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
		display TEXT NOT NULL, os TEXT NOT NULL, zone TEXT NOT NULL, size_mib BIGINT NOT NULL, root_gib BIGINT NOT NULL)`,
	`CREATE TABLE rs_network (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL, zone TEXT NOT NULL,
		cidr TEXT NOT NULL, gateway TEXT NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL)`,
	`CREATE TABLE rs_ip (network TEXT NOT NULL, address TEXT NOT NULL, nic TEXT NOT NULL, PRIMARY KEY (network, address))`,
	`CREATE TABLE rs_vm (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, seq BIGINT NOT NULL,
		name TEXT NOT NULL, display TEXT NOT NULL, account TEXT NOT NULL, zone TEXT NOT NULL, template TEXT NOT NULL, offering TEXT NOT NULL,
		state TEXT NOT NULL, host TEXT NOT NULL, last_host TEXT NOT NULL, job TEXT NOT NULL, before TEXT NOT NULL,
		group_name TEXT NOT NULL, user_data TEXT NOT NULL, details TEXT NOT NULL, updated BIGINT NOT NULL)`,
	`CREATE INDEX rs_vm_created ON rs_vm (created, id)`,
	`CREATE INDEX rs_vm_name ON rs_vm (name)`,
	`CREATE TABLE rs_nic (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, vm TEXT NOT NULL, network TEXT NOT NULL,
		address TEXT NOT NULL, mac TEXT NOT NULL, device BIGINT NOT NULL)`,
	`CREATE INDEX rs_nic_vm ON rs_nic (vm)`,
	`CREATE TABLE rs_volume (id TEXT PRIMARY KEY, created BIGINT NOT NULL, version BIGINT NOT NULL, vm TEXT NOT NULL, name TEXT NOT NULL,
		state TEXT NOT NULL, size_mib BIGINT NOT NULL)`,
	`CREATE INDEX rs_volume_vm ON rs_volume (vm)`,
	`CREATE TABLE rs_owner (account TEXT PRIMARY KEY, account_id TEXT NOT NULL, domain TEXT NOT NULL, domain_id TEXT NOT NULL,
		username TEXT NOT NULL, user_id TEXT NOT NULL)`,
	`CREATE TABLE rs_apikey (id TEXT PRIMARY KEY, created BIGINT NOT NULL, account TEXT NOT NULL, sealed TEXT NOT NULL)`,
	`CREATE TABLE rs_node (name TEXT PRIMARY KEY, id TEXT NOT NULL, label TEXT NOT NULL, created BIGINT NOT NULL)`,
	`CREATE TABLE rs_sim (host TEXT PRIMARY KEY, state TEXT NOT NULL)`,
	`INSERT INTO rs_counter (name, n) VALUES ('vm', 0), ('node', 0), ('host', 0), ('key', 0)`,
}}

// ErrSchema means that our tables are not there, or of a newer program.
var ErrSchema = errors.New("cloud: schema")

// migrate makes or updates our tables; several nodes may do it at once.
func (t *tables) migrate(ctx context.Context, apply bool) error {
	return t.in(ctx, func(ctx context.Context, q *tx) error {
		if apply {
			if _, err := q.exec(ctx, `CREATE TABLE IF NOT EXISTS rs_schema (one BIGINT PRIMARY KEY, version BIGINT NOT NULL)`); err != nil {
				return err
			}
			if _, err := q.exec(ctx, `INSERT INTO rs_schema (one, version) VALUES (1, 0) ON CONFLICT (one) DO NOTHING`); err != nil {
				return err
			}
			if _, err := q.exec(ctx, `UPDATE rs_schema SET version = version WHERE one = 1`); err != nil { // the others wait here
				return err
			}
		}
		var have int
		if err := q.NewRaw(`SELECT version FROM rs_schema`).Scan(ctx, &have); err != nil {
			return fmt.Errorf("%w: not there: %w", ErrSchema, err)
		}
		switch {
		case have > len(schema):
			return fmt.Errorf("%w: the database is at version %d, this program knows %d: start a newer program", ErrSchema, have, len(schema))
		case have < len(schema) && !apply:
			return fmt.Errorf("%w: the database is at version %d, this program needs %d: start it with -migrate auto", ErrSchema, have, len(schema))
		}
		for _, statements := range schema[have:] {
			for _, s := range statements {
				if _, err := q.exec(ctx, s); err != nil {
					return err
				}
			}
		}
		if have == len(schema) {
			return nil
		}
		_, err := q.exec(ctx, `UPDATE rs_schema SET version = ?`, len(schema))
		return err
	})
}
