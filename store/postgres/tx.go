package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/store"
)

// tx is an open transaction. Its statements run below bun: on *sql.Tx, so that the driver prepares them.
type tx struct {
	s       *Store
	ctx     context.Context // of InTx, for Now
	q       *sql.Tx
	bun     bun.Tx // q for the host, and for statements built by bun
	joined  bool   // the host commits
	single  bool   // InOne: no BEGIN until a second statement is known to follow
	spent   bool   // InOne has committed its one statement
	careful bool   // an earlier try met a duplicate id
	done    bool
	now     time.Time
	err     error // of Now
	hints   []hint
	hinted  map[hintKey]int
	told    struct { // what insert has hinted last
		queue    string
		priority int
		runAt    time.Time
	}
	later []func(context.Context) error // own transactions after the commit
}

// rows is what statements answer; each is called per row.
type each func(scan func(...any) error) error

func (t *tx) query(ctx context.Context, q string, each each, args ...any) error {
	if err := t.begun(ctx); err != nil {
		return err
	}
	return scanAll(ctx, t.q, t.s.text(q), each, args)
}

func (t *tx) exec(ctx context.Context, q string, args ...any) (int64, error) {
	if err := t.begun(ctx); err != nil {
		return 0, err
	}
	r, err := t.q.ExecContext(ctx, t.s.text(q), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// only is query for a method whose statements stand for themselves: InOne sends them without BEGIN and COMMIT.
func (t *tx) only(ctx context.Context, q string, each each, args ...any) error {
	if !t.single || t.q != nil {
		return t.query(ctx, q, each, args...)
	}
	err := scanAll(ctx, t.s.db.DB, t.s.text(q), each, args)
	t.spent = t.spent || err == nil
	return err
}

// aside is query for a read that need not see the transaction's snapshot; it works after InOne's statement too.
func (t *tx) aside(ctx context.Context, q string, each each, args ...any) error {
	if t.spent || t.single && t.q == nil {
		return scanAll(ctx, t.s.db.DB, t.s.text(q), each, args)
	}
	return t.query(ctx, q, each, args...)
}

func (t *tx) begun(ctx context.Context) error {
	switch {
	case t.err != nil:
		return t.err
	case t.spent:
		return errOneCall
	case t.q != nil:
		return nil
	}
	b, err := t.s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	t.q, t.bun = b.Tx, b
	return nil
}

type queryer interface {
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

func scanAll(ctx context.Context, c queryer, q string, each each, args []any) error {
	r, err := c.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if err := each(r.Scan); err != nil {
			return err
		}
	}
	return r.Err()
}

// Now is the server's now(): the start of the transaction, read when first asked for. If it cannot be read, the
// transaction fails.
func (t *tx) Now() time.Time {
	if !t.now.IsZero() || t.err != nil {
		return t.now
	}
	err := t.query(t.ctx, `SELECT now()`, func(scan func(...any) error) error { return scan(&t.now) })
	if err != nil {
		t.err = fmt.Errorf("postgres: now: %w", err)
	}
	t.now = t.now.UTC()
	return t.now
}

// saw keeps the server's now() that a statement answered anyway.
func (t *tx) saw(now time.Time) {
	if t.now.IsZero() && !t.spent {
		t.now = now.UTC()
	}
}

// Hint wakes topic's sleepers after the commit; in a joined transaction by NOTIFY inside it.
func (t *tx) Hint(topic string) { t.hint(hint{topic: topic}) }

func (t *tx) hint(h hint) {
	if !h.pos && !t.joined { // many, and seldom twice
		t.hints = append(t.hints, h)
		return
	}
	k := h.key()
	if i, ok := t.hinted[k]; ok {
		t.hints[i].merge(h)
		return
	}
	if t.hinted == nil {
		t.hinted = map[hintKey]int{}
	}
	t.hinted[k] = len(t.hints)
	t.hints = append(t.hints, h)
	if t.joined {
		t.s.hints.inside(t)
	}
}

// hintPool holds the memory of hints that are told: a batch has one per job.
var hintPool = sync.Pool{New: func() any { return new([]hint) }}

func spareHints(hints []hint) {
	clear(hints)
	hints = hints[:0]
	hintPool.Put(&hints)
}

// of checks that x is an open transaction of this store.
func (s *Store) of(x store.Tx) (*tx, error) {
	t, ok := x.(*tx)
	if !ok || t.s != s {
		return nil, store.ErrForeign
	}
	if t.done {
		return nil, errors.New("postgres: transaction has ended")
	}
	if t.spent {
		return nil, errOneCall
	}
	return t, nil
}

// Join lets drover take part in the host's own transaction, whose commit stays with the host. It must be READ COMMITTED, the
// server's default. Hints go out by NOTIFY inside it, so they too depend on its commit.
func (s *Store) Join(host bun.Tx) store.Tx {
	return &tx{s: s, ctx: context.Background(), q: host.Tx, bun: host, joined: true, careful: true, err: s.bad}
}

// Bun is the way back from Join: bun's handle of an open transaction, so that a host writes its own rows in the commit of
// a transaction that drover opened (InTx, or the create function of a command). It lives as long as x, and is not the host's
// to commit.
func (s *Store) Bun(x store.Tx) (bun.IDB, error) {
	t, err := s.of(x)
	if err != nil {
		return nil, err
	}
	if err := t.begun(t.ctx); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return t.bun, nil
}

type inTx struct{ s *Store }

var errOneCall = errors.New("postgres: InOne's transaction takes one call")

const tries = 10

// InTx runs fn in a READ COMMITTED transaction. fn's error or panic, or an ended ctx, rolls it back. After a serialization
// failure, a deadlock or two transactions that met on one name it runs again, at most 10 times. Transactions do not nest.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	return s.run(ctx, false, fn)
}

// InOne is InTx for an fn whose one effect is one call of a store's method, its last act: where that method needs one
// statement only, it is sent without BEGIN and COMMIT. So what the call wrote stays although fn answers an error. A second
// call answers an error. Reading Now before the call makes it an ordinary transaction.
func (s *Store) InOne(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	return s.run(ctx, true, fn)
}

// apart is InTx for this package, in a call that is itself inside InOne.
func (s *Store) apart(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	return s.InTx(context.WithValue(ctx, inTx{s}, nil), fn)
}

func (s *Store) run(ctx context.Context, single bool, fn func(ctx context.Context, x store.Tx) error) error {
	if s.bad != nil {
		return s.bad
	}
	if ctx.Value(inTx{s}) != nil {
		return errors.New("postgres: InTx inside InTx")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	careful := false
	for try := 1; ; try++ {
		t := &tx{s: s, ctx: ctx, single: single, careful: careful, hints: *hintPool.Get().(*[]hint)}
		err := t.attempt(ctx, fn)
		if err == nil {
			s.hints.committed(t.hints)
			spareHints(t.hints)
			return s.afterwards(ctx, t)
		}
		again, duplicate := retryable(err)
		if !again || try == tries || t.spent {
			return err
		}
		careful = careful || duplicate
		if err := s.env.Sleep(ctx, s.pause(try)); err != nil {
			return err
		}
	}
}

// pause before try+1: 1 ms doubling to 256 ms, half of it by chance.
func (s *Store) pause(try int) time.Duration {
	d := time.Millisecond << min(try-1, 8)
	return d/2 + time.Duration(s.env.Rand.Uint64()%uint64(d/2+1))
}

func (t *tx) attempt(ctx context.Context, fn func(ctx context.Context, x store.Tx) error) error {
	committed := false
	defer func() {
		t.done = true
		if !committed && t.q != nil {
			_ = t.q.Rollback()
		}
	}()
	if err := fn(context.WithValue(ctx, inTx{t.s}, true), t); err != nil {
		return err
	}
	if t.err != nil {
		return t.err
	}
	if err := ctx.Err(); err != nil && !t.spent {
		return fmt.Errorf("postgres: not committed: %w", context.Cause(ctx))
	}
	if t.q != nil {
		if err := t.q.Commit(); err != nil {
			return fmt.Errorf("postgres: commit: %w", err)
		}
	}
	committed = true
	return nil
}

// afterwards runs what a method left to transactions of its own; their errors are nobody's: a later round repeats them.
func (s *Store) afterwards(ctx context.Context, t *tx) error {
	for _, f := range t.later {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			s.env.Logger.DebugContext(ctx, "postgres: after commit", "err", err)
		}
	}
	return nil
}

// retryable tells the errors after which a transaction is run again, and whether two met on one name.
func retryable(err error) (again, duplicate bool) {
	if errors.Is(err, errRaced) {
		return true, true
	}
	if errors.Is(err, errBusy) {
		return true, false
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false, false
	}
	switch pg.Code {
	case "40001", "40P01":
		return true, false
	case "23505": // unique_violation; ours only, as a host's own is its own
		ours := len(pg.TableName) > 7 && pg.TableName[:7] == "drover_"
		return ours, ours
	}
	return false, false
}
