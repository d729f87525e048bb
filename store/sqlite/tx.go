package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/store"
)

// retries is how often fn runs again after the database refused it for a conflict.
const retries = 10

// conn is what *sql.Conn and *sql.Tx have in common.
type conn interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// tx is an open transaction. Its statements are prepared once each and closed with it.
type tx struct {
	s      *Store
	bun    bun.IDB // for statements built by bun
	conn   conn    // for our own, past bun
	now    time.Time
	hints  []string // each once
	hinted map[string]bool
	stmts  map[string]*sql.Stmt
	id     string // present store incarnation, once asked
	rules  rules  // policies, once asked
	own    bool   // begun by InTx
	done   bool
}

// Now is the store's clock, fixed for the transaction.
func (t *tx) Now() time.Time { return t.now }

// Hint wakes the sleepers on topic after commit.
func (t *tx) Hint(topic string) {
	if !t.own || t.hinted[topic] {
		return
	}
	if t.hinted == nil {
		t.hinted = map[string]bool{}
	}
	t.hinted[topic] = true
	t.hints = append(t.hints, topic)
}

// of checks that x is an open transaction of this store.
func (s *Store) of(x store.Tx) (*tx, error) {
	t, ok := x.(*tx)
	if !ok || t.s != s {
		return nil, store.ErrForeign
	}
	if t.done {
		return nil, errors.New("sqlite: transaction has ended")
	}
	return t, nil
}

// Join lets drover take part in the host's own transaction; commit stays with the host, and jobs that were submitted are
// found by polling. btx must be of the *bun.DB given to New; one that does not begin with the write lock (see DSN) may be
// refused by the database when it first writes. Now is read here. The result must not be used after btx has ended.
func (s *Store) Join(btx bun.Tx) store.Tx {
	return &tx{s: s, bun: btx, conn: btx.Tx, now: s.now()}
}

// Bun is the way back from Join: bun's handle of an open transaction, so that a host writes its own rows in the commit of
// a transaction that drover opened (InTx, or the create function of a command). It lives as long as x.
func (s *Store) Bun(x store.Tx) (bun.IDB, error) {
	t, err := s.of(x)
	if err != nil {
		return nil, err
	}
	return t.bun, nil
}

type inTx struct{ s *Store }

// InTx runs fn in a transaction of its own, which holds the write lock from its begin. fn's error or panic, or an ended ctx,
// undoes everything. A database locked by others is waited for as long as ctx lasts; if it refuses in the midst,
// fn runs again, at most 10 times. Transactions do not nest.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	if s.bad != nil {
		return s.bad
	}
	if ctx.Value(inTx{s}) != nil {
		return errors.New("sqlite: InTx inside InTx")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	select {
	case s.gate <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	hints, err := s.gated(ctx, fn)
	if err == nil {
		s.hints.Send(hints)
	}
	return err
}

// gated holds the gate, and gives it back even if fn panics or ends its goroutine.
func (s *Store) gated(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) ([]string, error) {
	defer func() { <-s.gate }()
	return s.run(ctx, fn)
}

func (s *Store) run(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) (hints []string, err error) {
	c, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", explain(err))
	}
	defer func() { _ = c.Close() }()
	for range retries {
		hints, err = s.once(ctx, c, fn)
		if !busy(err) {
			break
		}
		if e := s.pause(ctx); e != nil {
			return nil, e
		}
	}
	return hints, err
}

// once is one try. The transaction ends in here, whatever fn does.
func (s *Store) once(ctx context.Context, c bun.Conn, fn func(ctx context.Context, x store.Tx) error) (hints []string, err error) {
	if err := s.begin(ctx, c); err != nil {
		return nil, err
	}
	// Statements must not be cut off in the midst: whether this commits is decided here.
	free := context.WithoutCancel(ctx)
	t := &tx{s: s, bun: c, conn: c.Conn, now: s.now(), own: true}
	committed := false
	defer func() {
		t.end()
		if !committed {
			s.rollback(free, c)
		}
	}()
	if err := fn(context.WithValue(ctx, inTx{s}, true), t); err != nil {
		return nil, err
	}
	t.end()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("sqlite: not committed: %w", context.Cause(ctx))
	}
	if _, err := c.Conn.ExecContext(free, "COMMIT"); err != nil {
		return nil, fmt.Errorf("sqlite: commit: %w", explain(err))
	}
	committed = true
	return t.hints, nil
}

// begin waits for the write lock as long as ctx lasts.
func (s *Store) begin(ctx context.Context, c bun.Conn) error {
	for {
		_, err := c.Conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		switch {
		case err == nil && ctx.Err() == nil:
			return nil
		case err == nil:
			s.rollback(context.WithoutCancel(ctx), c)
			return context.Cause(ctx)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !busy(err):
			return fmt.Errorf("sqlite: begin: %w", explain(err))
		}
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
}

// rollback leaves no transaction open on c, or makes the pool drop it.
func (s *Store) rollback(ctx context.Context, c bun.Conn) {
	if _, err := c.Conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		_ = c.Conn.Raw(func(any) error { return errBroken })
	}
}

// pause lets whoever has the lock go on; the database itself has waited for its busy time-out before.
func (s *Store) pause(ctx context.Context) error {
	select {
	case <-s.env.Clock.After(2 * time.Millisecond):
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (t *tx) end() {
	if !t.done {
		t.done = true
		for _, st := range t.stmts {
			_ = st.Close()
		}
	}
}

// nextEpoch draws from the store-wide counter. One drawn by a transaction that rolled back is not drawn again by this process.
func (t *tx) nextEpoch(ctx context.Context) (int64, error) {
	t.s.mu.Lock()
	seen := t.s.epoch
	t.s.mu.Unlock()
	var n int64
	if err := t.row(ctx, `UPDATE drover_meta SET epoch = max(epoch, ?) + 1 RETURNING epoch`, []any{seen}, &n); err != nil {
		return 0, err
	}
	t.s.mu.Lock()
	t.s.epoch = max(t.s.epoch, n)
	t.s.mu.Unlock()
	return n, nil
}

// nextSeqs draws n numbers for jobs and answers the first.
func (t *tx) nextSeqs(ctx context.Context, n int) (int64, error) {
	var last int64
	err := t.row(ctx, `UPDATE drover_meta SET seq = seq + ? RETURNING seq`, []any{n}, &last)
	return last - int64(n) + 1, err
}

// storeID names the store's present incarnation.
func (t *tx) storeID(ctx context.Context) (string, error) {
	if t.id == "" {
		if err := t.row(ctx, `SELECT id || '.' || incarnation FROM drover_meta`, nil, &t.id); err != nil {
			return "", err
		}
	}
	return t.id, nil
}
