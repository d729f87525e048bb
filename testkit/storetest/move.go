package storetest

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/testkit"
)

func moves(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-40 move 1: guard", moveGuard},
		{"st-40 move 1: repeated after a lost answer", moveRepeated},
		{"st-40 move 1: one of many", moveRace},
		{"st-41 move 2: final", moveFinal},
		{"st-41 move 2: hand-on", moveHandsOn},
		{"st-42 move 3: free", moveFrees},
		{"st-42 move 3: a waiter leaves", moveLeaves},
		{"st-43 move 4: to ready", moveReady},
		{"st-43 move 4: turns are kept", moveKeeps},
		{"st-44 move 5: raise", moveRaises},
		{"st-45 move 6: deletion", moveDeletes},
		{"st-45 epochs rise after deletion", moveEpochs},
		{"st-46 move 7: same state", moveSame},
		{"st-47 move 8: zero values", moveZero},
		{"st-48 move: refused whatever the row", moveRefused},
		{"st-49 move 10: notes", moveNotes},
	})
}

func moveRace(r *rig) {
	r.insert(keyedRows(vm, 1, 10)...)
	for n := 1; n < 10; n++ {
		run := r.startSoon(n)
		var wg sync.WaitGroup
		var finished, cancelled atomic.Int32
		for range 3 {
			wg.Go(func() {
				m := end(run, job.Running)
				m.Epoch--
				m.To = job.Failed
				if done, err := r.tryMove(m); err != nil || done[0] {
					r.t.Error("stale move: ", done, err)
				}
			})
			wg.Go(func() {
				if done, err := r.tryMove(end(run, job.Succeeded)); err != nil {
					r.t.Error(err)
				} else if done[0] {
					finished.Add(1)
				}
			})
			wg.Go(func() {
				m := from(job.Row{Job: job.Job{ID: id(n + 1), State: job.Waiting}}, job.Cancelled)
				if n%2 == 0 {
					return
				}
				if done, err := r.tryMove(m); err != nil {
					r.t.Error(err)
				} else if done[0] {
					cancelled.Add(1)
				}
			})
		}
		wg.Wait()
		if finished.Load() == 0 || cancelled.Load() > 1 {
			r.t.Fatalf("%d finishes, %d cancels", finished.Load(), cancelled.Load())
		}
		if r.get(n+1).State == job.Cancelled {
			n++
		}
	}
	same(r.t, "repaired", r.audit(), 0)
}

func moveFinal(r *rig) {
	for i, to := range []job.State{job.Succeeded, job.Failed, job.Cancelled} {
		n := 10 * i
		u := func(n int) job.Row { return with(plain(n), func(row *job.Row) { row.Unique = "u" }) }
		r.insert(u(n + 1))
		run := r.start(n + 1)[0]
		m := end(run, to)
		m.Error = &job.Error{Code: "c", Text: "t"}
		r.must(m)
		got := r.get(n + 1)
		if got.State != to || got.Ended.IsZero() || !got.Ended.Equal(got.Updated) || got.Rev != run.Rev+1 || got.Turn || got.Error.Code != "c" {
			r.t.Fatalf("final row %+v", got)
		}
		if next := r.insert(u(n + 2))[0]; next.Met != "" {
			r.t.Fatal("Unique is still taken")
		}
		r.must(from(r.get(n+2), job.Cancelled)) // never ran
	}
}

func moveHandsOn(r *rig) {
	r.insert(append(keyedRows(vm, 1, 4), keyed(5, other), keyed(6, other))...)
	run := r.start(1, 5)
	r.hinted(job.QueueTopic("q"), func() { r.move(end(run[0], job.Succeeded), end(run[1], job.Failed)) })
	r.is(job.Succeeded, job.Ready, job.Waiting, job.Waiting, job.Failed, job.Ready)
	if got := r.get(2); !got.Turn || got.Rev != 2 {
		r.t.Fatalf("handed on: %+v", got)
	}
	r.must(from(r.get(2), job.Cancelled)) // granted, not claimed
	r.is("", job.Cancelled, job.Ready, job.Waiting)
	run = r.start(3, 6)
	park := end(run[0], job.Parked)
	r.must(park)
	r.is("", "", job.Parked, job.Waiting)
	r.must(from(r.get(3), job.Failed)) // parked holder
	r.start(4)
}

func moveFrees(r *rig) {
	r.insert(keyedRows(vm, 1, 4)...)
	run := r.start(1)[0]
	place := run.Place
	early := end(run, job.Running) // ReleaseTurn
	early.Free = true
	r.must(early)
	r.must(early)
	got := r.get(1)
	if got.State != job.Running || got.Turn || got.Place != place {
		r.t.Fatalf("after an early release: %+v", got)
	}
	r.is(job.Running, job.Ready, job.Waiting, job.Waiting)
	second := r.start(2)[0]
	retry := end(run, job.Scheduled)
	r.must(retry)
	r.must(from(r.get(1), job.Ready))
	r.is(job.Waiting, job.Running, job.Waiting, job.Waiting) // it gave its turn up: it waits, at its old place
	if got := r.get(1); got.Place != place {
		r.t.Fatalf("place %d, was %d", got.Place, place)
	}
	park := end(second, job.Parked)
	park.Free = true
	r.must(park)
	r.is(job.Ready, job.Parked, job.Waiting, job.Waiting)
	first := r.start(1)[0]
	r.must(from(r.get(2), job.Ready))
	r.is(job.Running, job.Waiting, job.Waiting, job.Waiting)
	r.must(end(first, job.Succeeded))
	r.start(2) // before 3, which came later
}

func moveLeaves(r *rig) {
	r.insert(keyedRows(vm, 1, 4)...)
	run := r.start(1)[0]
	r.must(from(r.get(2), job.Cancelled))
	r.is(job.Running, job.Cancelled, job.Waiting, job.Waiting)
	hold := from(r.get(3), job.Parked)
	hold.Free = true
	r.must(hold)
	r.must(end(run, job.Succeeded))
	r.is("", "", job.Parked, job.Ready)
	r.must(from(r.get(3), job.Ready))
	r.is("", "", job.Waiting, job.Ready)
	// The head of a line with a free turn leaves: the next one is found by a claim.
	r.insert(keyed(5, other), keyed(6, other))
	r.must(from(r.get(5), job.Cancelled))
	r.start(4, 6)
}

func moveReady(r *rig) {
	r.limit(kindOf(free), 0)
	later := func(row job.Row) job.Row {
		return with(row, func(row *job.Row) { row.RunAt = r.now().Add(r.soon()) })
	}
	r.insert(later(plain(1)), later(keyed(2, vm)), later(keyed(3, free)), keyed(4, vm))
	r.pass(r.soon())
	r.insert(keyed(5, vm))
	r.hinted(job.QueueTopic("q"), func() {
		r.move(from(r.get(1), job.Ready), from(r.get(2), job.Ready), from(r.get(3), job.Ready))
	})
	r.is(job.Ready, job.Waiting, job.Ready)
	if got, last := r.get(2).Place, r.get(5).Place; got <= last {
		r.t.Fatalf("fell due at place %d, before %d", got, last)
	}
	run := r.claim(r.all(10)).Rows
	same(r.t, "claimed", len(run), 3)
	_, err := r.tryMove(job.Move{ID: id(5), From: job.Waiting, To: job.Ready})
	if row := r.get(5); row.State != job.Waiting || row.Turn {
		r.t.Fatalf("a caller granted a turn (%v)", err)
	}
}

// moveKeeps: a turn stays with its job in ready, scheduled after a retry, and parked.
func moveKeeps(r *rig) {
	r.limit(vm, 2)
	r.insert(keyedRows(vm, 1, 5)...)
	run := r.start(1, 2)
	r.must(end(run[0], job.Ready)) // returned by a stop
	retry := end(run[1], job.Scheduled)
	retry.RunAt, retry.Attempt = r.now().Add(r.soon()), 1
	r.must(retry)
	r.is(job.Ready, job.Scheduled, job.Waiting)
	run = r.start(1)
	r.must(end(run[0], job.Parked))
	r.start()
	r.pass(r.soon())
	r.move(from(r.get(2), job.Ready), from(r.get(1), job.Ready))
	r.is(job.Ready, job.Ready, job.Waiting)
	for _, row := range r.claim(r.all(10)).Rows {
		if row.Attempt != (numbers([]job.Row{row})[0] - 1) {
			r.t.Fatalf("attempt %d of %s", row.Attempt, row.ID)
		}
		sweep := end(row, job.Ready) // its node died
		sweep.Raise, sweep.Lost = true, 1
		r.must(sweep)
	}
	r.is(job.Ready, job.Ready, job.Waiting)
	run = r.claim(r.all(10)).Rows
	same(r.t, "claimed", len(run), 2)
	r.must(end(run[0], job.Succeeded))
	r.start(3)
}

func moveRaises(r *rig) {
	r.insert(plain(1), plain(2))
	run := r.start(1, 2)
	fence := end(run[0], job.Ready)
	fence.Raise = true
	sweep := end(run[1], job.Failed)
	sweep.Raise = true
	same(r.t, "done", r.move(fence, sweep), []bool{true, true})
	for i, row := range run {
		if got := r.get(i + 1); got.Epoch <= row.Epoch {
			r.t.Fatalf("epoch %d, was %d", got.Epoch, row.Epoch)
		}
	}
	r.refused(end(run[0], job.Succeeded), end(run[1], job.Succeeded), fence)
	if again := r.start(1)[0]; again.Epoch <= run[0].Epoch+1 {
		r.t.Fatalf("epoch %d after a raise from %d", again.Epoch, run[0].Epoch)
	}
}

func moveDeletes(r *rig) {
	r.insert(with(plain(1), func(row *job.Row) { row.Idem, row.Name, row.Parent, row.Root = "i", "n", id(9), id(9) }), plain(2))
	run := r.start(1, 2)
	if err := r.log(job.Entry{JobID: id(1), Epoch: run[0].Epoch, Step: "s", Data: json.RawMessage(`1`)},
		job.Entry{JobID: id(1), Epoch: run[0].Epoch, Text: "t"}); err != nil {
		r.t.Fatal(err)
	}
	r.must(end(run[0], job.Succeeded))
	gone := job.Move{ID: id(1), From: job.Succeeded, To: "", Epoch: run[0].Epoch}
	wrong := gone
	wrong.From = job.Failed
	r.refused(wrong)
	r.must(gone)
	r.refused(gone)
	same(r.t, "rows", len(r.find(job.Find{IDs: []string{id(1)}, Journal: true, Steps: true}).Rows), 0)
	if _, err := r.tryMove(job.Move{ID: id(2), From: job.Running, To: "", Epoch: run[1].Epoch}); r.get(2).State != job.Running {
		r.t.Fatalf("a live row was deleted (%v)", err)
	}
	fresh := r.insert(with(plain(1), func(row *job.Row) { row.Idem, row.Name, row.Parent, row.Root = "i", "n", id(9), id(9) }))[0]
	if fresh.Met != "" || fresh.Rev != 1 || fresh.Seq <= run[1].Seq {
		r.t.Fatalf("the id is not free: %+v", fresh)
	}
	found := r.find(job.Find{IDs: []string{id(1)}, Journal: true, Steps: true})
	if len(found.Journal) != 0 || len(found.Rows[0].Steps) != 0 {
		r.t.Fatal("steps or journal outlived the row")
	}
}

func moveEpochs(r *rig) {
	last := int64(0)
	for range 4 {
		r.insert(plain(1))
		run := r.start(1)[0]
		if run.Epoch <= last {
			r.t.Fatalf("epoch %d behind %d", run.Epoch, last)
		}
		last = run.Epoch
		r.must(end(run, job.Succeeded))
		r.must(from(r.get(1), ""))
	}
}

func moveSame(r *rig) {
	r.insert(plain(1), keyed(2, vm), keyed(3, vm), with(plain(4), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }), plain(5))
	before := r.get(1)
	low := -7
	m := from(before, job.Ready)
	m.Priority = &low
	r.must(m)
	got := r.get(1)
	same(r.t, "changed", got, with(before, func(row *job.Row) { row.Priority, row.Rev, row.Updated = -7, 2, got.Updated }))
	first := r.all(1)
	same(r.t, "claimed by its new priority", numbers(r.claim(first).Rows), []int{1})
	m = from(r.get(4), job.Scheduled)
	m.RunAt = r.now().Add(2 * time.Hour)
	r.must(m)
	if got := r.get(4); got.State != job.Scheduled || !got.RunAt.Equal(m.RunAt) {
		r.t.Fatalf("rescheduled: %+v", got)
	}
	m = from(r.get(3), job.Waiting)
	m.Priority = &low
	r.must(m)
	r.start(2, 5)
}

func moveZero(r *rig) {
	r.insert(plain(1))
	run := r.start(1)[0]
	m := end(run, job.Scheduled)
	m.RunAt, m.Attempt, m.Lost = r.now().Add(-time.Minute), 3, 2
	m.Error, m.Result = &job.Error{Code: "c"}, json.RawMessage(`{"a":1}`)
	m.Progress = &job.Progress{Percent: 50, Step: "s"}
	m.Mark = job.Poisoned | job.Held
	m.Cancel = &job.CancelRequest{At: r.now(), By: "first", Reason: "one"}
	r.must(m)
	full := r.get(1)
	if full.Attempt != 3 || full.Lost != 2 || full.Error.Code != "c" || full.Progress.Percent != 50 || full.Flags != job.Poisoned|job.Held ||
		full.CancelBy != "first" || full.CancelReason != "one" || full.CancelAt.IsZero() || !full.RunAt.Equal(m.RunAt) {
		r.t.Fatalf("set: %+v", full)
	}
	sameJSON(r.t, "result", full.Result, m.Result)
	r.must(from(full, job.Scheduled))
	got := r.get(1)
	same(r.t, "left alone", got, with(full, func(row *job.Row) { row.Rev, row.Updated = row.Rev+1, got.Updated }))
	m = from(full, job.Scheduled)
	m.ResetLost, m.Unmark, m.Mark = true, job.Held, job.Unwinding
	m.Cancel = &job.CancelRequest{At: r.now(), By: "second"}
	r.must(m)
	got = r.get(1)
	if got.Lost != 0 || got.Flags != job.Poisoned|job.Unwinding || got.CancelBy != "first" || got.CancelReason != "one" {
		r.t.Fatalf("reset: %+v", got)
	}
}
