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

// node builds a node with a manager of its own; handlers take up to 3 s, one in ten up to a minute.
func (c *cluster) node(n *testkit.Node) drover.Component {
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store, Queues: map[string]int{"default": 8}})
	if err != nil {
		c.w.T.Fatal(err)
	}
	job.Handle(m, "work", func(ctx context.Context, a work) (int, error) {
		d := time.Duration(a.N%7) * 500 * time.Millisecond
		if a.N%10 == 3 {
			d = time.Duration(a.N) * time.Second / 3
		}
		if err := n.Env.Sleep(ctx, d); err != nil {
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

// storm is three nodes, jobs with and without keys, crashes, freezes and store errors, some of the jobs longer than a lease.
func storm(w *testkit.World, jobs int) {
	w.JobInvariants()
	w.LeaseInvariants()
	c, ns := newCluster(w, "n1", "n2", "n3")
	for _, n := range ns {
		n.Fail("store.*", 0.01, nil)
		n.FailAfter("store.tx.commit", 0.01, nil)
		n.Serialize(0.01)
		n.Delay("store.tx.begin", 0.2, 0, 2*time.Second)
	}
	w.Hints(0.1, 0.05, time.Second)
	var ids []string
	w.Go("submitter", func() { ids = c.submit(ns, jobs) })
	r := w.Rand("storm")
	for i := range 5 {
		w.Advance(time.Duration(r.IntN(8000)) * time.Millisecond)
		n := ns[r.IntN(len(ns))]
		if i%2 == 0 {
			n.Freeze(time.Duration(35+r.IntN(20)) * time.Second)
			continue
		}
		n.Crash()
		w.Advance(time.Duration(r.IntN(5000)) * time.Millisecond)
		n.Restart()
	}
	w.Eventually(5*time.Minute, "all jobs are submitted", func() bool { return len(ids) == jobs })
	for _, n := range ns {
		n.Fail("store.*", 0, nil)
		n.FailAfter("store.tx.commit", 0, nil)
	}
	c.done("n3", 20*time.Minute, ids)
}

func TestStorm(t *testing.T) {
	testkit.Explore(t, 200, func(w *testkit.World) { storm(w, 200) })
}
