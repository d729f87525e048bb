package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/postgres"
)

// replaced is the exit code of a worker whose name another one has taken: it must end.
const replaced = 3

// worker is one process that is going to be killed.
type worker struct {
	cfg    workerConfig
	store  *postgres.Store
	host   hostDB
	ledger *ledger
	runs   atomic.Int64
	mu     sync.Mutex
	rand   *rand.Rand
}

// work is the main function of a worker process. It ends when its standard input does: its parent has gone.
func work(config string) int {
	w := &worker{}
	if err := json.Unmarshal([]byte(config), &w.cfg); err != nil {
		fmt.Fprintln(os.Stderr, "chaos worker:", err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := w.run(ctx)
	switch {
	case errors.Is(err, lease.ErrLost) && ctx.Err() == nil:
		return replaced
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos worker", w.cfg.Name, err)
		return 1
	}
	return 0
}

func (w *worker) run(ctx context.Context) error {
	w.rand = rand.New(rand.NewPCG(w.cfg.Seed, 2))
	book, err := postgres.Open(w.cfg.Ledger, 2)
	if err != nil {
		return err
	}
	defer book.Close()
	w.ledger = openLedger(book.DB, w.cfg.Name)
	refused := newRefusals(w.ledger)
	env := drover.Env{Node: w.cfg.Name, Logger: slog.New(refused)}
	if w.cfg.Asleep {
		env.Clock = newAsleep()
	}
	db, err := postgres.Open(w.cfg.Store, 5)
	if err != nil {
		return err
	}
	defer db.Close()
	w.host = db
	w.store = postgres.New(db, postgres.Config{Env: env})
	session, err := lease.New(lease.Config{Env: env, Tx: w.store, Store: w.store.Leases(), Notify: w.store.Notifier(), TTL: w.cfg.Lease})
	if err != nil {
		return err
	}
	m, err := job.New(job.Config{
		Env: env, DB: w.store, Session: session, Queues: map[string]int{"default": w.cfg.Slots},
		Poll: 250 * time.Millisecond, StopTimeout: 5 * time.Second,
	})
	if err != nil {
		return err
	}
	job.Handle(m, kind, w.handler(m), kindOptions...)
	g := drover.Group{Env: env}
	g.Add("session", session, drover.ReadyTimeout(time.Minute))
	g.Add("jobs", m)
	err = g.Run(ctx)
	refused.close()
	return err
}

// draw is a random duration below d.
func (w *worker) draw(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rand.Int64N(int64(d)))
}
