package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// errBroken makes the pool drop a connection.
var errBroken = fmt.Errorf("sqlite: rollback failed: %w", driver.ErrBadConn)

// prepared is the statement of query, compiled once per transaction.
func (t *tx) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if st := t.stmts[query]; st != nil {
		return st, nil
	}
	st, err := t.conn.PrepareContext(context.WithoutCancel(ctx), t.s.names(query))
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", explain(err))
	}
	if t.stmts == nil {
		t.stmts = map[string]*sql.Stmt{}
	}
	t.stmts[query] = st // a host's transaction closes them itself when it ends
	return st, nil
}

// exec answers how many rows it touched. Statements run to their end: the transaction decides what an ended ctx means.
func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	st, err := t.prepared(ctx, query) //nolint:sqlclosecheck // closed with the transaction
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(context.WithoutCancel(ctx), args...)
	if err != nil {
		return 0, fmt.Errorf("sqlite: %w", explain(err))
	}
	return r.RowsAffected()
}

// row scans the only row; sql.ErrNoRows if there is none.
func (t *tx) row(ctx context.Context, query string, args []any, dest ...any) error {
	n := 0
	err := t.each(ctx, query, args, func(scan func(...any) error) error {
		n++
		if n > 1 {
			return nil
		}
		return scan(dest...)
	})
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	return err
}

// has tells whether query answers a row.
func (t *tx) has(ctx context.Context, query string, args ...any) (bool, error) {
	var one int
	err := t.row(ctx, query, args, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// each hands every row to f.
func (t *tx) each(ctx context.Context, query string, args []any, f func(scan func(dest ...any) error) error) error {
	st, err := t.prepared(ctx, query) //nolint:sqlclosecheck // closed with the transaction
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.WithoutCancel(ctx), args...)
	if err != nil {
		return fmt.Errorf("sqlite: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("sqlite: %w", explain(err))
	}
	return nil
}

// busy tells whether another connection's lock was in the way: SQLITE_BUSY or SQLITE_LOCKED, by the code that drivers
// offer, else by text.
func busy(err error) bool {
	if err == nil {
		return false
	}
	var c interface{ Code() int }
	if errors.As(err, &c) {
		return c.Code()&0xff == 5 || c.Code()&0xff == 6
	}
	return strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "database table is locked")
}

// explain says in words what is wrong with a file.
func explain(err error) error {
	switch s := err.Error(); {
	case strings.Contains(s, "file is not a database"):
		return fmt.Errorf("the file is no SQLite database, or is encrypted or damaged: %w", err)
	case strings.Contains(s, "malformed"):
		return fmt.Errorf("the database file is damaged, restore it from a backup: %w", err)
	case strings.Contains(s, "no such table"):
		return fmt.Errorf("the schema is missing, call Migrate first: %w", err)
	}
	return err
}

// Instants are stored as microseconds since 1970, NULL for the zero time.

func us(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromUS(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

// array is a list as the JSON that json_each reads.
func array[T any](vs []T) string {
	b, _ := json.Marshal(vs) // strings and numbers always encode
	return string(b)
}
