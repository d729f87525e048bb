package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func lending(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-92 lend: parked", lendParked},
		{"st-92 lend: in Wait, and recalled", lendWait},
		{"st-92 lend: a turn given up is the borrowers'", lendLeft},
		{"st-92 lend: three levels", lendLevels},
		{"st-92 lend: no turn to borrow", lendNone},
		{"st-92 lend: borrowers leave", lendLeave},
		{"st-92 lend: pause, list and rollback", lendList},
	})
}

// borrower is a job that borrows the turn of lender.
func borrower(n, lender int) job.Row {
	return with(keyed(n, vm), func(r *job.Row) { r.Parent, r.Root, r.Lender, r.Depth = id(lender), id(lender), id(lender), 1 })
}

// flags marks the running job n.
func (r *rig) flags(n int, mark, unmark job.Flag) job.Row {
	r.t.Helper()
	row := r.get(n)
	r.must(job.Move{ID: row.ID, From: job.Running, To: job.Running, Epoch: row.Epoch, Mark: mark, Unmark: unmark})
	return r.get(n)
}

// startsOnly starts what there is, which must be these; once more, since a store may grant what it has met.
func (r *rig) startsOnly(want ...int) {
	r.t.Helper()
	got := numbers(r.claim(r.all(10)).Rows)
	got = append(got, numbers(r.claim(r.all(10)).Rows)...)
	if len(got) == 0 {
		got = nil
	}
	same(r.t, "started", got, want)
}

func lendParked(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	rows := r.insert(borrower(3, 1), borrower(4, 1))
	same(r.t, "waits", rows[0].State, job.Waiting)
	same(r.t, "lender", rows[1].Lender, id(1))
	r.startsOnly()
	r.must(end(r.get(1), job.Parked))
	r.startsOnly(3)
	if got := r.get(3); !got.Turn || got.Lender != id(1) || got.Sync != vm {
		r.t.Fatalf("turn %v, lender %s, key %v", got.Turn, got.Lender, got.Sync)
	}
	r.must(from(r.get(1), job.Ready)) // woken: after the borrower
	if got := r.get(1); got.State != job.Waiting || !got.Turn {
		r.t.Fatalf("lender is %s, turn %v", got.State, got.Turn)
	}
	r.startsOnly()
	r.must(end(r.get(3), job.Succeeded))
	r.is(job.Ready, job.Waiting, job.Succeeded, job.Waiting)
	r.startsOnly(1)
	r.must(end(r.get(1), job.Succeeded)) // one borrower is left
	r.startsOnly(4)
	r.is("", job.Waiting)
	r.must(end(r.get(4), job.Succeeded))
	r.startsOnly(2)
	same(r.t, "repaired", r.audit(), 0)
}

func lendWait(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	r.insert(borrower(3, 1), borrower(4, 1))
	r.startsOnly()
	r.flags(1, job.Lending, 0)
	r.startsOnly(3)
	if got := r.flags(1, 0, job.Lending); got.Flags&(job.Lending|job.Recalled) != job.Lending|job.Recalled {
		r.t.Fatalf("flags %b", got.Flags)
	}
	rev := r.get(1).Rev
	r.hinted(job.JobTopic(id(1)), func() { r.must(end(r.get(3), job.Succeeded)) })
	if got := r.get(1); got.Flags&(job.Lending|job.Recalled) != 0 || got.Rev <= rev || got.State != job.Running {
		r.t.Fatalf("flags %b, rev %d after %d, %s", got.Flags, got.Rev, rev, got.State)
	}
	r.startsOnly()
	r.flags(1, job.Lending, 0)
	r.startsOnly(4)
	r.must(end(r.get(4), job.Succeeded))
	if got := r.flags(1, 0, job.Lending); got.Flags&(job.Lending|job.Recalled) != 0 {
		r.t.Fatalf("flags %b", got.Flags)
	}
	r.flags(1, job.Lending, 0)
	r.insert(borrower(5, 1))
	r.startsOnly(5)
	lost := end(r.get(1), job.Ready) // its node died
	lost.Raise = true
	r.must(lost)
	if got := r.get(1); got.State != job.Waiting || !got.Turn || got.Flags&job.Lending != 0 {
		r.t.Fatalf("%s, turn %v, flags %b", got.State, got.Turn, got.Flags)
	}
	r.startsOnly()
	r.must(end(r.get(5), job.Succeeded))
	r.startsOnly(1)
	r.must(end(r.get(1), job.Succeeded))
	r.startsOnly(2)
	same(r.t, "repaired", r.audit(), 0)
}

func lendLeft(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	r.insert(borrower(3, 1), borrower(4, 1))
	freed := end(r.get(1), job.Parked)
	freed.Free = true
	r.must(freed)
	if r.get(1).Turn {
		r.t.Fatal("it gave its turn up")
	}
	r.startsOnly(3)
	r.must(from(r.get(1), job.Ready))
	r.is(job.Waiting, job.Waiting)
	r.must(end(r.get(3), job.Failed))
	r.startsOnly(4)
	same(r.t, "repaired", r.audit(), 0)
	r.must(end(r.get(4), job.Succeeded))
	r.startsOnly(1) // at its old place
	r.insert(borrower(5, 1))
	r.startsOnly()
	row := r.get(1)
	r.must(job.Move{ID: row.ID, From: job.Running, To: job.Running, Epoch: row.Epoch, Free: true}) // ReleaseTurn
	r.startsOnly(5)
	r.must(end(r.get(1), job.Succeeded))
	r.is(job.Succeeded, job.Waiting)
	f, ok := r.Jobs().(job.Finisher)
	if !ok {
		r.t.Skip("no job.Finisher")
	}
	last := end(r.get(5), job.Succeeded)
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		out, err := f.Finish(ctx, tx, job.Finish{Moves: []job.Move{last}, Start: r.all(5)})
		same(r.t, "handed on", numbers(out.Started), []int{2})
		return err
	})
	same(r.t, "repaired", r.audit(), 0)
}

func lendLevels(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	r.insert(borrower(3, 1))
	r.must(end(r.get(1), job.Parked))
	r.startsOnly(3)
	r.insert(borrower(4, 3), borrower(5, 3))
	r.startsOnly()
	r.must(end(r.get(3), job.Parked))
	r.startsOnly(4)
	r.must(from(r.get(1), job.Ready))
	r.must(from(r.get(3), job.Ready))
	r.is(job.Waiting, job.Waiting, job.Waiting, job.Running)
	r.must(from(r.get(3), job.Cancelled)) // its turn is 4's and 5's
	r.must(from(r.get(1), job.Cancelled))
	r.startsOnly()
	r.must(end(r.get(4), job.Succeeded))
	r.startsOnly(5)
	r.is("", job.Waiting)
	same(r.t, "repaired", r.audit(), 0)
	r.must(end(r.get(5), job.Succeeded))
	r.startsOnly(2)
	same(r.t, "repaired", r.audit(), 0)
}

func lendNone(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	r.insert(borrower(3, 1), with(borrower(4, 1), func(row *job.Row) { row.RunAt = r.now().Add(r.soon()) }))
	same(r.t, "no such lender", r.insert(with(borrower(5, 1), func(row *job.Row) { row.Lender = id(99) }))[0].Lender, "")
	same(r.t, "it has no turn", r.insert(with(borrower(6, 1), func(row *job.Row) { row.Lender = id(2) }))[0].Lender, "")
	same(r.t, "of another key", r.insert(with(borrower(7, 1), func(row *job.Row) { row.Sync = other }))[0].Lender, "")
	r.startsOnly(7)
	r.must(end(r.get(1), job.Succeeded))
	r.startsOnly(3)
	retry := end(r.get(3), job.Scheduled)
	retry.RunAt = r.now().Add(r.soon())
	r.must(retry) // keeps the turn
	r.startsOnly()
	r.pass(r.soon() + time.Millisecond)
	r.must(from(r.get(4), job.Ready)) // due: behind 3
	r.must(from(r.get(3), job.Ready))
	r.startsOnly(3)
	r.must(end(r.get(3), job.Failed))
	r.startsOnly(4)
	freed := end(r.get(4), job.Parked)
	freed.Free = true
	r.must(freed) // the last of them
	r.startsOnly(2)
	r.must(from(r.get(4), job.Ready)) // nothing is left to borrow: it waits like others
	if got := r.get(4); got.State != job.Waiting || got.Turn || got.Lender != "" {
		r.t.Fatalf("%s, turn %v, lender %q", got.State, got.Turn, got.Lender)
	}
	same(r.t, "line", r.line(vm), []string{"[2]", "5", "6", "4"}) // its place was drawn when it was due
	same(r.t, "repaired", r.audit(), 0)
}

func lendLeave(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	r.insert(borrower(3, 1), borrower(4, 1), borrower(5, 1))
	r.must(from(r.get(3), job.Cancelled))
	r.must(end(r.get(1), job.Succeeded))
	r.startsOnly(4)
	r.must(from(r.get(5), job.Cancelled))
	r.must(end(r.get(4), job.Succeeded))
	r.startsOnly(2)
	r.insert(borrower(6, 2))
	r.must(end(r.get(2), job.Parked))
	r.must(from(r.get(6), job.Cancelled)) // before or after it was granted
	r.must(from(r.get(2), job.Ready))
	r.startsOnly(2)
	r.insert(keyed(7, vm), borrower(8, 2))
	r.must(end(r.get(2), job.Succeeded))
	r.must(from(r.get(8), job.Cancelled))
	r.startsOnly(7)
	same(r.t, "repaired", r.audit(), 0)
}

func lendList(r *rig) {
	r.insert(keyedRows(vm, 1, 2)...)
	r.start(1)
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Insert(ctx, tx, []job.Row{borrower(3, 1)}); err != nil {
			return err
		}
		return errUndo
	})
	r.must(end(r.get(1), job.Parked))
	same(r.t, "nobody borrows", r.items(syncqueue.Filter{Key: vm})[0].LentTo, "")
	r.must(from(r.get(1), job.Ready))
	r.startsOnly(1)
	r.insert(borrower(3, 1), borrower(4, 1))
	r.must(end(r.get(1), job.Parked))
	r.startsOnly(3)
	i := r.items(syncqueue.Filter{Key: vm})
	same(r.t, "line", contents(i), []string{"[1]", "2"})
	same(r.t, "lent to", i[0].LentTo, id(3))
	r.policy(vm, syncqueue.Inherit, true)
	same(r.t, "paused", r.get(1).Turn, true)
	r.must(end(r.get(3), job.Succeeded))
	r.startsOnly(4)
	same(r.t, "keys", len(r.items(syncqueue.Filter{Keys: true})), 1)
	cancel := from(r.get(1), job.Cancelled)
	_ = failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Move(ctx, tx, []job.Move{cancel}); err != nil {
			return err
		}
		return errUndo
	})
	same(r.t, "as before", contents(r.items(syncqueue.Filter{Key: vm})), []string{"[1]", "2"})
	r.must(from(r.get(1), job.Cancelled))
	same(r.t, "the heir holds", contents(r.items(syncqueue.Filter{Key: vm})), []string{"[4]", "2"})
	same(r.t, "repaired", r.audit(), 0)
	r.must(end(r.get(4), job.Succeeded))
	r.startsOnly()
	r.policy(vm, syncqueue.Inherit, false)
	r.startsOnly(2)
}
