package console_test

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
)

// every has 1 000 transitions at 200/s, and wants each end in all streams, not more than four frames of a job in any second, and
// the last within 250 ms (and what the way between nodes takes).
func every(t *testing.T, r *rig, vs ...*viewer) {
	time.Sleep(2 * time.Second) // the nodes know who looks
	ids, last := map[string]bool{}, ""
	for i := range 500 { // submitted and ended: two each
		a := args{Name: "!" + strconv.Itoa(i)}
		if i%3 == 0 {
			a.Fail = "x"
		}
		last = r.submit("work", a).ID
		ids[last] = true
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(240 * time.Millisecond)
	synctest.Wait()
	for n, v := range vs {
		if es := named(v.events(), "job"); n == 0 && !slices.ContainsFunc(es, func(e event) bool { return e.Data["id"] == last && job.State(e.Data["state"].(string)).Final() }) {
			t.Errorf("stream %d: the last end has not come within 250 ms", n)
		}
	}
	time.Sleep(500 * time.Millisecond)
	synctest.Wait()
	for n, v := range vs {
		ended, frames := map[string]bool{}, map[string]int{}
		for _, e := range named(v.events(), "job") {
			id := e.Data["id"].(string)
			frames[id]++
			ended[id] = ended[id] || job.State(e.Data["state"].(string)).Final()
			if _, has := e.Data["args"]; has {
				t.Error("a frame has arguments")
			}
		}
		for id := range ids {
			if !ended[id] || frames[id] > 4 {
				t.Errorf("stream %d: %s: ended %v, %d frames", n, id, ended[id], frames[id])
			}
		}
		v.close()
	}
}

// countedJobs and countedLeases count reads of the store.
type countedJobs struct {
	console.Jobs
	n *atomic.Int64
}

func (c countedJobs) Page(ctx context.Context, q job.Query) ([]*job.Job, string, error) {
	c.n.Add(1)
	return c.Jobs.Page(ctx, q)
}

func (c countedJobs) Lookup(ctx context.Context, ids []string) (map[string]*job.Job, error) {
	c.n.Add(1)
	return c.Jobs.Lookup(ctx, ids)
}

func (c countedJobs) Stats(ctx context.Context) (job.Stats, error) {
	c.n.Add(1)
	return c.Jobs.Stats(ctx)
}

type countedLeases struct {
	console.Leases
	n *atomic.Int64
}

func (c countedLeases) List(ctx context.Context) ([]lease.Info, error) {
	c.n.Add(1)
	return c.Leases.List(ctx)
}
