package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// storm is three nodes that work the same jobs while they crash, freeze and meet errors of the store. What it checks are
// the guarantees as rows show them in the end; see check.
type storm struct {
	w     *testkit.World
	jobs  map[string]*job.Manager // by node; of its present life
	nodes []*testkit.Node
	ids   []string // committed
	opt   []job.HandleOption
	hold  int                                             // longest time a handler takes, in ms
	more  func(s *storm, m *job.Manager, n *testkit.Node) // registers other kinds
	seen  job.Sink
}

type load struct {
	N    int
	Hold time.Duration
}

func newStorm(w *testkit.World, opts ...job.HandleOption) *storm {
	s := &storm{w: w, jobs: map[string]*job.Manager{}, opt: opts, hold: 3000}
	for _, name := range []string{"n1", "n2", "n3"} {
		s.nodes = append(s.nodes, w.Node(name, s.build))
	}
	return s
}

func (s *storm) build(n *testkit.Node) drover.Component {
	// A lease shorter than a transaction may take: so that what is stale can still reach the store.
	node, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier(), TTL: 9 * time.Second})
	if err != nil {
		s.w.T.Fatal(err)
	}
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store, Session: node, Queues: map[string]int{"default": 8}, Events: s.seen})
	if err != nil {
		s.w.T.Fatal(err)
	}
	// The result is the epoch that made it, which is what G2 is about.
	job.Handle(m, "load", func(ctx context.Context, a load) (int64, error) {
		j, _ := job.FromContext(ctx)
		if a.N%5 == 0 {
			if _, err := job.Step(ctx, "first", func(context.Context) (int, error) { return a.N, nil }); err != nil {
				return 0, err
			}
		}
		hold := a.Hold
		if j.Lost > 0 {
			hold *= 8 // a slow successor: time enough for a stale write to find it running
		}
		if err := n.Env.Sleep(ctx, hold); err != nil {
			return 0, err
		}
		switch {
		case a.N%7 == 6:
			if err := job.Report(ctx, job.Progress{Percent: 50}); err != nil {
				return 0, err
			}
		case a.N%13 == 12 && j.Attempt == 0:
			return 0, errors.New("fails once")
		case a.N%17 == 16 && j.Runs == 1:
			return 0, job.Again(time.Second)
		}
		return job.Token(ctx).Epoch, nil
	}, append([]job.HandleOption{job.Retry(nil, 100), job.MaxLost(100)}, s.opt...)...)
	if s.more != nil {
		s.more(s, m, n)
	}
	s.jobs[n.Name()] = m
	g := &drover.Group{}
	g.Add("node", node)
	g.Add("jobs", m)
	return g
}

// submit hands in jobs, every second one with one of ten keys, to any node that takes them.
func (s *storm) submit(jobs int) {
	r := s.w.Rand("load")
	for i := range jobs {
		req := job.Request{Kind: "load", Idem: fmt.Sprint(i), Args: load{i, time.Duration(r.IntN(s.hold)) * time.Millisecond}}
		if i%2 == 0 {
			req.Sync = syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i / 2 % 10)}
		}
		for try := i; ; try++ { // an error may mean that it is there: Idem finds out
			j, err := s.jobs[s.nodes[try%3].Name()].Submit(s.w.T.Context(), req)
			if err == nil {
				s.ids = append(s.ids, j.ID)
				break
			}
			s.w.Advance(100 * time.Millisecond)
		}
		if r.IntN(10) == 0 {
			s.w.Advance(time.Duration(r.IntN(1000)) * time.Millisecond)
		}
	}
}

// trouble makes faults for a while.
func (s *storm) trouble(faults int) {
	r := s.w.Rand("trouble")
	for _, n := range s.nodes {
		n.Fail("store.*", 0.01, nil)
		n.FailAfter("store.tx.commit", 0.02, nil)
		n.Serialize(0.01)
		// What is tried again, or waits here, when its node is frozen is stale afterwards.
		n.Fail("store.jobs.finish", 0.7, nil)
		n.Delay("store.tx.begin", 0.1, 0, 5*time.Second)
	}
	s.w.Hints(0.1, 0.05, time.Second)
	for range faults {
		s.w.Advance(time.Duration(r.IntN(8_000)) * time.Millisecond)
		switch n := s.nodes[r.IntN(3)]; r.IntN(7) {
		case 0:
			n.Crash()
			s.w.Advance(time.Duration(r.IntN(15_000)) * time.Millisecond)
			n.Restart()
		case 1:
			s.w.StoreDown(time.Duration(r.IntN(15_000)) * time.Millisecond)
		case 2:
			n.Restart()
		default:
			n.Freeze(time.Duration(8000+r.IntN(17_000)) * time.Millisecond)
		}
	}
	for _, n := range s.nodes {
		n.Fail("store.*", 0, nil)
		n.Fail("store.jobs.finish", 0, nil)
		n.FailAfter("store.tx.commit", 0, nil)
		n.Serialize(0)
		n.Delay("store.tx.begin", 0, 0, 0)
	}
}

// ends waits for every job, asking a node that mostly does not run it (G1, G5).
func (s *storm) ends(within time.Duration) (js []*job.Job) {
	end := time.Now().Add(within)
	for i, id := range s.ids {
		for {
			ctx, cancel := context.WithDeadline(s.w.T.Context(), end)
			j, err := s.jobs[s.nodes[i%3].Name()].Wait(ctx, id)
			cancel()
			if err == nil {
				js = append(js, j)
				break
			}
			if !time.Now().Before(end) {
				s.w.T.Fatalf("G1, G5: job %s is not final after %v: %s, %v", id, within, state(j), err)
			}
			s.w.Advance(100 * time.Millisecond)
		}
	}
	return js
}

// check looks at the final rows: each result is of the run with the last epoch (G2), the last runs of a key's jobs do not
// overlap and follow each other in order of submission (G3), and no line is left that nobody moves on (G4).
func (s *storm) check(js []*job.Job) {
	slices.SortFunc(js, func(a, b *job.Job) int { return int(a.Seq - b.Seq) })
	last := map[syncqueue.Key]*job.Job{}
	seen := map[string]bool{}
	for _, j := range js {
		if seen[j.ID] {
			s.w.T.Fatalf("G1: job %s answered twice", j.ID)
		}
		seen[j.ID] = true
		if j.State != job.Succeeded {
			s.w.T.Fatalf("G1: job %s %s: %v", j.ID, j.State, j.Error)
		}
		if string(j.Result) != fmt.Sprint(j.Epoch) {
			s.w.T.Fatalf("G2: job %s has epoch %d and the result of %s", j.ID, j.Epoch, j.Result)
		}
		if j.Sync.Kind == "" {
			continue
		}
		if p := last[j.Sync]; p != nil && (j.Started.Before(p.Ended) || j.Epoch <= p.Epoch) {
			s.w.T.Fatalf("G3: job %d of key %s started %v at epoch %d, job %d before it ended %v at epoch %d",
				j.Seq, j.Sync.ID, j.Started, j.Epoch, p.Seq, p.Ended, p.Epoch)
		}
		last[j.Sync] = j
	}
}

func TestExplore(t *testing.T) {
	t.Run("storm", exploreStorm)
	t.Run("job-01 by schedule", exploreTurns)
	t.Run("job-16 by schedule", exploreCancel)
	t.Run("job-19 crash points", exploreCrashPoints)
	t.Run("job-24 by schedule", exploreClocks)
	t.Run("job-78 random operations", exploreRandom)
}

// G1 to G5 hold whatever happens to three nodes and their store.
func exploreStorm(t *testing.T) {
	testkit.Explore(t, 200, func(w *testkit.World) {
		s := newStorm(w)
		s.hold = 10_000
		s.submit(200)
		s.trouble(12)
		s.check(s.ends(30 * time.Minute))
	})
}

// job-01 by schedule: keys take turns, in order, without faults.
func exploreTurns(t *testing.T) {
	testkit.Explore(t, 20, func(w *testkit.World) {
		s := newStorm(w)
		s.submit(100)
		js := s.ends(10 * time.Minute)
		s.check(js)
		for _, j := range js {
			if j.Lost > 0 {
				w.T.Fatalf("job %s lost without a fault", j.ID)
			}
		}
	})
}

// job-24: clocks an hour off and running at other rates lose nothing.
func exploreClocks(t *testing.T) {
	testkit.Explore(t, 20, func(w *testkit.World) {
		s := newStorm(w, job.Timeout(time.Minute))
		s.nodes[0].Skew(time.Hour, 1.08)
		s.nodes[1].Skew(-time.Hour, 0.92)
		s.submit(60)
		r := w.Rand("clocks")
		for range 12 { // while handlers run and sessions are renewed
			w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
			s.nodes[r.IntN(3)].Skew(time.Duration(r.IntN(7200)-3600)*time.Second, 0.92+0.16*r.Float64())
		}
		js := s.ends(10 * time.Minute)
		s.check(js)
		for _, j := range js {
			if j.Lost > 0 {
				w.T.Fatalf("job-24: job %s was lost %d times, and no node failed", j.ID, j.Lost)
			}
		}
	})
}

// job-16: cancel and finish race; the first commit wins, the next of the key goes on.
func exploreCancel(t *testing.T) {
	testkit.Explore(t, 100, func(w *testkit.World) {
		s := newStorm(w)
		s.submit(30)
		r := w.Rand("cancel")
		accepted := map[string]bool{}
		for range 20 {
			w.Advance(time.Duration(r.IntN(500)) * time.Millisecond)
			id := s.ids[r.IntN(len(s.ids))]
			ok, err := s.jobs[s.nodes[r.IntN(3)].Name()].Cancel(w.T.Context(), id, "test")
			if !ok && !errors.Is(err, job.ErrFinished) {
				w.T.Fatalf("cancel %s: %v", id, err)
			}
			accepted[id] = accepted[id] || ok
		}
		for _, j := range s.ends(10 * time.Minute) {
			switch {
			case j.State == job.Cancelled && !accepted[j.ID]:
				w.T.Fatalf("%s cancelled although nobody asked", j.ID)
			case j.State == job.Succeeded && string(j.Result) != fmt.Sprint(j.Epoch):
				w.T.Fatalf("%s: result %s, epoch %d", j.ID, j.Result, j.Epoch)
			case j.State == job.Failed:
				w.T.Fatalf("%s failed: %v", j.ID, j.Error)
			}
		}
	})
}

// job-19: a node that crashes before or after each operation of a job's life leaves nothing undone.
func exploreCrashPoints(t *testing.T) {
	testkit.Explore(t, 1, func(w *testkit.World) {
		s := newStorm(w)
		w.Advance(2 * time.Second)
		first := s.nodes[0]
		w.CrashPoints(first, func() {
			m := s.jobs["n1"]
			for i := range 4 {
				r := job.Request{Kind: "load", Idem: fmt.Sprint(i), Args: load{N: 5 * i, Hold: time.Second}, Sync: syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i % 2)}}
				if j, err := m.Submit(first.Context(), r); err == nil {
					s.ids = append(s.ids, j.ID)
				}
			}
			if len(s.ids) > 3 {
				_, _ = m.Cancel(first.Context(), s.ids[3])
			}
			w.Advance(5 * time.Second)
		})
		for _, id := range s.ids {
			ctx, cancel := context.WithTimeout(w.T.Context(), 5*time.Minute)
			j, err := s.jobs["n2"].Wait(ctx, id)
			cancel()
			if err != nil || j.State != job.Succeeded && j.State != job.Cancelled {
				w.T.Fatalf("job %s: %s, %v, %v", id, state(j), err, j.Error)
			}
			if j.State == job.Succeeded && strings.TrimSpace(string(j.Result)) != fmt.Sprint(j.Epoch) {
				w.T.Fatalf("job %s: result %s, epoch %d", id, j.Result, j.Epoch)
			}
		}
	})
}
