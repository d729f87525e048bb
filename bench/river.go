package main

import (
	"context"
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
	work func(num int)
}

func (w *riverWorker) Work(_ context.Context, j *river.Job[riverArgs]) error {
	w.work(j.Args.Num)
	return nil
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

func newRiver(ctx context.Context, dsn string, work func(num int), tune ...func(*river.Config)) (*riverSide, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
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
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{work: work})
	rc := &river.Config{
		Logger:  slog.New(slog.DiscardHandler),
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		Workers: workers,
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

func (r *riverSide) close() { r.pool.Close() }

// fill inserts n jobs.
func (r *riverSide) fill(ctx context.Context, n int) error {
	for at := 0; at < n; at += 10_000 {
		params := make([]river.InsertManyParams, min(10_000, n-at))
		for i := range params {
			params[i].Args = riverArgs{Num: at + i}
		}
		if _, err := r.client.InsertManyFast(ctx, params); err != nil {
			return err
		}
	}
	_, err := r.pool.Exec(ctx, "VACUUM ANALYZE river_job")
	return err
}

// riverWork measures how fast n waiting jobs are worked, in jobs per second: until the last is stored as completed.
func riverWork(n int, tune ...func(*river.Config)) side {
	return func(ctx context.Context, dsn string) (float64, error) {
		var worked atomic.Int64
		r, err := newRiver(ctx, dsn, func(int) { worked.Add(1) }, tune...)
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
		for worked.Load() < int64(n) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			time.Sleep(time.Millisecond)
		}
		if err := r.client.Stop(ctx); err != nil { // completes what is pending
			return 0, err
		}
		return float64(n) / time.Since(start).Seconds(), nil
	}
}
