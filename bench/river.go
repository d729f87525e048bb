package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverArgs is the trivial job on River's side.
type riverArgs struct {
	Num int `json:"num"`
}

// Kind names it.
func (riverArgs) Kind() string { return "bench" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	work work
}

func (w *riverWorker) Work(ctx context.Context, j *river.Job[riverArgs]) error {
	return w.work(ctx, j.Args.Num)
}

// riverSide is River on a fresh database.
type riverSide struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

// tunedRiver are the settings of River's own benchmark command.
func tunedRiver(c *river.Config) {
	c.FetchCooldown, c.FetchPollInterval = 2*time.Millisecond, 20*time.Millisecond
	c.Queues[river.QueueDefault] = river.QueueConfig{MaxWorkers: 2_000}
}

// newRiver opens River, which leaves 100 workers to its user; drover's default is 100, too.
func newRiver(ctx context.Context, dsn string, w work, tune ...func(*river.Config)) (*riverSide, error) {
	pool, err := openPool(ctx, dsn)
	if err != nil {
		return nil, err
	}
	driver := riverpgxv5.New(pool)
	m, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	all := river.NewWorkers()
	river.AddWorker(all, &riverWorker{work: w})
	rc := &river.Config{
		Logger:  slog.New(slog.DiscardHandler),
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		Workers: all,
	}
	for _, t := range tune {
		t(rc)
	}
	client, err := river.NewClient(driver, rc)
	if err != nil {
		return nil, err
	}
	return &riverSide{pool, client}, nil
}

func openPool(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = conns
	return pgxpool.NewWithConfig(ctx, cfg)
}

func (r *riverSide) close() { r.pool.Close() }

// insert puts in k jobs numbered from at.
func (r *riverSide) insert(ctx context.Context, at, k int) error {
	params := make([]river.InsertManyParams, k)
	for i := range params {
		params[i].Args = riverArgs{Num: at + i}
	}
	_, err := r.client.InsertManyFast(ctx, params)
	return err
}

func (r *riverSide) fill(ctx context.Context, n int) error {
	for at := 0; at < n; at += 10_000 {
		if err := r.insert(ctx, at, min(10_000, n-at)); err != nil {
			return err
		}
	}
	_, err := r.pool.Exec(ctx, "VACUUM ANALYZE river_job")
	return err
}

// completed checks that River, too, has kept n results.
func (r *riverSide) completed(ctx context.Context, n int) error {
	stored := 0
	if err := r.pool.QueryRow(ctx, "SELECT count(*) FROM river_job WHERE state = 'completed'").Scan(&stored); err != nil {
		return err
	}
	if stored != n {
		return fmt.Errorf("%d of %d River jobs are stored as completed", stored, n)
	}
	return nil
}

// riverWork measures how fast n waiting jobs are worked, in jobs per second: until the last is stored as completed.
func riverWork(n int, tune ...func(*river.Config)) side {
	return func(ctx context.Context, dsn string) (float64, error) {
		var worked atomic.Int64
		r, err := newRiver(ctx, dsn, func(context.Context, int) error { worked.Add(1); return nil }, tune...)
		if err != nil {
			return 0, err
		}
		defer r.close()
		if err := r.fill(ctx, n); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := r.client.Start(ctx); err != nil {
			return 0, err
		}
		err = reaches(ctx, &worked, n)
		if err := errors.Join(err, r.client.Stop(ctx)); err != nil { // completes what is pending
			return 0, err
		}
		took := time.Since(start)
		return float64(n) / took.Seconds(), r.completed(ctx, n)
	}
}
