package postgres_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// worker claims, finishes, retries, parks, gives turns up, and dies.
type worker struct {
	*stress
	name string
	tok  lease.Token
	r    *rand.Rand
	held []job.Row
}

func (w *worker) open() {
	w.in(func(ctx context.Context, tx store.Tx) (err error) {
		w.tok, err = w.Leases().Open(ctx, tx, lease.Info{Name: w.name, State: lease.Active}, w.name, time.Hour)
		return err
	})
}

func (w *worker) claim(n int) job.Claim {
	return job.Claim{Session: w.tok, Kinds: []string{"k"}, Free: map[string]int{"q": n, "q2": n}, Max: n, Oldest: w.r.IntN(10) == 0}
}

// oneOrIn is how this call is made: as a manager does, which lets it go in one round trip, or inside a transaction.
func (w *worker) oneOrIn(what string) func(f func(ctx context.Context, tx store.Tx) error) {
	if w.r.IntN(2) == 0 || !strings.Contains(os.Getenv("ONE"), what) {
		return w.in
	}
	return func(f func(ctx context.Context, tx store.Tx) error) { w.ok(w.InOne(context.Background(), f)) }
}

func (w *worker) round(last bool) {
	var got job.Claimed
	w.oneOrIn("claim")(func(ctx context.Context, tx store.Tx) (err error) {
		got, err = w.Jobs().Claim(ctx, tx, w.claim(1+w.r.IntN(20)))
		return err
	})
	w.enter(got.Rows)
	w.held = append(w.held, got.Rows...)
	w.ops.Add(1)
	if !last && w.r.IntN(60) == 0 {
		w.die()
		return
	}
	w.r.Shuffle(len(w.held), func(i, k int) { w.held[i], w.held[k] = w.held[k], w.held[i] })
	n := w.r.IntN(len(w.held) + 1)
	if last {
		n = len(w.held)
	}
	if n == 0 {
		return
	}
	out := w.held[:n:n]
	w.held = append([]job.Row(nil), w.held[n:]...)
	w.leave(out)
	w.finish(out, last)
}

func (w *worker) finish(out []job.Row, last bool) {
	var ms []job.Move
	var turns []job.Turn
	final := int64(0)
	last = last || w.r.IntN(2) == 0 // a batch that may go in one round trip
	for _, r := range out {
		if r.Turn {
			turns = append(turns, job.Turn{Key: r.Sync, Place: r.Place})
		} else {
			turns = append(turns, job.Turn{})
		}
		m := job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch}
		_, inOrder := ordered(r.Sync)
		switch x := w.r.IntN(20); {
		case last || x > 3:
			final++
		case x < 2:
			m.To, m.Attempt, m.RunAt = job.Scheduled, r.Attempt+1, time.Now().Add(time.Duration(w.r.IntN(20)-10)*time.Millisecond)
			w.retried.Add(1)
		case x == 2:
			m.To, m.Free = job.Parked, !inOrder && w.r.IntN(2) == 0
		default:
			m.To = job.Ready
		}
		ms = append(ms, m)
	}
	var got job.Finished
	start := w.claim(w.r.IntN(len(ms) + 1))
	w.oneOrIn("finish")(func(ctx context.Context, tx store.Tx) (err error) {
		got, err = w.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: ms, Start: start, Turns: turns})
		return err
	})
	for i, done := range got.Done {
		if !done {
			w.Errorf("finish of %s to %s refused", ms[i].ID, ms[i].To)
		}
	}
	w.ended.Add(final)
	w.enter(got.Started)
	w.held = append(w.held, got.Started...)
	w.ops.Add(int64(len(ms)))
}

// die: the session is replaced, its jobs are swept, and its late finishes must be refused.
func (w *worker) die() {
	lost := w.held
	w.held = nil
	old := w.tok
	w.leave(lost) // from here on the store may give them to others
	w.open()
	for left := true; left && !w.Failed(); {
		w.sweep()
		w.in(func(ctx context.Context, tx store.Tx) error {
			found, err := w.Jobs().List(ctx, tx, job.Find{Sessions: []int64{old.Epoch}})
			left = len(found.Rows) > 0
			return err
		})
	}
	var ms []job.Move
	for _, r := range lost {
		ms = append(ms, job.Move{ID: r.ID, From: job.Running, To: job.Failed, Epoch: r.Epoch})
	}
	w.oneOrIn("finish")(func(ctx context.Context, tx store.Tx) error {
		got, err := w.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: ms, Turns: make([]job.Turn, len(ms))})
		for i, done := range got.Done {
			if done {
				w.Errorf("stale finish of %s accepted", ms[i].ID)
			}
		}
		return err
	})
}
