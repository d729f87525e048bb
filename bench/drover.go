package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/syncqueue"
)

// args is the trivial job on drover's side.
type args struct {
	Num int `json:"num"`
}

// droverSide is drover on a fresh database.
type droverSide struct {
	sql  *sql.DB
	jobs *job.Manager
	done sync.WaitGroup
	stop context.CancelFunc
	err  error
}

// tuned matches River's benchmark settings: 2 000 workers, larger batches.
func tuned(c *job.Config) {
	c.Queues = map[string]int{"default": 2_000}
	c.ClaimBatch, c.FinishBatch = 1_000, 1_000
}

func newDrover(ctx context.Context, dsn string, work func(num int), tune ...func(*job.Config)) (*droverSide, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	st := postgres.New(bun.NewDB(db, pgdialect.New()), postgres.Config{})
	if err := st.Migrate(ctx); err != nil {
		return nil, err
	}
	jc := job.Config{DB: st}
	for _, t := range tune {
		t(&jc)
	}
	m, err := job.New(jc)
	if err != nil {
		return nil, err
	}
	job.Handle(m, "bench", func(_ context.Context, a args) (struct{}, error) {
		work(a.Num)
		return struct{}{}, nil
	})
	return &droverSide{sql: db, jobs: m}, nil
}

// start runs the manager; finish stops it after what runs is stored.
func (d *droverSide) start(ctx context.Context) {
	ctx, d.stop = context.WithCancel(ctx)
	d.done.Go(func() { d.err = d.jobs.Run(ctx) })
}

func (d *droverSide) finish() error {
	if d.stop != nil {
		d.stop()
		d.done.Wait()
	}
	return d.err
}

func (d *droverSide) close() { d.sql.Close() }

// fill submits n jobs in batches of 10 000; key gives the turn they take.
func (d *droverSide) fill(ctx context.Context, n int, key func(i int) syncqueue.Key) error {
	for at := 0; at < n; at += 10_000 {
		rs := make([]job.Request, min(10_000, n-at))
		for i := range rs {
			rs[i] = job.Request{Kind: "bench", Args: args{at + i}}
			if key != nil {
				rs[i].Sync = key(at + i)
			}
		}
		if _, err := d.jobs.SubmitMany(ctx, rs); err != nil {
			return err
		}
	}
	_, err := d.sql.ExecContext(ctx, "VACUUM ANALYZE")
	return err
}

// droverWork measures how fast n waiting jobs are worked, in jobs per second: until the last is stored as succeeded.
// check, if not nil, is asked afterwards.
func droverWork(n int, key func(i int) syncqueue.Key, seen func(num int), tune ...func(*job.Config)) side {
	return func(ctx context.Context, dsn string) (v float64, err error) {
		var worked atomic.Int64
		d, err := newDrover(ctx, dsn, func(num int) {
			if seen != nil {
				seen(num)
			}
			worked.Add(1)
		}, tune...)
		if err != nil {
			return 0, err
		}
		defer d.close()
		if err := d.fill(ctx, n, key); err != nil {
			return 0, err
		}
		start := time.Now()
		d.start(ctx)
		for worked.Load() < int64(n) {
			if err := ctx.Err(); err != nil {
				return 0, errors.Join(err, d.finish())
			}
			time.Sleep(time.Millisecond)
		}
		if err := d.finish(); err != nil {
			return 0, err
		}
		v = float64(n) / time.Since(start).Seconds()
		return v, d.allStored(ctx, n)
	}
}

// allStored checks that every job succeeded, once: a rate of lost jobs is none.
func (d *droverSide) allStored(ctx context.Context, n int) error {
	stored := 0
	if err := d.sql.QueryRowContext(ctx, "SELECT count(*) FROM drover_done").Scan(&stored); err != nil {
		return err
	}
	if stored != n {
		return fmt.Errorf("%d of %d jobs are stored as done", stored, n)
	}
	return nil
}
