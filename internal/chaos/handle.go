package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/job"
)

const kind = "chaos"

var kindOptions = []job.HandleOption{
	job.MaxLost(10_000), job.Timeout(10 * time.Minute),
	job.Retry(func() backoff.BackOff { return backoff.NewConstantBackOff(20 * time.Millisecond) }, 100),
}

// args of a job; Mode says what its handler does besides working.
type args struct {
	N      int64  `json:"n"`
	Mode   string `json:"mode,omitempty"`
	Parent string `json:"parent,omitempty"` // of a child, with the epoch of the run that made it
	Epoch  int64  `json:"epoch,omitempty"`
}

// modes and how many of 1000 jobs have each; the others only work.
var modes = []struct {
	name string
	of   int
}{
	{"child", 10},  // submits a job of its own and parks until that is final
	{"park", 10},   // parks until it is woken
	{"again", 10},  // gives way once
	{"fail", 10},   // fails once
	{"cancel", 20}, // is cancelled while it runs
	{"tx", 50},     // its outcome is sealed beside a row of the host's
	{"note", 50},   // writes a step, a journal row and its progress
}

// done is a job's result: which run it comes from.
type done struct {
	Epoch int64 `json:"epoch"`
}

type hostDB interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (bun.Tx, error)
}

var errOnce = errors.New("fails once")

// storeError is what a handler could not write.
type storeError struct{ error }

func away(err error) error {
	if err == nil {
		return nil
	}
	return storeError{err}
}

func (w *worker) handler(m *job.Manager) func(context.Context, args) (done, error) {
	return func(ctx context.Context, a args) (d done, err error) {
		j, _ := job.FromContext(ctx)
		d.Epoch = job.Token(ctx).Epoch
		run := fmt.Sprint(w.cfg.Name, "/", w.cfg.Seed, "/", w.runs.Add(1))
		if err := w.ledger.started(ctx, run, j.ID, d.Epoch); err != nil {
			return d, err
		}
		defer w.ledger.ended(run)
		w.toil(ctx, j, a, d.Epoch)
		err = w.act(ctx, m, j, a, d.Epoch)
		if away := (storeError{}); errors.As(err, &away) {
			err = job.Again(20 * time.Millisecond) // or this run is cancelled or superseded
		}
		return d, err
	}
}

// toil works, with no regard for ctx in every second job: such a run stays about until it is fenced. A run that took over
// works until well after a frozen one before it was woken, so that the two meet.
func (w *worker) toil(ctx context.Context, j *job.Job, a args, epoch int64) {
	d := w.draw(4 * time.Millisecond)
	if j.Lost > 0 {
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil && w.ledger.frozenBefore(ctx, j.ID, epoch); {
			time.Sleep(30 * time.Millisecond)
		}
		d = w.draw(500 * time.Millisecond)
	}
	if a.N%2 == 0 {
		time.Sleep(d)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *worker) act(ctx context.Context, m *job.Manager, j *job.Job, a args, epoch int64) error {
	switch a.Mode {
	case "child":
		child, err := m.Submit(ctx, job.Request{Kind: kind, Name: "child", Args: args{N: a.N, Parent: j.ID, Epoch: epoch}})
		if err != nil {
			return away(err)
		}
		_, err = job.Await[done](ctx, child.ID) // parks, unless it is final
		return err
	case "park":
		if len(j.Wakes) > 0 {
			return nil
		}
		if err := w.ledger.write(ctx, `INSERT INTO chaos_wish VALUES ($1, true)`, j.ID); err != nil {
			return away(err)
		}
		return job.Park(job.OnTopic("chaos/" + j.ID))
	case "again":
		if j.Runs == 1 {
			return job.Again(20 * time.Millisecond)
		}
	case "fail":
		if j.Attempt == 0 {
			return errOnce
		}
	case "cancel":
		return away(w.waitForCancel(ctx, j.ID))
	case "tx":
		return away(w.sealed(ctx, j.ID, epoch))
	case "note":
		return away(w.notes(ctx, epoch))
	}
	return nil
}

// waitForCancel asks for it, and succeeds if none comes.
func (w *worker) waitForCancel(ctx context.Context, id string) error {
	if err := w.ledger.write(ctx, `INSERT INTO chaos_wish VALUES ($1, false)`, id); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(2 * time.Second):
		return nil
	}
}

// sealed writes the host's row and the job's outcome in one transaction.
func (w *worker) sealed(ctx context.Context, id string, epoch int64) error {
	tx, err := w.host.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `INSERT INTO chaos_effect (job, epoch) VALUES (?, ?)`, id, epoch); err != nil {
		return err
	}
	if err := job.FinishTx(ctx, w.store.Join(tx), done{epoch}); err != nil {
		return err
	}
	return tx.Commit()
}

func (w *worker) notes(ctx context.Context, epoch int64) error {
	if _, err := job.Step(ctx, "chaos", func(context.Context) (int64, error) { return epoch, nil }); err != nil {
		return err
	}
	if err := job.Note(ctx, "chaos", nil); err != nil {
		return err
	}
	return job.Report(ctx, job.Progress{Percent: 50})
}
