package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

func inserts(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-20 insert 1: what is drawn", insertDraws},
		{"st-21 insert 2: first state", insertStates},
		{"st-21 insert 2: hints", insertHints},
		{"st-22 insert 3: met rows", insertMeets},
		{"st-22 insert 3: within a call", insertMeetsItself},
		{"st-22 insert 3: race", insertRace},
		{"st-23 insert 4: parent's epoch", insertParent},
		{"st-24 insert 5: waits for nobody", insertOpen},
		{"st-25 insert 6: steps", insertSteps},
	})
}

func insertDraws(r *rig) {
	rows := append(r.insert(plainRows(1, 3)...), r.insert(plain(4))...)
	last := int64(0)
	for _, row := range rows {
		if row.Seq <= last || row.Rev != 1 || row.Epoch != 0 || row.Met != "" || !row.Updated.Equal(row.Created) || !row.RunAt.Equal(row.Created) {
			r.t.Fatalf("row %+v behind seq %d", row, last)
		}
		last = row.Seq
	}
	sameRow(r.t, "stored", r.get(1), rows[0])
}

func insertStates(r *rig) {
	r.limit(kindOf(free), 0)
	r.limit(syncqueue.Key{Kind: "vm", ID: "wide"}, 2)
	rows := r.insert(
		with(plain(1), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }),
		with(keyed(2, vm), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }),
		with(plain(3), func(row *job.Row) { row.RunAt = r.now().Add(-time.Hour) }),
		keyed(4, vm), keyed(5, vm), keyed(6, free),
		keyed(7, syncqueue.Key{Kind: "vm", ID: "wide"}))
	for i, want := range []job.State{job.Scheduled, job.Scheduled, job.Ready, job.Waiting, job.Waiting, job.Ready, job.Waiting} {
		row := rows[i]
		if row.State != want || row.Turn || (row.Place != 0) != (want == job.Waiting) || row.Place != 0 && row.Place != row.Seq*syncqueue.Gap {
			r.t.Fatalf("job %d: %s, place %d, seq %d, turn %v, want %s", i+1, row.State, row.Place, row.Seq, row.Turn, want)
		}
	}
}

func insertHints(r *rig) {
	r.hinted(job.QueueTopic("q"), func() { r.insert(plain(1)) })
	r.hinted(job.QueueTopic("q2"), func() { r.insert(with(keyed(2, vm), func(row *job.Row) { row.Queue = "q2" })) })
}

func insertMeets(r *rig) {
	sub := func(n int) job.Row {
		return with(plain(n), func(row *job.Row) { row.Parent, row.Root, row.Name = id(1), id(1), "child" })
	}
	idem := func(n int, account, kind string) job.Row {
		return with(plain(n), func(row *job.Row) { row.Idem, row.Account, row.Kind = "i", account, kind })
	}
	unique := func(n int, kind string) job.Row {
		return with(plain(n), func(row *job.Row) { row.Unique, row.Kind = "u", kind })
	}
	meets := func(row job.Row, n int, field string) {
		r.t.Helper()
		row.Print, row.Resource = "other", "other"
		got := r.insert(row)[0]
		want := with(r.get(n), func(row *job.Row) { row.Met = field })
		sameRow(r.t, "met by "+field, got, want)
	}
	r.insert(plain(1))
	r.insert(idem(2, "a", "k"), unique(3, "k"), sub(4))
	meets(plain(1), 1, "id")
	meets(idem(5, "a", "k"), 2, "idem")
	meets(unique(5, "k"), 3, "unique")
	meets(sub(5), 4, "name")
	for _, row := range []job.Row{idem(5, "b", "k"), idem(6, "a", "k2"), unique(7, "k2"),
		with(sub(8), func(row *job.Row) { row.Parent = id(2) })} {
		if got := r.insert(row)[0]; got.Met != "" {
			r.t.Fatalf("%s met %s by %s, out of its scope", row.ID, got.ID, got.Met)
		}
	}
	for _, row := range r.claim(r.all(10)).Rows { // final: only Unique is free again
		r.must(end(row, job.Succeeded))
	}
	meets(plain(1), 1, "id")
	meets(idem(9, "a", "k"), 2, "idem")
	meets(sub(9), 4, "name")
	if got := r.insert(unique(9, "k"))[0]; got.Met != "" {
		r.t.Fatalf("the name of a final job is met by %s", got.Met)
	}
	meets(unique(10, "k"), 9, "unique")
}

func insertMeetsItself(r *rig) {
	u := func(n int) job.Row { return with(plain(n), func(row *job.Row) { row.Unique = "u" }) }
	rows := r.insert(u(1), u(2), plain(3), plain(3), plain(4))
	same(r.t, "answers", numbers(rows), []int{1, 1, 3, 3, 4})
	same(r.t, "met", []string{rows[0].Met, rows[1].Met, rows[2].Met, rows[3].Met, rows[4].Met}, []string{"", "unique", "", "id", ""})
	same(r.t, "stored", numbers(r.find(job.Find{Query: &job.Query{}}).Rows), []int{1, 3, 4})
}

func insertRace(r *rig) {
	var wg sync.WaitGroup
	first := make([]string, 8)
	for n := range first {
		wg.Go(func() {
			rows, err := r.tryInsert(plain(100+n), with(plain(n), func(row *job.Row) { row.Idem, row.Unique = "i", "u" }))
			if err != nil {
				r.t.Error(err)
				return
			}
			first[n] = rows[1].ID
		})
	}
	wg.Wait()
	for _, got := range first {
		same(r.t, "answered job", got, first[0])
	}
	if rows := r.find(job.Find{Query: &job.Query{}}).Rows; len(rows) != 9 {
		r.t.Fatalf("stored %v", numbers(rows))
	}
}

func insertParent(r *rig) {
	r.insert(plain(1), plain(2))
	run := r.start(1, 2)
	child := func(n int, epoch int64) job.Row {
		return with(plain(n), func(row *job.Row) { row.Parent, row.Root, row.ParentEpoch = id(1), id(1), epoch })
	}
	r.insert(child(3, run[0].Epoch))
	refused := func(rows ...job.Row) {
		r.t.Helper()
		if _, err := r.tryInsert(rows...); !errors.Is(err, store.ErrConflict) {
			r.t.Fatalf("got %v, want store.ErrConflict", err)
		}
	}
	refused(plain(4), child(5, run[0].Epoch+1))
	refused(child(5, run[0].Epoch-1))
	r.must(end(run[0], job.Succeeded))
	refused(plain(4), child(5, run[0].Epoch))
	refused(with(child(5, 1), func(row *job.Row) { row.Parent = id(99) }))
	same(r.t, "stored", numbers(r.find(job.Find{IDs: []string{id(3), id(4), id(5)}}).Rows), []int{3})
}

// insertOpen holds a transaction with a submission open while the line of the same key goes on.
func insertOpen(r *rig) {
	if !r.concurrent() {
		r.t.Skip("one transaction at a time")
	}
	r.insert(keyedRows(vm, 1, 3)...)
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Insert(ctx, tx, []job.Row{keyed(100, vm)}); err != nil {
			return err
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := &rig{Stores: r.Stores, t: unfatal{r.t}, node: r.node}
			for n := 1; n <= 3; n++ {
				r.insert(keyed(10+n, vm))
				for _, row := range r.claim(r.all(10)).Rows {
					r.must(end(row, job.Succeeded))
				}
			}
		}()
		select {
		case <-done:
		case <-time.After(patience):
			return errors.New("inserts, claims and finishes of a key wait for an open insert of it")
		}
		return nil
	})
	r.is(job.Succeeded, job.Succeeded, job.Succeeded)
	for n := 0; n < 4; n++ {
		for _, row := range r.claim(r.all(10)).Rows {
			r.must(end(row, job.Succeeded))
		}
	}
	if rows := r.find(job.Find{Query: &job.Query{}}).Rows; len(rows) != 0 {
		r.t.Fatalf("left in line: %v", numbers(rows))
	}
}

// unfatal lets another goroutine than the test's report failures.
type unfatal struct{ testing.TB }

func (u unfatal) Fatal(args ...any)            { u.TB.Helper(); u.TB.Error(args...) }
func (u unfatal) Fatalf(f string, args ...any) { u.TB.Helper(); u.TB.Errorf(f, args...) }

// Context does not end with the test: the goroutine is awaited.
func (u unfatal) Context() context.Context { return context.WithoutCancel(u.TB.Context()) }
