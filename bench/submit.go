package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"

	"github.com/drover-cloud/drover/job"
)

// parallel runs f from 16 goroutines, n times in all, and gives the rate.
func parallel(n int, f func(i int) error) (float64, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 16)
	start := time.Now()
	for g := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n && errs[g] == nil; i = int(next.Add(1)) {
				errs[g] = f(i)
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds(), errors.Join(errs...)
}

// submitting measures a way to submit n jobs, and checks that they are there.
func submitting(n int, rate func(d *droverSide) (float64, error)) side {
	return func(ctx context.Context, dsn string) (float64, error) {
		d, err := newDrover(ctx, dsn, noWork, submitOnly)
		if err != nil {
			return 0, err
		}
		defer d.close()
		v, err := rate(d)
		if err != nil {
			return 0, err
		}
		return v, stored(d.db.QueryRowContext(ctx, "SELECT count(*) FROM drover_pend"), n)
	}
}

func inserting(n int, rate func(r *riverSide) (float64, error)) side {
	return func(ctx context.Context, dsn string) (float64, error) {
		r, err := newRiver(ctx, dsn, noWork, tunedRiver)
		if err != nil {
			return 0, err
		}
		defer r.close()
		v, err := rate(r)
		if err != nil {
			return 0, err
		}
		return v, stored(r.pool.QueryRow(ctx, "SELECT count(*) FROM river_job"), n)
	}
}

func stored(row interface{ Scan(...any) error }, n int) error {
	got := 0
	if err := row.Scan(&got); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%d of %d jobs are stored", got, n)
	}
	return nil
}

func p6(b *bench) (figures, error) {
	n := b.size(60_000, 20_000)
	ours := submitting(n, func(d *droverSide) (float64, error) {
		return parallel(n, func(i int) error {
			_, err := d.jobs.Submit(b.ctx, job.Request{Kind: "bench", Args: args{i}})
			return err
		})
	})
	theirs := inserting(n, func(r *riverSide) (float64, error) {
		return parallel(n, func(i int) error {
			_, err := r.client.Insert(b.ctx, riverArgs{i}, nil)
			return err
		})
	})
	got, err := b.byTurns(ours, theirs, b.limit(oneInsert(b.size(3, 2))))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1], limit: got[2]}, nil
}

// inBatches gives the rate at which f takes n jobs in batches of 10 000.
func inBatches(n int, f func(at, k int) error) (float64, error) {
	start := time.Now()
	for at := 0; at < n; at += 10_000 {
		if err := f(at, min(10_000, n-at)); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func p7(b *bench) (figures, error) {
	n := b.size(400_000, 100_000)
	ours := submitting(n, func(d *droverSide) (float64, error) {
		return inBatches(n, func(at, k int) error {
			rs := make([]job.Request, k)
			for i := range rs {
				rs[i] = job.Request{Kind: "bench", Args: args{at + i}}
			}
			got, err := d.jobs.SubmitMany(b.ctx, rs)
			if err == nil && (len(got) != k || got[k-1].ID == "") {
				return errors.New("a batch was answered without its ids")
			}
			return err
		})
	})
	theirs := inserting(n, func(r *riverSide) (float64, error) {
		return inBatches(n, func(at, k int) error {
			params := make([]river.InsertManyParams, k)
			for i := range params {
				params[i].Args = riverArgs{at + i}
			}
			_, err := r.client.InsertMany(b.ctx, params)
			return err
		})
	})
	fast := inserting(n, func(r *riverSide) (float64, error) {
		return inBatches(n, func(at, k int) error { return r.insert(b.ctx, at, k) })
	})
	got, err := b.byTurns(ours, theirs, fast, b.limit(insertSelect(n)))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1], limit: got[3], more: map[string]float64{"River InsertManyFast jobs/s": median(got[2])}}, nil
}
