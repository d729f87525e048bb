// Package sqlstore holds the tables that are off the hot path, written once on bun for every SQL store: sessions, named
// leases and the ledger. Instants are stored as microseconds since 1970, lists as JSON.
package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/store"
)

// Dialect is what differs between databases.
type Dialect struct {
	// Of gives the open transaction behind tx, or store.ErrForeign.
	Of func(tx store.Tx) (bun.IDB, error)
	// Epoch draws the next epoch of the store; Store names its present incarnation, "<database id>.<n>".
	Epoch func(ctx context.Context, tx store.Tx) (int64, error)
	Store func(ctx context.Context, tx store.Tx) (string, error)
	// Names turns the table names drover_* of a statement into those of this store.
	Names func(query string) string
	// Serial makes transactions that pass the same name wait for each other; nil where there is one writer.
	Serial func(ctx context.Context, tx store.Tx, name string) error
	// SkipLocked ends a read of rows about to be changed that leaves out locked ones; "" where there is one writer.
	SkipLocked string
	// Lock ends a read of rows that this transaction will change; "" where there is one writer.
	Lock string
	// Busy is a condition on drover_session s: something still refers to it.
	Busy string
}

// open is a transaction with the statements of this package.
type open struct {
	Dialect
	tx  store.Tx
	db  bun.IDB
	now int64
}

func (d Dialect) open(tx store.Tx) (*open, error) {
	db, err := d.Of(tx)
	if err != nil {
		return nil, err
	}
	return &open{Dialect: d, tx: tx, db: db, now: tx.Now().UnixMicro()}, nil
}

// exec answers how many rows it touched.
func (o *open) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := o.db.NewRaw(o.Names(query), args...).Exec(ctx)
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	return r.RowsAffected()
}

// row scans the only row; false if there is none.
func (o *open) row(ctx context.Context, query string, args []any, dest ...any) (bool, error) {
	err := o.db.NewRaw(o.Names(query), args...).Scan(ctx, dest...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("store: %w", err)
	}
	return true, nil
}

// all scans every row into dest, a slice of structs or of scalars.
func (o *open) all(ctx context.Context, dest any, query string, args ...any) error {
	if err := o.db.NewRaw(o.Names(query), args...).Scan(ctx, dest); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func (o *open) serial(ctx context.Context, name string) error {
	if o.Serial == nil {
		return nil
	}
	return o.Serial(ctx, o.tx, name)
}

func at(us int64) time.Time { return time.UnixMicro(us).UTC() }

func list(ss []string) string {
	if len(ss) == 0 {
		return ""
	}
	b, _ := json.Marshal(ss) // strings always encode
	return string(b)
}

func unlist(s string) (ss []string) {
	if s != "" {
		_ = json.Unmarshal([]byte(s), &ss) // written by list
	}
	return ss
}
