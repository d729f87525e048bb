package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

type check struct {
	name string
	f    func(r *rig)
}

func run(t *testing.T, open func(t testing.TB) testkit.Stores, checks []check) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.f(newRig(t, open)) })
	}
}

// everything does one of each write, in the caller's transaction: 1 runs on vm, 2 and 3 wait behind it.
func (r *rig) everything(ctx context.Context, tx store.Tx, running job.Row) error {
	_, err1 := r.Jobs().Insert(ctx, tx, []job.Row{plain(10), keyed(11, vm), keyed(12, other)})
	err2 := r.Jobs().Log(ctx, tx, []job.Entry{{JobID: running.ID, Epoch: running.Epoch, Text: "x", Progress: &job.Progress{Percent: 5}}})
	_, err3 := r.Jobs().Move(ctx, tx, []job.Move{end(running, job.Succeeded)})
	_, err4 := r.Jobs().Claim(ctx, tx, r.all(10))
	_, err5 := r.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm", Policy: syncqueue.Policy{Limit: 3}}})
	return errors.Join(err1, err2, err3, err4, err5)
}

// unchanged runs f and checks that it left nothing of everything behind.
func (r *rig) unchanged(f func(running job.Row)) {
	r.t.Helper()
	r.insert(keyedRows(vm, 1, 3)...)
	running := r.start(1)[0]
	before := r.find(job.Find{Query: &job.Query{}}).Rows
	f(running)
	after := r.find(job.Find{Query: &job.Query{}, Journal: true}).Rows
	if len(before) != len(after) {
		r.t.Fatalf("%v before, %v after", numbers(before), numbers(after))
	}
	for i := range after {
		sameRow(r.t, "row", after[i], before[i])
	}
	if j := r.find(job.Find{IDs: []string{id(1)}, Journal: true}).Journal; len(j) != 0 {
		r.t.Fatalf("journal: %v", j)
	}
	r.start() // nothing became claimable
	r.must(end(running, job.Succeeded))
	r.is(job.Succeeded, job.Ready, job.Waiting)
	r.start(2)
	same(r.t, "repaired", r.audit(), 0)
}
