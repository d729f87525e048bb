package lease_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
)

// TestMain lets the binary be one of its own worker processes.
func TestMain(m *testing.M) {
	if name := os.Getenv("DROVER_TEST_WORKER"); name != "" {
		if err := work(name, os.Getenv("DROVER_TEST_DSN"), os.Getenv("DROVER_TEST_TTL"), os.Getenv("DROVER_TEST_HOLD") != ""); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(fixture.Main(m))
}

const workerTables = `
CREATE TABLE guard (epoch bigint NOT NULL, next bigint NOT NULL); INSERT INTO guard VALUES (0, 0);
CREATE TABLE numbers (n bigint PRIMARY KEY, epoch bigint NOT NULL);
CREATE TABLE reigns (id bigserial PRIMARY KEY, epoch bigint NOT NULL, node text NOT NULL, pid int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE finished (due timestamptz PRIMARY KEY, epoch bigint NOT NULL);`

// worker leads, writes numbers under the guard, and runs a periodic task of the ledger.
type worker struct {
	name   string
	db     *bun.DB
	st     *postgres.Store
	hold   bool // leads until it is told to resign
	resign chan os.Signal
}

func work(name, dsn, ttl string, hold bool) error {
	db, err := postgres.Open(dsn, 4)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(ttl)
	if err != nil {
		return err
	}
	env := drover.Env{Node: name, Logger: quiet}
	w := &worker{name, db, postgres.New(db, postgres.Config{Env: env}), hold, make(chan os.Signal, 1)}
	signal.Notify(w.resign, syscall.SIGUSR1)
	s, err := lease.New(lease.Config{Env: env, Tx: w.st, Store: w.st.Leases(), Notify: w.st.Notifier(), TTL: d})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var g drover.Group
	g.Env = env
	g.Add("node", s)
	g.Add("leader", drover.Func(func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := lease.Lead(ctx, s, "x", w.reign); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, name, err)
			}
		}
		return nil
	}))
	if !hold {
		g.Add("periodic", drover.Func(func(ctx context.Context) error { return w.periodic(ctx, s) }))
	}
	return g.Run(ctx)
}

// reign takes the guard and writes some numbers.
func (w *worker) reign(ctx context.Context, tok lease.Token) error {
	next := int64(-1)
	for i := 0; w.hold || i < 1+rand.IntN(10); i++ {
		err := w.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if next < 0 {
				if err := tx.NewRaw(`UPDATE guard SET epoch = ? WHERE epoch < ? RETURNING next`, tok.Epoch, tok.Epoch).Scan(ctx, &next); err != nil {
					return err
				}
				_, err := tx.ExecContext(ctx, `INSERT INTO reigns (epoch, node, pid) VALUES (?, ?, ?)`, tok.Epoch, w.name, os.Getpid())
				return err
			}
			if w.hold {
				return nil
			}
			res, err := tx.ExecContext(ctx, `UPDATE guard SET next = next + 1 WHERE epoch = ? AND next = ?`, tok.Epoch, next)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); n == 0 || err != nil {
				return errors.Join(err, sql.ErrNoRows)
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO numbers (n, epoch) VALUES (?, ?)`, next, tok.Epoch)
			return err
		})
		if err != nil {
			return err // refused, or whether it is written is not known
		}
		if i > 0 {
			next++
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.resign:
			return nil
		case <-time.After(time.Duration(rand.IntN(10)) * time.Millisecond):
		}
	}
	return nil
}

// periodic finishes each due time once: with Done, in one transaction.
func (w *worker) periodic(ctx context.Context, s *lease.Session) error {
	l := lease.NewLedger(s, w.st.Ledger())
	for ctx.Err() == nil {
		due := time.Now().Truncate(100 * time.Millisecond)
		if epoch, _, err := l.Take(ctx, "gc", due); err == nil && epoch > 0 {
			_ = w.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				if err := w.st.Ledger().Done(ctx, w.st.Join(tx), "gc", epoch, "ok"); err != nil {
					return err // store.ErrConflict: the run is another's
				}
				_, err := tx.ExecContext(ctx, `INSERT INTO finished (due, epoch) VALUES (?, ?)`, due, epoch)
				if err != nil && !errors.Is(err, store.ErrConflict) {
					fmt.Fprintln(os.Stderr, w.name, "finished twice:", due, err)
				}
				return err
			})
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}
