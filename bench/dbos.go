package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5"
)

const (
	dbosApp, dbosQueue, dbosFlow = "bench", "bench", "flow"

	dbosStop = 30 * time.Second
)

// dbosSide is DBOS on a fresh database, with a workflow of three steps.
type dbosSide struct {
	dsn    string
	ctx    dbos.Context
	worked atomic.Int64
}

// newDBOS leaves the pool to DBOS: it makes one of 20 connections, as large as the others'.
func newDBOS(ctx context.Context, dsn string) (d *dbosSide, err error) {
	d = &dbosSide{dsn: dsn}
	d.ctx, err = dbos.NewContext(ctx, dbos.Config{AppName: dbosApp, DatabaseURL: dsn, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	dbos.RegisterWorkflow(d.ctx, d.flow, dbos.WithWorkflowName(dbosFlow))
	return d, nil
}

func (d *dbosSide) close() error { return dbos.Shutdown(d.ctx, dbosStop) }

func (d *dbosSide) flow(ctx dbos.Context, num int) (int, error) {
	sum := 0
	for i := range flowSteps {
		v, err := dbos.RunAsStep(ctx, func(context.Context) (int, error) { return num + i, nil }, dbos.WithStepName(stepNames[i]))
		if err != nil {
			return 0, err
		}
		sum += v
	}
	d.worked.Add(1)
	return sum, nil
}

// enqueue puts n workflows into the queue, without running any.
func (d *dbosSide) enqueue(ctx context.Context, n int) (err error) {
	c, err := dbos.NewClient(ctx, dbos.ClientConfig{AppName: dbosApp, DatabaseURL: d.dsn, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dbos.Shutdown(c, dbosStop)) }()
	if _, err := dbos.RegisterQueue(c, dbosQueue, dbos.WithWorkerConcurrency(flowWorkers), dbos.WithQueueBasePollingInterval(time.Millisecond)); err != nil {
		return err
	}
	_, err = parallel(n, func(i int) error {
		_, err := dbos.Enqueue[int](c, dbosQueue, dbosFlow, i, dbos.WithEnqueueApplicationVersion(dbos.GetApplicationVersion(d.ctx)))
		return err
	})
	return err
}

// succeeded waits until n workflows and their steps are stored.
func (d *dbosSide) succeeded(ctx context.Context, n int) error {
	if err := reaches(ctx, &d.worked, n); err != nil {
		return err
	}
	c, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for range 5_000 {
		flows := 0
		if err := c.QueryRow(ctx, "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'").Scan(&flows); err != nil {
			return err
		}
		if flows == n {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("DBOS has not stored %d workflows", n)
}

// dbosQueued measures how fast n workflows in a queue are worked.
func dbosQueued(n int) side {
	return func(ctx context.Context, dsn string) (v float64, err error) {
		d, err := newDBOS(ctx, dsn)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		if err := d.enqueue(ctx, n); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := dbos.Launch(d.ctx); err != nil {
			return 0, err
		}
		if err := d.succeeded(ctx, n); err != nil {
			return 0, err
		}
		return float64(n) / time.Since(start).Seconds(), nil
	}
}

// dbosDirect measures workflows run in place by callers who wait for them, without a queue.
func dbosDirect(n int) side {
	return func(ctx context.Context, dsn string) (v float64, err error) {
		d, err := newDBOS(ctx, dsn)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		if err := dbos.Launch(d.ctx); err != nil {
			return 0, err
		}
		v, err = parallel(n, func(i int) error {
			h, err := dbos.RunWorkflow(d.ctx, d.flow, i)
			if err != nil {
				return err
			}
			_, err = h.GetResult()
			return err
		})
		if err != nil {
			return 0, err
		}
		return v, d.succeeded(ctx, n)
	}
}
