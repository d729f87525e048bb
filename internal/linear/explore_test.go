package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// scribe notes what clients and handlers learn of jobs, in the order of one counter.
type scribe struct {
	mu   sync.Mutex
	tick int64
	ops  map[string][]porcupine.Operation
}

func (s *scribe) now() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	return s.tick
}

func (s *scribe) note(id string, client int, call int64, in seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	s.ops[id] = append(s.ops[id], porcupine.Operation{ClientId: client, Input: in, Call: call, Return: s.tick})
}

// crowd is three nodes, and clients that ask any of them for anything.
type crowd struct {
	scribe
	w     *testkit.World
	mgr   sync.Mutex
	jobs  map[string]*job.Manager // by node; of its present life
	ids   []string
	ended atomic.Int32
}

func (c *crowd) build(n *testkit.Node) drover.Component {
	session, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier(), TTL: 9 * time.Second})
	if err != nil {
		c.w.T.Fatal(err)
	}
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store, Session: session, Queues: map[string]int{"default": 4}})
	if err != nil {
		c.w.T.Fatal(err)
	}
	job.Handle(m, "work", func(ctx context.Context, hold time.Duration) (int64, error) {
		j, _ := job.FromContext(ctx)
		epoch := job.Token(ctx).Epoch
		c.note(j.ID, 9, c.now(), seen{What: "ran", Epoch: epoch})
		if j.Runs == 1 && hold%3 == 0 {
			return 0, job.Again(time.Second)
		}
		if j.Runs == 1 && hold%5 == 0 {
			return 0, errors.New("fails once")
		}
		return epoch, n.Env.Sleep(ctx, hold)
	}, job.MaxLost(100))
	c.mgr.Lock()
	c.jobs[n.Name()] = m
	c.mgr.Unlock()
	g := &drover.Group{}
	if err := errors.Join(g.Add("session", session), g.Add("jobs", m)); err != nil {
		c.w.T.Fatal(err)
	}
	return g
}

func (c *crowd) manager(r *rand.Rand) *job.Manager {
	c.mgr.Lock()
	defer c.mgr.Unlock()
	return c.jobs[fmt.Sprint("n", 1+r.IntN(3))]
}

// client does one thing after another, each with any job on any node.
func (c *crowd) client(k int, r *rand.Rand) {
	defer c.ended.Add(1)
	ctx := c.w.T.Context()
	for range 30 {
		time.Sleep(time.Duration(r.IntN(800)) * time.Millisecond)
		m, id := c.manager(r), c.ids[r.IntN(len(c.ids))]
		var err error
		call := c.now()
		switch r.IntN(9) {
		case 0:
			var ok bool
			if ok, err = m.Cancel(ctx, id, "client"); err == nil && !ok {
				continue
			}
		case 1:
			err = m.Hold(ctx, id)
		case 2:
			err = m.SetPriority(ctx, id, r.IntN(20))
		case 3:
			err = m.Fence(ctx, id, "client")
		default:
			c.read(ctx, m, k, id)
			continue
		}
		switch {
		case err == nil:
			c.note(id, k, call, seen{What: "changed"})
		case errors.Is(err, job.ErrFinished):
			c.note(id, k, call, seen{What: "finished"})
		} // else it was refused for another reason, or nobody knows
	}
}

func (c *crowd) read(ctx context.Context, m *job.Manager, k int, id string) {
	call := c.now()
	if j, err := m.Get(ctx, id); err == nil {
		c.note(id, k, call, seen{"read", j.Rev, j.Epoch, string(j.State), j.State.Final()})
	}
}

func TestExplore(t *testing.T) {
	t.Run("job-78 what clients see of a job is linearizable", func(t *testing.T) {
		var judged atomic.Int64
		testkit.Explore(t, 200, func(w *testkit.World) {
			c := &crowd{w: w, jobs: map[string]*job.Manager{}, scribe: scribe{ops: map[string][]porcupine.Operation{}}}
			var nodes []*testkit.Node
			for _, name := range []string{"n1", "n2", "n3"} {
				nodes = append(nodes, w.Node(name, c.build))
			}
			w.Advance(time.Second)
			for i := range 6 {
				j, err := c.jobs["n1"].Submit(w.T.Context(), job.Request{Kind: "work", Args: time.Duration(i*700) * time.Millisecond, Sync: syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i % 2)}})
				if err != nil {
					w.T.Fatal(err)
				}
				c.ids = append(c.ids, j.ID)
			}
			for k := range 3 {
				r := w.Rand(fmt.Sprint("client", k))
				w.Go(fmt.Sprint("client", k), func() { c.client(k, r) })
			}
			r := w.Rand("trouble")
			for range 4 {
				w.Advance(time.Duration(r.IntN(4000)) * time.Millisecond)
				n := nodes[r.IntN(3)]
				n.FailAfter("store.tx.commit", 0.05, nil)
				n.Freeze(time.Duration(r.IntN(15_000)) * time.Millisecond)
			}
			w.Eventually(10*time.Minute, "the clients are done", func() bool { return c.ended.Load() == 3 })
			for _, id := range c.ids {
				judged.Add(int64(len(c.ops[id])))
				if porcupine.CheckOperations(observed, slices.Clone(c.ops[id])) {
					continue
				}
				for _, o := range c.ops[id] {
					w.T.Logf("client %d: %+v [%d, %d]", o.ClientId, o.Input, o.Call, o.Return)
				}
				w.T.Fatalf("job %s: what was seen is not linearizable", id)
			}
		})
		t.Logf("%d operations", judged.Load())
	})
	t.Run("job-78 what is not", func(t *testing.T) {
		read := func(rev int64, state job.State) seen { return seen{"read", rev, 1, string(state), state.Final()} }
		for name, ops := range map[string][]seen{
			"back":            {read(3, job.Running), read(2, job.Ready)},
			"one revision":    {read(3, job.Running), read(3, job.Ready)},
			"out of its end":  {read(3, job.Succeeded), read(4, job.Running)},
			"two ends":        {read(3, job.Succeeded), read(4, job.Failed)},
			"changed late":    {read(3, job.Succeeded), {What: "changed"}},
			"finished, alive": {{What: "finished"}, read(9, job.Running)},
			"an older run":    {{What: "ran", Epoch: 5}, read(9, job.Running)},
			"run again":       {read(3, job.Succeeded), {What: "ran", Epoch: 7}},
		} {
			var all []porcupine.Operation
			for i, in := range ops {
				all = append(all, porcupine.Operation{Input: in, Call: int64(2 * i), Return: int64(2*i + 1)})
			}
			if porcupine.CheckOperations(observed, all) {
				t.Errorf("%s: is linearizable", name)
			}
		}
	})
}
