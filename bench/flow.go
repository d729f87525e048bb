package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/job"
)

const (
	flowSteps   = 3
	flowWorkers = 2_000
)

var stepNames = [flowSteps]string{"one", "two", "three"}

// p14 works workflows of three steps that wait in a queue; each step's value and the sum of them are stored.
func p14(b *bench) (figures, error) {
	n := b.size(10_000, 3_000)
	got, err := b.byTurns(droverFlows(n), dbosQueued(n), dbosDirect(n), b.limit(fourCommits(b.size(3, 2))))
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], alternative: got[1], limit: got[3], more: map[string]float64{
		"DBOS direct flows/s": median(got[2]), "ratio to DBOS direct": median(got[0]) / median(got[2]),
	}}, nil
}

func droverFlows(n int) side {
	return func(ctx context.Context, dsn string) (float64, error) {
		var worked atomic.Int64
		d, err := openDrover(ctx, dsn)
		if err != nil {
			return 0, err
		}
		defer d.close()
		if d.jobs, err = job.New(job.Config{DB: d.store, Queues: map[string]int{"default": flowWorkers}}); err != nil {
			return 0, err
		}
		job.Handle(d.jobs, "bench", func(ctx context.Context, a args) (int, error) {
			sum := 0
			for i, name := range stepNames {
				v, err := job.Step(ctx, name, func(context.Context) (int, error) { return a.Num + i, nil })
				if err != nil {
					return 0, err
				}
				sum += v
			}
			worked.Add(1)
			return sum, nil
		})
		if err := d.fill(ctx, n, nil); err != nil {
			return 0, err
		}
		start := time.Now()
		d.start(ctx)
		if err := errors.Join(reaches(ctx, &worked, n), d.finish()); err != nil {
			return 0, err
		}
		took := time.Since(start)
		return float64(n) / took.Seconds(), errors.Join(d.succeeded(ctx, n), d.steps(ctx, n))
	}
}

// steps checks that every step of n workflows is stored.
func (d *droverSide) steps(ctx context.Context, n int) error {
	got := 0
	if err := d.db.QueryRowContext(ctx, "SELECT count(*) FROM drover_step").Scan(&got); err != nil {
		return err
	}
	if got != flowSteps*n {
		return fmt.Errorf("%d of %d steps are stored", got, flowSteps*n)
	}
	return nil
}
