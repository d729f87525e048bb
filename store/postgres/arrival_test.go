package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// other is a transaction that locks the first waiter of a line, and what becomes of that waiter if it commits.
type other struct {
	name  string
	lock  func(h *host, tx bun.Tx, w job.Row)
	leave bool // the line
}

func (h *host) moveIn(tx bun.Tx, m job.Move) {
	h.t.Helper()
	if _, err := h.Jobs().Move(h.t.Context(), h.Join(tx), []job.Move{m}); err != nil {
		h.t.Error(err)
	}
}

var others = []other{
	{name: "row lock", lock: func(h *host, tx bun.Tx, w job.Row) { h.lockRow(tx, w) }},
	{name: "cancel", leave: true, lock: func(h *host, tx bun.Tx, w job.Row) {
		h.moveIn(tx, job.Move{ID: w.ID, From: job.Waiting, To: job.Cancelled, Epoch: w.Epoch})
	}},
	{name: "hold", leave: true, lock: func(h *host, tx bun.Tx, w job.Row) {
		h.moveIn(tx, job.Move{ID: w.ID, From: job.Waiting, To: job.Parked, Epoch: w.Epoch})
	}},
	{name: "priority", lock: func(h *host, tx bun.Tx, w job.Row) {
		p := 5
		h.moveIn(tx, job.Move{ID: w.ID, From: job.Waiting, To: job.Waiting, Epoch: w.Epoch, Priority: &p})
	}},
	{name: "refused move", lock: func(h *host, tx bun.Tx, w job.Row) {
		h.moveIn(tx, job.Move{ID: w.ID, From: job.Scheduled, To: job.Cancelled, Epoch: w.Epoch})
	}},
	{name: "signal", lock: func(h *host, tx bun.Tx, w job.Row) {
		if _, err := h.Jobs().Signal(h.t.Context(), h.Join(tx), job.Signal{Topic: job.JobTopic(w.ID)}); err != nil {
			h.t.Error(err)
		}
	}},
	{name: "reorder", lock: func(h *host, tx bun.Tx, w job.Row) {
		if _, err := h.Queues().Move(h.t.Context(), h.Join(tx), syncqueue.Move{Seq: w.Seq}); err != nil {
			h.t.Error(err)
		}
	}},
	{name: "join", lock: func(h *host, tx bun.Tx, w job.Row) {
		joiner := newRow("")
		joiner.Sync = syncqueue.Key{}
		h.insert(joiner)
		for _, r := range h.claim(1) {
			h.moveIn(tx, job.Move{ID: r.ID, From: job.Running, To: job.Parked, Epoch: r.Epoch, Park: &job.Parking{Jobs: []string{w.ID}}})
		}
	}},
}

func (h *host) lockRow(tx bun.Tx, w job.Row) {
	h.t.Helper()
	if _, err := tx.Exec(`SELECT 1 FROM drover.drover_pend WHERE id = ? FOR UPDATE`, w.ID); err != nil {
		h.t.Error(err)
	}
}

func (h *host) begin() bun.Tx {
	h.t.Helper()
	tx, err := h.db.BeginTx(h.t.Context(), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func (h *host) end(tx bun.Tx, commit bool) {
	h.t.Helper()
	end := tx.Rollback
	if commit {
		end = tx.Commit
	}
	if err := end(); err != nil {
		h.t.Error(err)
	}
}

func (h *host) limit(k syncqueue.Key, p syncqueue.Policy) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) error {
		_, err := h.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: k.Kind, Policy: p}})
		return err
	})
}

func (h *host) unforgotten(when string) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) error {
		n, err := h.Queues().Audit(ctx, tx, 100)
		if n > 0 {
			h.t.Errorf("%s: a line is forgotten", when)
		}
		return err
	})
}

// next claims until something starts: rounds of a node, of which only every so many look at lines left.
func (h *host) next() []job.Row {
	h.t.Helper()
	for range 1000 {
		if rows := h.claim(9); len(rows) > 0 {
			return rows
		}
	}
	h.t.Fatal("nothing starts any more")
	return nil
}

// TestLockedHead: a turn comes free while another transaction has locked who stands first in its line, by hand and in every order:
// the turn is neither waited for nor forgotten, whether that transaction commits or goes back.
func TestLockedHead(t *testing.T) {
	t.Parallel()
	frees := []struct {
		name   string
		limit  int
		bare   bool // only beside transactions that did not read the rules: it waits for the others
		before func(h *host, k syncqueue.Key)
		free   func(h *host, holder job.Row)
	}{
		{name: "finish", limit: 1, free: func(h *host, r job.Row) { h.finish([]job.Row{r}) }},
		{name: "finish one of two", limit: 2, free: func(h *host, r job.Row) { h.finish([]job.Row{r}) }},
		{name: "release", limit: 2, free: func(h *host, r job.Row) {
			h.in(func(ctx context.Context, tx store.Tx) error {
				_, err := h.Jobs().Move(ctx, tx, []job.Move{{ID: r.ID, From: job.Running, To: job.Running, Epoch: r.Epoch, Free: true}})
				return err
			})
		}},
		{name: "raise", limit: 1, bare: true, free: func(h *host, r job.Row) { h.limit(r.Sync, syncqueue.Policy{Limit: 2}) }},
		{name: "resume", limit: 1, bare: true, before: func(h *host, k syncqueue.Key) { h.limit(k, syncqueue.Policy{Limit: 2, Paused: true}) },
			free: func(h *host, r job.Row) { h.limit(r.Sync, syncqueue.Policy{Limit: 2}) }},
	}
	h, cases := newHost(t), 0
	for _, f := range frees {
		for _, o := range others {
			for _, commit := range []bool{false, true} {
				if f.bare && o.name != "row lock" {
					continue
				}
				name := "queue-50 " + f.name + " beside " + o.name + map[bool]string{true: ", committed", false: ", rolled back"}[commit]
				t.Run(name, func(t *testing.T) {
					h.t = t
					cases++
					k := syncqueue.Key{Kind: fmt.Sprint("vm", cases), ID: "1"}
					keyed := func(n int) job.Row { return keyed(100*cases+n, k) }
					if f.limit > 1 {
						h.limit(k, syncqueue.Policy{Limit: f.limit})
					}
					for n := range f.limit {
						h.insert(keyed(n))
					}
					holders := h.claim(9)
					line := h.insert(keyed(50))
					if f.limit == 1 { // in the others nobody but the locked one could be found
						line = append(line, h.insert(keyed(51))...)
					}
					if rows := h.claim(9); len(holders) != f.limit || len(rows) != 0 {
						t.Fatalf("%d hold, %d start", len(holders), len(rows))
					}
					if f.before != nil {
						f.before(h, k)
					}
					tx := h.begin()
					o.lock(h, tx, line[0])
					f.free(h, holders[0])
					h.unforgotten("while the head is locked")
					h.end(tx, commit)
					h.unforgotten("after")
					if o.leave && commit {
						line = line[1:]
					} else if o.name == "reorder" && commit {
						slices.Reverse(line)
					}
					for _, w := range line {
						rows := h.next()
						if len(rows) != 1 || rows[0].ID != w.ID {
							t.Fatalf("%d start, the first of them %s, not %s alone", len(rows), rows[0].ID, w.ID)
						}
						h.succeed(rows[0])
					}
					h.unforgotten("at the end")
				})
			}
		}
	}
}

// succeed finishes without starting the next.
func (h *host) succeed(r job.Row) {
	h.t.Helper()
	h.in(func(ctx context.Context, tx store.Tx) error {
		_, err := h.Jobs().Move(ctx, tx, []job.Move{{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch}})
		return err
	})
}

// TestLockedNext: the arrival of a line leaves it while the next waiter is locked, and the holder ends in the same moment.
func TestLockedNext(t *testing.T) {
	t.Parallel()
	k := syncqueue.Key{Kind: "vm", ID: "1"}
	for _, limit := range []int{1, 2} {
		for _, late := range []bool{false, true} {
			name := "queue-50 limit " + map[int]string{1: "1", 2: "2"}[limit] + map[bool]string{true: ", the holder commits last", false: ""}[late]
			t.Run(name, func(t *testing.T) {
				if late && limit > 1 {
					t.Skip("who looks at such a line waits for the holder")
				}
				h := newHost(t)
				if limit > 1 {
					h.limit(k, syncqueue.Policy{Limit: limit})
				}
				for n := range limit {
					h.insert(keyed(n, k))
				}
				holders := h.claim(9)
				arriving := h.begin()
				first, err := h.Jobs().Insert(t.Context(), h.Join(arriving), []job.Row{keyed(50, k)})
				if err != nil {
					t.Fatal(err)
				}
				second := h.insert(keyed(51, k))[0]
				h.claim(9)
				h.end(arriving, true)
				cancel, lock, finish := h.begin(), h.begin(), h.begin()
				h.lockRow(lock, second)
				h.moveIn(cancel, job.Move{ID: first[0].ID, From: job.Waiting, To: job.Cancelled})
				if late {
					h.moveIn(finish, job.Move{ID: holders[0].ID, From: job.Running, To: job.Succeeded, Epoch: holders[0].Epoch})
				} else {
					h.finish(holders[:1])
				}
				h.end(cancel, true)
				h.end(lock, false)
				if late {
					if rows := h.claim(9); len(rows) > 0 {
						t.Fatalf("%d start beside the holder", len(rows))
					}
					h.end(finish, true)
				}
				h.unforgotten("after")
				if rows := h.next(); len(rows) != 1 || rows[0].ID != second.ID {
					t.Fatalf("%d start", len(rows))
				}
			})
		}
	}
}
