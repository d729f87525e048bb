package storetest

import (
	"context"
	"testing"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func waits(t *testing.T, open func(t testing.TB) testkit.Stores) {
	run(t, open, []check{
		{"st-120 park: what is stored, and when it ends", parkStored},
		{"st-121 park: due at WakeAt", parkDue},
		{"st-122 joins: of live jobs only", joinLive},
		{"st-123 joins: the end is told", joinEnded},
		{"st-124 joins: parked and ended in one batch", joinBatch},
		{"st-125 signals: to a topic", signalTopic},
		{"st-126 signals: to one job", signalOne},
		{"st-127 signals: page by page", signalPages},
		{"st-128 signals: consumed once", signalConsumed},
		{"st-129 rolled back, nothing is told", waitsUndone},
		{"st-130 children by parent", childrenOf},
		{"st-131 a join and the end of its target overlap", joinRace},
		{"st-132 a signal and a park overlap", signalRace},
		{"st-133 two targets end at once", lastTwo},
		{"st-134 two signals at once: told once", signalTwice},
	})
}

// waiting is a job with what it waits for.
func (r *rig) waiting(n int) job.Row {
	r.t.Helper()
	rows := r.find(job.Find{IDs: []string{id(n)}, Waits: true}).Rows
	if len(rows) != 1 {
		r.t.Fatalf("job %d: %d rows", n, len(rows))
	}
	return rows[0]
}

func waitsUndone(r *rig) {
	r.insert(plain(1), plain(2), plain(3))
	run := r.start(1, 2, 3)
	r.must(park(run[0], job.Parking{Jobs: []string{id(2)}, Topics: []string{"t"}}))
	err := failing(r.t, r, func(ctx context.Context, tx store.Tx) error {
		if _, err := r.Jobs().Signal(ctx, tx, job.Signal{Topic: "t"}); err != nil {
			return err
		}
		if _, err := r.Jobs().Signal(ctx, tx, job.Signal{Ended: []string{id(2)}}); err != nil {
			return err
		}
		m := park(run[2], job.Parking{Jobs: []string{id(2)}, Topics: []string{"t"}, WakeAt: tx.Now()})
		if _, err := r.Jobs().Move(ctx, tx, []job.Move{m}); err != nil {
			return err
		}
		return errUndo
	})
	same(r.t, "error", err, errUndo)
	row := r.waiting(1)
	same(r.t, "joins", row.Joins, []string{id(2)})
	same(r.t, "inbox", len(row.Inbox), 0)
	same(r.t, "due", len(r.find(job.Find{Due: "parked"}).Rows), 0)
	same(r.t, "subscribed", r.signal(job.Signal{Topic: "t"}).Reached, 1)
}
