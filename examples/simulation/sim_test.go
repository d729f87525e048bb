package simulation

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/testkit"
)

// A job survives the crash of its node and takes effect exactly once: for 200 schedules.
func TestJobSurvivesCrash(t *testing.T) {
	testkit.Explore(t, 200, func(w *testkit.World) {
		effects := 0
		var jobs *job.Manager
		node := func(n *testkit.Node) drover.Component {
			s, _ := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases()})
			m, _ := job.New(job.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Jobs(), Session: s})
			job.Handle(m, "once", func(ctx context.Context, _ struct{}) (struct{}, error) {
				time.Sleep(10 * time.Second) // virtual: the host's code needs no clock of ours
				if ctx.Err() == nil {
					effects++
				}
				return struct{}{}, ctx.Err()
			})
			jobs = m
			g := new(drover.Group)
			g.Add("node", s)
			g.Add("jobs", m)
			return g
		}
		a := w.Node("a", node)
		w.Node("b", node)
		if _, err := jobs.Submit(w.T.Context(), job.Request{Kind: "once", Args: struct{}{}}); err != nil {
			w.T.Fatal(err)
		}
		w.Advance(5 * time.Second)
		a.Crash()
		w.Eventually(2*time.Minute, "done once", func() bool { return effects == 1 })
	})
}
