package storetest

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// park moves a running row to Parked.
func park(row job.Row, p job.Parking) job.Move {
	if p.Conditions == nil {
		p.Conditions = json.RawMessage(`{"c":1}`)
	}
	m := end(row, job.Parked)
	m.Park = &p
	return m
}

func parkStored(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	at := r.now().Add(time.Hour)
	r.must(park(run[0], job.Parking{Conditions: json.RawMessage(`{"a":[1]}`), Jobs: []string{id(3), id(2), id(3)}, Topics: []string{"t"}, WakeAt: at}))
	row := r.waiting(1)
	sameJSON(r.t, "conditions", row.Conditions, json.RawMessage(`{"a":[1]}`))
	if row.State != job.Parked || !row.WakeAt.Equal(at.Truncate(time.Microsecond)) || !slices.Equal(row.Joins, []string{id(2), id(3)}) {
		r.t.Fatalf("%s %v %v", row.State, row.WakeAt, row.Joins)
	}
	more := from(row, job.Parked)
	more.Park = &job.Parking{Conditions: json.RawMessage(`{"b":2}`), Topics: []string{"u"}}
	r.must(more)
	row = r.waiting(1)
	sameJSON(r.t, "replaced", row.Conditions, json.RawMessage(`{"b":2}`))
	if !row.WakeAt.IsZero() || len(row.Joins) != 2 {
		r.t.Fatalf("%v %v", row.WakeAt, row.Joins)
	}
	for _, topic := range []string{"t", "u"} { // added
		same(r.t, topic, numbers(r.signal(job.Signal{Topic: topic}).Rows), []int{1})
	}
	wake := from(row, job.Ready)
	wake.Wakes = []job.Wake{{Why: "x"}}
	r.must(wake)
	row = r.waiting(1)
	if row.State != job.Ready || row.Conditions != nil || len(row.Joins)+len(row.Inbox) > 0 || len(row.Wakes) != 1 {
		r.t.Fatalf("left %+v", row)
	}
	same(r.t, "unsubscribed", r.signal(job.Signal{Topic: "t"}), job.Signalled{})
	same(r.t, "unjoined", r.signal(job.Signal{Ended: []string{id(2)}}), job.Signalled{})
	if bad := end(run[1], job.Succeeded); true {
		bad.Park = &job.Parking{}
		if done, err := r.tryMove(bad); err == nil && done[0] {
			r.t.Fatal("parked although final")
		}
	}
}

func parkDue(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	now := r.now()
	r.must(park(run[0], job.Parking{WakeAt: now.Add(50 * time.Millisecond)}))
	r.must(park(run[1], job.Parking{WakeAt: now.Add(20 * time.Millisecond)}))
	r.must(park(run[2], job.Parking{}))
	probe := job.Claim{Session: r.node, Kinds: []string{"k"}}
	if got := r.claim(probe); !got.Due && !got.Next.Equal(now.Add(20*time.Millisecond).Truncate(time.Microsecond)) {
		r.t.Fatalf("next %v", got.Next)
	}
	r.pass(100 * time.Millisecond)
	if got := r.claim(probe); !got.Due {
		r.t.Fatal("not due")
	}
	found := r.find(job.Find{Due: "parked", Waits: true, SkipLocked: true})
	same(r.t, "due", numbers(found.Rows), []int{2, 1})
	if found.Rows[0].Conditions == nil {
		r.t.Fatal("without conditions")
	}
	for _, row := range found.Rows {
		again := from(row, job.Parked)
		again.Park = &job.Parking{Conditions: row.Conditions}
		r.must(again)
	}
	same(r.t, "not due any more", len(r.find(job.Find{Due: "parked"}).Rows), 0)
	if got := r.claim(probe); got.Due || !got.Next.IsZero() {
		r.t.Fatalf("%+v", got)
	}
}

func joinLive(r *rig) {
	r.insert(plain(1), plain(2), keyed(3, vm), keyed(4, vm), with(plain(5), func(row *job.Row) { row.RunAt = r.now().Add(time.Hour) }))
	run := r.start(1, 2, 3)
	r.must(end(run[1], job.Succeeded))
	r.must(park(run[0], job.Parking{Jobs: []string{id(2), id(3), id(4), id(5), id(99)}}))
	same(r.t, "joined", r.waiting(1).Joins, []string{id(3), id(4), id(5)}) // running, waiting, scheduled; not final, unknown
	rev := r.get(4).Rev
	r.must(end(run[2], job.Succeeded))
	same(r.t, "rev", r.get(4).Rev, rev+1) // being joined is no change of a job
	r.start(4)
}

func joinEnded(r *rig) {
	r.insert(plainRows(1, 6)...)
	run := r.start(1, 2, 3, 4, 5, 6)
	r.must(park(run[1], job.Parking{Jobs: []string{id(4), id(5)}}))
	r.must(park(run[0], job.Parking{Jobs: []string{id(4)}}))
	fin := r.finisher()
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		got, err := fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(run[5], job.Succeeded)}})
		if err != nil || got.Awaited {
			r.t.Errorf("nobody has joined 6: %v", err)
		}
		got, err = fin.Finish(ctx, tx, job.Finish{Moves: []job.Move{end(run[2], job.Failed), end(run[3], job.Failed)}})
		if err != nil || !got.Awaited {
			r.t.Errorf("4 is joined: %v", err)
		}
		out, err := r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id(3), id(4)}})
		if err != nil || !slices.Equal(numbers(out.Rows), []int{1, 2}) {
			r.t.Errorf("told %v, %v", numbers(out.Rows), err)
			return err
		}
		same(r.t, "left of 1", len(out.Rows[0].Joins), 0)
		same(r.t, "left of 2", out.Rows[1].Joins, []string{id(5)})
		if out.Rows[0].Conditions == nil || out.Rows[0].Epoch != run[0].Epoch {
			r.t.Errorf("%+v", out.Rows[0])
		}
		return nil
	})
	same(r.t, "once", len(r.signal(job.Signal{Ended: []string{id(4)}}).Rows), 0)
	r.must(end(run[4], job.Cancelled))
	same(r.t, "by a move", numbers(r.signal(job.Signal{Ended: []string{id(5)}}).Rows), []int{2})
}

// joinBatch: either the join is not made or the end knows of it, whatever the order of ids.
func joinBatch(r *rig) {
	r.insert(plainRows(1, 4)...)
	run := r.start(1, 2, 3, 4)
	ms := []job.Move{park(run[0], job.Parking{Jobs: []string{id(2)}}), end(run[1], job.Succeeded), end(run[2], job.Succeeded), park(run[3], job.Parking{Jobs: []string{id(3)}})}
	fin := r.finisher()
	in(r.t, r, func(ctx context.Context, tx store.Tx) error {
		got, err := fin.Finish(ctx, tx, job.Finish{Moves: ms})
		if err == nil && got.Awaited {
			_, err = r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id(2), id(3)}})
		}
		return err
	})
	for _, n := range []int{1, 4} {
		if row := r.waiting(n); row.State != job.Parked || len(row.Joins) > 0 {
			r.t.Fatalf("job %d is %s and waits for %v", n, row.State, row.Joins)
		}
	}
}

func childrenOf(r *rig) {
	child := func(n, parent int) job.Row { return with(plain(n), func(row *job.Row) { row.Parent = id(parent) }) }
	r.insert(plain(1), plain(2), child(3, 1), child(4, 2), child(5, 1), child(6, 1))
	run := r.start(1, 2, 3, 4, 5, 6)
	r.must(end(run[2], job.Succeeded))
	same(r.t, "live", numbers(r.find(job.Find{Parents: []string{id(2), id(1)}}).Rows), []int{4, 5, 6})
	same(r.t, "limit", numbers(r.find(job.Find{Parents: []string{id(1)}, Limit: 1}).Rows), []int{5})
	same(r.t, "none", len(r.find(job.Find{Parents: []string{id(3), id(99)}}).Rows), 0)
}
