package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// all finishes rows as a manager does, knowing their turns, and tells whether that was one round trip: then the call stood for
// itself, and no second one is taken.
func (h *host) all(rows []job.Row) (f job.Finished, once bool) {
	h.t.Helper()
	var ms []job.Move
	var turns []job.Turn
	for _, r := range rows {
		ms = append(ms, job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch})
		turns = append(turns, job.Turn{Key: r.Sync, Place: r.Place})
	}
	err := h.InOne(context.Background(), func(ctx context.Context, tx store.Tx) (err error) {
		start := job.Claim{Session: h.tok, Kinds: []string{"k"}, Free: map[string]int{"q": 9}, Max: 9}
		if f, err = h.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: ms, Start: start, Turns: turns}); err != nil {
			return err
		}
		_, err = h.Jobs().List(ctx, tx, job.Find{IDs: []string{rows[0].ID}})
		once = err != nil
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return f, once
}

func (h *host) move(ms ...job.Move) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) error {
		done, err := h.Jobs().Move(ctx, tx, ms)
		if err == nil && !done[0] {
			err = errors.New("refused")
		}
		return err
	})
}

// TestFinishAll: what a batch of ends in one round trip cannot do is undone and done step by step.
func TestFinishAll(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, f job.Finished, once, wantOnce bool, done, started int) {
		t.Helper()
		n := 0
		for _, d := range f.Done {
			if d {
				n++
			}
		}
		if once != wantOnce || n != done || len(f.Started) != started {
			t.Fatalf("in one round trip %v, %d done, %d started; want %v, %d, %d", once, n, len(f.Started), wantOnce, done, started)
		}
	}
	t.Run("plain", func(t *testing.T) {
		h := newHost(t)
		h.insert(newRow("1"), newRow("1"), newRow("2"), newRow("2"), newRow(""))
		f, once := h.all(h.claim(9))
		check(t, f, once, true, 3, 2)
		f, once = h.all(f.Started)
		check(t, f, once, true, 2, 0)
	})
	t.Run("refused", func(t *testing.T) {
		h := newHost(t)
		h.insert(newRow("1"), newRow("1"), newRow("2"))
		rows := h.claim(9)
		rows[0].Epoch++
		f, once := h.all(rows)
		check(t, f, once, false, 1, 0)
	})
	t.Run("repeated", func(t *testing.T) {
		h := newHost(t)
		h.insert(newRow("1"), newRow("1"))
		rows := h.claim(9)
		h.all(rows)
		f, once := h.all(rows)
		check(t, f, once, false, 1, 0)
	})
	t.Run("turn given up", func(t *testing.T) {
		h := newHost(t)
		h.insert(newRow("1"), newRow("1"), newRow("2"))
		rows := h.claim(9)
		h.move(job.Move{ID: rows[0].ID, From: job.Running, To: job.Running, Epoch: rows[0].Epoch, Free: true})
		f, once := h.all(rows)
		check(t, f, once, false, 2, 0)
		if rows := h.claim(9); len(rows) != 1 {
			t.Fatalf("%d claimed, want the next in line", len(rows))
		}
	})
	t.Run("joined", func(t *testing.T) {
		h := newHost(t)
		h.insert(newRow("1"))
		h.insert(newRow("2"))
		rows := h.claim(9)
		h.move(job.Move{ID: rows[0].ID, From: job.Running, To: job.Parked, Epoch: rows[0].Epoch, Park: &job.Parking{Jobs: []string{rows[1].ID}}})
		f, once := h.all(rows[1:])
		check(t, f, once, false, 1, 0)
		if !f.Awaited {
			t.Fatal("not told that it was awaited")
		}
	})
	t.Run("two turns of a key", func(t *testing.T) {
		h := newHost(t)
		h.in(func(ctx context.Context, tx store.Tx) error {
			_, err := h.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: 2}}})
			return err
		})
		h.insert(newRow("1"), newRow("1"), newRow("1"), newRow("1"))
		rows := h.claim(9)
		if len(rows) != 2 {
			t.Fatalf("%d claimed", len(rows))
		}
		f, once := h.all(rows)
		check(t, f, once, false, 2, 2)
	})
	t.Run("head locked", func(t *testing.T) {
		h := newHost(t)
		first, second, third := newRow("1"), newRow("1"), newRow("1")
		h.insert(first, second, third)
		rows := h.claim(9)
		tx, err := h.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Jobs().Move(t.Context(), h.Join(tx), []job.Move{{ID: second.ID, From: job.Waiting, To: job.Cancelled}}); err != nil {
			t.Fatal(err)
		}
		f, once := h.all(rows)
		check(t, f, once, false, 1, 0)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if h.next()[0].ID != third.ID {
			t.Fatal("not the next in line")
		}
	})
}
