package testkit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

type work struct{ N int }

// cluster is nodes that run jobs, and what the test knows of them.
type cluster struct {
	w    *testkit.World
	jobs map[string]*job.Manager // by node; the present life's
}

// node builds a node with a manager of its own; handlers take up to 3 s.
func (c *cluster) node(n *testkit.Node) drover.Component {
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store, Queues: map[string]int{"default": 8}})
	if err != nil {
		c.w.T.Fatal(err)
	}
	job.Handle(m, "work", func(ctx context.Context, a work) (int, error) {
		if err := n.Env.Sleep(ctx, time.Duration(a.N%7)*500*time.Millisecond); err != nil {
			return 0, err
		}
		if a.N%11 == 10 {
			if j, _ := job.FromContext(ctx); j.Attempt == 0 {
				return 0, fmt.Errorf("first try")
			}
		}
		return a.N, nil
	})
	c.jobs[n.Name()] = m
	return m
}

func newCluster(w *testkit.World, nodes ...string) (*cluster, []*testkit.Node) {
	c := &cluster{w: w, jobs: map[string]*job.Manager{}}
	var ns []*testkit.Node
	for _, name := range nodes {
		ns = append(ns, w.Node(name, c.node))
	}
	return c, ns
}

// submit hands n jobs, every second with one of five keys, to the nodes in turn, and gives their ids.
func (c *cluster) submit(nodes []*testkit.Node, n int) []string {
	var ids []string
	for i := range n {
		r := job.Request{Kind: "work", Args: work{i}}
		if i%2 == 0 {
			r.Sync = syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i % 10 / 2)}
		}
		for try := 0; ; try++ {
			j, err := c.jobs[nodes[(i+try)%len(nodes)].Name()].Submit(c.w.T.Context(), r)
			if err == nil {
				ids = append(ids, j.ID)
				break
			}
			if try > 100 {
				c.w.T.Fatal(err)
			}
			c.w.Advance(100 * time.Millisecond)
		}
	}
	return ids
}

// done waits until all jobs are final, asking through node's manager.
func (c *cluster) done(node string, within time.Duration, ids []string) {
	end := time.Now().Add(within)
	for _, id := range ids {
		for {
			ctx, cancel := context.WithDeadline(c.w.T.Context(), end)
			j, err := c.jobs[node].Wait(ctx, id)
			cancel()
			if err == nil && j.State == job.Succeeded {
				break
			}
			if time.Now().After(end) {
				c.w.T.Fatalf("job %s: %v after %v: %v", id, j, within, err)
			}
			c.w.Advance(100 * time.Millisecond)
		}
	}
}

// storm is three nodes, jobs with and without keys, a crash, a freeze and store errors.
func storm(w *testkit.World, jobs int) {
	w.JobInvariants()
	w.LeaseInvariants()
	c, ns := newCluster(w, "n1", "n2", "n3")
	for _, n := range ns {
		n.Fail("store.*", 0.01, nil)
		n.FailAfter("store.tx.commit", 0.01, nil)
		n.Serialize(0.01)
	}
	w.Hints(0.1, 0.05, time.Second)
	ids := c.submit(ns, jobs)
	r := w.Rand("storm")
	w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
	ns[0].Crash()
	w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
	ns[1].Freeze(40 * time.Second)
	w.Advance(time.Duration(r.IntN(60)) * time.Second)
	ns[0].Restart()
	for _, n := range ns {
		n.Fail("store.*", 0, nil)
		n.FailAfter("store.tx.commit", 0, nil)
	}
	c.done("n3", 10*time.Minute, ids)
}

func TestStorm(t *testing.T) {
	testkit.Explore(t, 20, func(w *testkit.World) { storm(w, 200) })
}
