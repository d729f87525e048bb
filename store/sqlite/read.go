package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/drover-cloud/drover/store"
)

// Read runs fn, which must not write, in a transaction that waits for no writer and keeps none waiting: it sees what was
// committed before it began. fn's statements stay compiled from one call to the next.
func (s *Store) Read(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	if s.bad != nil {
		return s.bad
	}
	if ctx.Value(inTx{s}) != nil {
		return errors.New("sqlite: Read inside InTx")
	}
	btx, err := s.db.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("sqlite: begin: %w", explain(err))
	}
	c := &reading{s: s, tx: btx}
	t := &tx{s: s, conn: c, now: s.now()}
	defer func() {
		t.done = true // its statements belong to btx
		_ = btx.Rollback()
		c.keep()
	}()
	return fn(context.WithValue(ctx, inTx{s}, true), t)
}

// reading is the conn of a transaction that takes its statements from those kept.
type reading struct {
	s   *Store
	tx  *sql.Tx
	new []string
}

// PrepareContext gives a statement of the transaction's.
func (r *reading) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if st := r.s.kept.get(query); st != nil {
		return r.tx.StmtContext(ctx, st), nil
	}
	r.new = append(r.new, query)
	return r.tx.PrepareContext(ctx, query)
}

// keep compiles what was new, for the next one; behind the transaction, which may have had the only connection.
func (r *reading) keep() {
	for _, query := range r.new {
		r.s.kept.add(query, func() (*sql.Stmt, error) { return r.s.db.DB.PrepareContext(context.Background(), query) })
	}
}

// most is how many statements are kept. Queries by filter have a text for each combination of filters.
const most = 100

// kept are statements that database/sql compiles once for each connection.
type kept struct {
	mu sync.Mutex
	by map[string]*sql.Stmt // nil while it is compiled
}

func (k *kept) get(query string) *sql.Stmt {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.by[query]
}

func (k *kept) add(query string, prepare func() (*sql.Stmt, error)) {
	k.mu.Lock()
	_, there := k.by[query]
	if there || len(k.by) >= most {
		k.mu.Unlock()
		return
	}
	if k.by == nil {
		k.by = map[string]*sql.Stmt{}
	}
	k.by[query] = nil
	k.mu.Unlock()
	st, err := prepare() //nolint:sqlclosecheck // kept: closed with the database
	k.mu.Lock()
	defer k.mu.Unlock()
	if delete(k.by, query); err == nil {
		k.by[query] = st // closed with the database
	}
}
