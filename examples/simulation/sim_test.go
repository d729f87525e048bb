// Package simulation shows what a host application tests with testkit: its own handlers on a whole cluster, in virtual
// time, with faults, each run replayable from its seed.
package simulation

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// A job survives the crash of its node and takes effect exactly once: for 200 schedules.
func TestJobSurvivesCrash(t *testing.T) {
	testkit.Explore(t, 200, func(w *testkit.World) {
		w.JobInvariants()
		var effects atomic.Int32 // atomic: the race detector knows nothing of virtual time
		var jobs *job.Manager
		node := func(n *testkit.Node) drover.Component {
			m, err := job.New(job.Config{Env: n.Env, DB: n.Store})
			if err != nil {
				w.T.Fatal(err)
			}
			job.Handle(m, "once", func(ctx context.Context, _ struct{}) (struct{}, error) {
				time.Sleep(10 * time.Second) // virtual: the host's code needs no clock of ours
				if ctx.Err() == nil {
					effects.Add(1)
				}
				return struct{}{}, ctx.Err()
			})
			jobs = m
			return m
		}
		a := w.Node("a", node)
		w.Node("b", node)
		if _, err := jobs.Submit(w.T.Context(), job.Request{Kind: "once", Args: struct{}{}}); err != nil {
			w.T.Fatal(err)
		}
		w.Advance(5 * time.Second)
		a.Crash()
		w.Eventually(2*time.Minute, "done once", func() bool { return effects.Load() == 1 })
	})
}

// Twenty calls on one VM, on two nodes that crash and freeze, never overlap.
func TestOneAtATime(t *testing.T) {
	testkit.Explore(t, 50, func(w *testkit.World) {
		w.JobInvariants()
		nodes := map[string]*job.Manager{}
		node := func(n *testkit.Node) drover.Component {
			m, err := job.New(job.Config{Env: n.Env, DB: n.Store})
			if err != nil {
				w.T.Fatal(err)
			}
			job.Handle(m, "vm.reboot", func(ctx context.Context, _ string) (string, error) {
				return "up", n.Env.Sleep(ctx, time.Second)
			})
			nodes[n.Name()] = m
			return m
		}
		names, done := []string{"a", "b"}, 0
		for _, name := range names {
			w.Node(name, node)
		}
		stop := w.Chaos(testkit.Rough)
		for i := range 20 {
			w.Go(fmt.Sprint("client-", i), func() {
				w.Advance(time.Duration(i) * 10 * time.Second)
				r := job.Request{ID: fmt.Sprintf("00000000-0000-7000-8000-%012d", i), Kind: "vm.reboot", Args: "42", Sync: syncqueue.Key{Kind: "vm", ID: "42"}}
				for j, err := nodes[names[i%2]].Submit(w.T.Context(), r); j == nil; j, err = nodes[names[i%2]].Submit(w.T.Context(), r) {
					w.T.Log("again:", err)
					w.Advance(time.Second)
				}
				done++
			})
		}
		w.Advance(10 * time.Minute)
		stop()
		w.Eventually(time.Minute, "all are accepted", func() bool { return done == 20 })
	})
}
