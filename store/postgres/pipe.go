package postgres

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// step is a statement of a pipe and what takes its rows.
type step struct {
	q    string
	each each
	args []any
}

const (
	sqlBegin  = `BEGIN ISOLATION LEVEL READ COMMITTED`
	sqlCommit = `COMMIT`

	// sqlPlan makes the statements behind it use the plan that serves all arguments, from the first time on, and interpret
	// it: those of the hot path leave the planner no choice, and it took longer to plan or compile them than to run them
	// (bench/NOTES.md).
	sqlPlan = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true)`
)

var errNoPipe = errors.New("postgres: the driver is not pgx, or prepares nothing")

// swift is only, for statements of the hot path: straight to pgx, in one round trip.
func (t *tx) swift(ctx context.Context, q string, each each, args ...any) error {
	if !t.single || t.q != nil {
		return t.query(ctx, q, each, args...)
	}
	if err := t.pipe(ctx, step{q, each, args}); !errors.Is(err, errNoPipe) {
		return err
	}
	return t.only(ctx, q, each, args...)
}

// pipe makes steps InOne's transaction, in one round trip; each has a snapshot of its own. What stands behind an error is not
// run.
func (t *tx) pipe(ctx context.Context, steps ...step) error {
	all := make([]step, 0, len(steps)+3)
	all = append(all, step{q: sqlBegin}, step{q: sqlPlan})
	for _, p := range steps {
		all = append(all, step{t.s.text(p.q), p.each, p.args})
	}
	err := t.s.send(ctx, append(all, step{q: sqlCommit}))
	t.spent = t.spent || err == nil
	return err
}

// send writes steps at once on a pooled connection, pgx's own below database/sql.
func (s *Store) send(ctx context.Context, steps []step) error {
	for try := 1; ; try++ {
		err := s.sendOnce(ctx, steps)
		if err == nil || try == 3 || !pgconn.SafeToRetry(err) || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Store) sendOnce(ctx context.Context, steps []step) error {
	c, err := s.db.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var failed error
	err = c.Raw(func(d any) error {
		pc, ok := d.(*stdlib.Conn)
		if !ok || !s.prepares(pc.Conn()) {
			return errNoPipe
		}
		if failed = sendAll(ctx, pc.Conn(), steps); failed != nil && pc.Conn().IsClosed() {
			return driver.ErrBadConn // database/sql forgets the connection
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// prepares tells whether the pool's connections keep prepared statements, which is pgx's default; Config copies much, so it is
// asked once.
func (s *Store) prepares(c *pgx.Conn) bool {
	s.pipes.once.Do(func() { s.pipes.prepares = c.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement })
	return s.pipes.prepares
}

// sendAll leaves c without a transaction, or closed.
func sendAll(ctx context.Context, c *pgx.Conn, steps []step) (err error) {
	b := &pgx.Batch{}
	for _, p := range steps {
		b.Queue(p.q, p.args...)
	}
	r := c.SendBatch(ctx, b)
	for _, p := range steps {
		if err = answer(r, p.each); err != nil {
			break
		}
	}
	if e := r.Close(); err == nil {
		err = e
	}
	if err == nil || c.IsClosed() || c.PgConn().TxStatus() == 'I' {
		return err
	}
	if _, e := c.Exec(context.WithoutCancel(ctx), `ROLLBACK`); e != nil {
		_ = c.Close(context.WithoutCancel(ctx))
	}
	return err
}

func answer(r pgx.BatchResults, each each) error {
	if each == nil {
		_, err := r.Exec()
		return err
	}
	rows, err := r.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
