package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func places(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-90 move: first, before, to the end", moveOrder},
		{"st-90 move: who is moved first starts next", moveStarts},
		{"st-90 move: refused", placeRefused},
		{"st-90 move: a gap used up", moveGap},
		{"st-90 move: journal and rollback", moveJournal},
		{"st-91 pause: a key", pauseOne},
		{"st-91 pause: a kind", pauseAll},
		{"st-91 pause: without limit", pauseFree},
	})
}

// shift moves the waiter n before another, 0 = to the end, or first.
func (r *rig) shift(n, before int, first bool) (i syncqueue.Item) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		i, err = r.tryShift(ctx, tx, n, before, first)
		return err
	})
	return i
}

func (r *rig) tryShift(ctx context.Context, tx store.Tx, n, before int, first bool) (syncqueue.Item, error) {
	found, err := r.Jobs().List(ctx, tx, job.Find{IDs: []string{id(n), id(before)}})
	if err != nil {
		return syncqueue.Item{}, err
	}
	m := syncqueue.Move{First: first, Node: "n7", Seq: 1 << 40}
	if before > 0 {
		m.Before = 1 << 40 // there is none
	}
	for _, row := range found.Rows {
		if row.ID == id(n) {
			m.Seq = row.Seq
		}
		if row.ID == id(before) {
			m.Before = row.Seq
		}
	}
	return r.Queues().Move(ctx, tx, m)
}

func (r *rig) line(k syncqueue.Key) []string { return contents(r.items(syncqueue.Filter{Key: k})) }

func moveOrder(r *rig) {
	r.insert(keyedRows(vm, 1, 5)...)
	r.start(1)
	i := r.shift(4, 0, true)
	if i.Key != vm || i.Content != id(4) || i.Seq != r.get(4).Seq || i.Place != r.get(4).Place || !i.Since.IsZero() {
		r.t.Fatalf("item %+v", i)
	}
	same(r.t, "first", r.line(vm), []string{"[1]", "4", "2", "3", "5"})
	r.shift(2, 0, false)
	same(r.t, "to the end", r.line(vm), []string{"[1]", "4", "3", "5", "2"})
	r.shift(2, 3, false)
	same(r.t, "before another", r.line(vm), []string{"[1]", "4", "2", "3", "5"})
	rev := r.get(5).Rev
	r.shift(5, 5, false)
	r.shift(4, 0, true)
	same(r.t, "before itself", r.line(vm), []string{"[1]", "4", "2", "3", "5"})
	same(r.t, "untouched", r.get(5).Rev, rev)
	r.insert(keyed(6, vm))
	same(r.t, "who comes later", r.line(vm), []string{"[1]", "4", "2", "3", "5", "6"})
	var order []int
	for n := 1; ; n = order[len(order)-1] {
		r.must(end(r.get(n), job.Succeeded))
		rows := r.claim(r.all(10)).Rows
		if len(rows) == 0 {
			break
		}
		order = append(order, numbers(rows)...)
	}
	same(r.t, "order of starts", order, []int{4, 2, 3, 5, 6})
	same(r.t, "repaired", r.audit(), 0)
}

// moveStarts moves waiters while the turn is free, and while claims have looked at the line or not.
func moveStarts(r *rig) {
	r.insert(keyedRows(vm, 1, 3)...)
	r.shift(3, 0, true)
	r.start(3)
	r.must(end(r.get(3), job.Succeeded))
	r.start(1)
	r.insert(keyed(4, vm))
	r.start()
	r.shift(4, 2, false)
	r.must(end(r.get(1), job.Scheduled)) // keeps its turn
	r.must(from(r.get(1), job.Ready))
	r.start(1)
	r.must(end(r.get(1), job.Succeeded))
	r.start(4)
	r.must(from(r.get(2), job.Cancelled))
	r.limit(kindOf(other), 2)
	r.insert(keyedRows(other, 5, 9)...)
	r.start(5, 6)
	r.shift(9, 0, true)
	r.shift(7, 0, false)
	r.must(end(r.get(5), job.Succeeded))
	r.start(9)
	r.must(end(r.get(6), job.Succeeded))
	r.start(8)
	same(r.t, "repaired", r.audit(), 0)
}

func placeRefused(r *rig) {
	r.insert(keyedRows(vm, 1, 3)...)
	r.insert(keyedRows(other, 4, 5)...)
	r.insert(plain(6), with(keyed(7, vm), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	r.limit(kindOf(free), 0)
	r.insert(keyed(8, free))
	r.start(1, 4, 6, 8)
	r.must(from(r.get(3), job.Cancelled))
	for _, c := range []struct {
		what      string
		n, before int
		want      error
	}{
		{"a holder", 1, 0, store.ErrConflict},
		{"before a holder", 2, 1, store.ErrNotFound},
		{"before one of another key", 2, 5, store.ErrNotFound},
		{"one without key", 6, 0, store.ErrNotFound},
		{"one that is not due", 7, 0, store.ErrNotFound},
		{"a final one", 3, 0, store.ErrNotFound},
		{"before a final one", 2, 3, store.ErrNotFound},
		{"an unknown one", 99, 0, store.ErrNotFound},
		{"before an unknown one", 2, 99, store.ErrNotFound},
		{"one that needs no turn", 8, 0, store.ErrConflict},
	} {
		err := failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
			_, err := r.tryShift(ctx, tx, c.n, c.before, false)
			return err
		})
		if !errors.Is(err, c.want) {
			r.t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	same(r.t, "line", r.line(vm), []string{"[1]", "2"})
}

// moveGap moves many times into one gap, until its places are used up, over and over.
func moveGap(r *rig) {
	const n = 60
	r.insert(keyedRows(vm, 1, n)...)
	r.start(1)
	want := r.items(syncqueue.Filter{Key: vm})[1:]
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		for round := range 600 {
			// the next to last goes before the last: every time the same gap, ever another waiter
			from, to := round%(n-3), len(want)-1
			if _, err := r.Queues().Move(ctx, tx, syncqueue.Move{Seq: want[from].Seq, Before: want[to].Seq}); err != nil {
				return err
			}
			i := want[from]
			want = slices.Insert(slices.Delete(want, from, from+1), to-1, i)
		}
		return nil
	})
	got := r.items(syncqueue.Filter{Key: vm})[1:]
	same(r.t, "order", contents(got), contents(want))
	seen := map[int64]bool{}
	for _, i := range got {
		if seen[i.Place] || i.Place == 0 {
			r.t.Fatalf("place %d", i.Place)
		}
		seen[i.Place] = true
	}
	r.must(end(r.get(1), job.Succeeded))
	if rows := r.claim(r.all(5)).Rows; len(rows) != 1 || rows[0].ID != want[0].Content {
		r.t.Fatalf("%v start, want %s", numbers(rows), want[0].Content)
	}
	same(r.t, "repaired", r.audit(), 0)
}

func moveJournal(r *rig) {
	r.insert(keyedRows(vm, 1, 3)...)
	r.start(1)
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		_, err := r.tryShift(ctx, tx, 3, 0, true)
		return errors.Join(err, errUndo)
	})
	same(r.t, "rolled back", r.line(vm), []string{"[1]", "2", "3"})
	same(r.t, "nothing noted", len(r.find(job.Find{IDs: []string{id(3)}, Journal: true}).Journal), 0)
	r.shift(3, 0, true)
	j := r.find(job.Find{IDs: []string{id(3)}, Journal: true}).Journal
	if len(j) != 1 || j[0].Node != "n7" || j[0].Text == "" || j[0].N != 1 || j[0].JobID != id(3) || j[0].At.IsZero() {
		r.t.Fatalf("journal %+v", j)
	}
}

func (r *rig) policy(k syncqueue.Key, limit int, paused bool) (rows []syncqueue.PolicyRow) {
	r.t.Helper()
	in(r.t, r, func(ctx context.Context, tx store.Tx) (err error) {
		rows, err = r.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: k.Kind, ID: k.ID, Policy: syncqueue.Policy{Limit: limit, Paused: paused}}})
		return err
	})
	return rows
}

func pauseOne(r *rig) {
	r.limit(kindOf(vm), 2)
	r.insert(keyedRows(vm, 1, 5)...)
	r.insert(keyed(6, other))
	r.start(1, 2, 6)
	r.must(end(r.get(1), job.Succeeded))
	r.is("", job.Running, job.Ready, job.Waiting, job.Waiting)
	place := r.get(3).Place
	rows := r.policy(vm, syncqueue.Inherit, true)
	same(r.t, "rows", rows, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: 2}}, {Kind: "vm", ID: "42", Policy: syncqueue.Policy{Limit: -1, Paused: true}}})
	r.is("", job.Running, job.Waiting, job.Waiting, job.Waiting, job.Running)
	if got := r.get(3); got.Turn || got.Place != place {
		r.t.Fatalf("turn %v, place %d, was %d", got.Turn, got.Place, place)
	}
	r.insert(keyed(7, vm), keyed(8, other))
	r.start(8) // of a key that is not paused
	r.must(end(r.get(2), job.Succeeded))
	r.start()
	same(r.t, "line", r.line(vm), []string{"3", "4", "5", "7"})
	same(r.t, "again", len(r.policy(vm, syncqueue.Inherit, true)), 2)
	same(r.t, "repaired", r.audit(), 0)
	r.limit(kindOf(vm), 3) // what a paused key inherits
	r.hinted(job.QueueTopic("q"), func() { rows = r.policy(vm, syncqueue.Inherit, false) })
	same(r.t, "rows after", rows, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: 3}}})
	r.is("", "", job.Ready, job.Ready, job.Ready, "", job.Waiting)
	r.start(3, 4, 5)
	same(r.t, "repaired", r.audit(), 0)
}

func pauseAll(r *rig) {
	r.policy(kindOf(vm), syncqueue.Inherit, true)
	r.insert(append(keyedRows(vm, 1, 2), keyedRows(other, 3, 4)...)...)
	r.start()
	r.policy(vm, syncqueue.Inherit, true)
	r.policy(kindOf(vm), syncqueue.Inherit, false)
	r.start(3)
	r.policy(vm, 2, false)
	r.start(1, 2)
	same(r.t, "rows", len(r.policy(vm, syncqueue.Inherit, false)), 0)
	r.must(end(r.get(3), job.Succeeded))
	r.start(4)
	same(r.t, "repaired", r.audit(), 0)
}

func pauseFree(r *rig) {
	r.limit(kindOf(free), 0)
	r.insert(keyedRows(free, 1, 3)...)
	r.claim(r.all(1))
	r.policy(kindOf(free), 0, true)
	r.is(job.Running, job.Waiting, job.Waiting)
	r.insert(keyed(4, free))
	r.is("", "", "", job.Waiting)
	r.must(end(r.get(1), job.Succeeded))
	r.start()
	r.policy(kindOf(free), 0, false)
	r.is("", job.Ready, job.Ready, job.Ready)
	r.start(2, 3, 4)
	same(r.t, "repaired", r.audit(), 0)
}
