package server

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// raced is a command like those on machines: it takes the machine's turn and can be cancelled.
type raced struct {
	ID string `param:"id,required"`
}

// outcomes counts what became of the jobs, as events of committed transactions tell; one that is rolled back is taken back.
type outcomes struct{ completed map[string][]dispatch.Code }

func (o *outcomes) Publish(_ context.Context, _ store.Tx, e dispatch.Event) error {
	if e.Phase == dispatch.Completed {
		o.completed[e.JobID] = append(o.completed[e.JobID], e.Code)
	}
	return nil
}

// A cancel at one node while the job ends at another.
func TestCancelRace(t *testing.T) {
	t.Parallel()
	seeds := 60
	if os.Getenv("DROVER_LONG") != "" {
		seeds = 1000
	}
	t.Run("ref-35 cancel races completion", func(t *testing.T) {
		testkit.Explore(t, seeds, func(w *testkit.World) {
			w.JobInvariants()
			all := &outcomes{completed: map[string][]dispatch.Code{}}
			nodes, registries := map[string]*job.Manager{}, map[string]*dispatch.Registry{}
			var inside, most atomic.Int32
			build := func(n *testkit.Node) drover.Component {
				m, err := job.New(job.Config{Env: n.Env, DB: n.Store})
				if err != nil {
					w.T.Fatal(err)
				}
				r := &dispatch.Registry{Env: n.Env, Tx: n.Store, Jobs: m, Events: all}
				dispatch.Async(r, m, "rebootVirtualMachine", nil, func(ctx context.Context, p raced) (string, error) {
					most.Store(max(most.Load(), inside.Add(1)))
					defer inside.Add(-1)
					return "up", n.Env.Sleep(ctx, time.Second)
				}, dispatch.Cancellable(), dispatch.SyncKey(func(p raced) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: p.ID} }))
				nodes[n.Name()], registries[n.Name()] = m, r
				return m
			}
			w.Node("a", build)
			w.Node("b", build)
			w.Advance(2 * time.Second)
			var ids [2]string
			for i := range ids {
				answer, err := registries["a"].Dispatch(w.T.Context(), &dispatch.Command{
					Name: "rebootVirtualMachine", Params: map[string]string{"id": "42"}, Caller: map[string]string{"account": "admin", "roles": "admin"},
				})
				if err != nil {
					w.T.Fatal(err)
				}
				ids[i] = answer.(dispatch.Accepted).JobID
			}
			var accepted bool
			w.Go("cancel", func() {
				w.Advance(900*time.Millisecond + time.Duration(w.Rand("when").IntN(200))*time.Millisecond) // about when it ends
				accepted, _ = nodes["b"].Cancel(w.T.Context(), ids[0], "race")
			})
			var ended [2]*job.Job
			for i, id := range ids {
				j, err := nodes["b"].Wait(w.T.Context(), id) // the second has the turn of the first
				if err != nil {
					w.T.Fatal(err)
				}
				ended[i] = j
			}
			w.Advance(10 * time.Second)
			first, err := nodes["a"].Get(w.T.Context(), ids[0])
			switch {
			case err != nil || first.State != ended[0].State || first.State != job.Succeeded && first.State != job.Cancelled:
				w.T.Fatal(fmt.Sprint(first, ended[0], err))
			case first.State == job.Cancelled && !accepted:
				w.T.Error("cancelled, and the cancel was not accepted")
			case ended[1].State != job.Succeeded || most.Load() != 1:
				w.T.Error("turn: ", ended[1].State, most.Load())
			}
			for i, id := range ids {
				if got := all.completed[id]; len(got) != 1 || (got[0] == "") != (ended[i].State == job.Succeeded) {
					w.T.Error("completed events: ", got, ended[i].State)
				}
			}
		})
	})
}
