package job_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func TestExplorePark(t *testing.T) {
	t.Run("job-09 by schedule", exploreIdem)
	t.Run("job-44 subscribe, check, signal, park", exploreSubscribed)
	t.Run("job-46 the child ends as the parent parks", exploreLastChild)
	t.Run("job-46 control: no second look", exploreNoLook)
	t.Run("job-41 trees in a storm", exploreTrees)
	t.Run("job-54 cancelled trees", exploreCancelTrees)
	t.Run("job-19 crash points of trees", exploreTreePoints)
}

// pair is two nodes that do the same work.
type pair struct {
	w    *testkit.World
	jobs map[string]*job.Manager
}

func newPair(w *testkit.World, look func(job.Store) job.Store, register func(m *job.Manager)) *pair {
	p := &pair{w, map[string]*job.Manager{}}
	for _, name := range []string{"n1", "n2"} {
		w.Node(name, func(n *testkit.Node) drover.Component {
			s, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases()})
			if err != nil {
				w.T.Fatal(err)
			}
			m, err := job.New(job.Config{Env: n.Env, Tx: n.Store, Store: look(n.Store.Jobs()), Notify: n.Store.Notifier(), Session: s})
			if err != nil {
				w.T.Fatal(err)
			}
			register(m)
			p.jobs[n.Name()] = m
			g := &drover.Group{}
			g.Add("node", s)
			g.Add("jobs", m)
			return g
		})
	}
	w.Advance(2 * time.Second)
	return p
}

func plainStore(s job.Store) job.Store { return s }

// blind takes the second look of a job that parks from it.
func blind(s job.Store) job.Store { return blindStore{s} }

type blindStore struct{ job.Store }

func (b blindStore) List(ctx context.Context, tx store.Tx, f job.Find) (job.Found, error) {
	if f.Waits && f.IDs != nil {
		return job.Found{}, nil
	}
	return b.Store.List(ctx, tx, f)
}

func (p *pair) submit(node string, r job.Request) *job.Job {
	j, err := p.jobs[node].Submit(p.w.T.Context(), r)
	if err != nil {
		p.w.T.Fatal(err)
	}
	return j
}

// ends says whether j ends within a virtual minute.
func (p *pair) ends(j *job.Job) (*job.Job, bool) {
	ctx, cancel := context.WithTimeout(p.w.T.Context(), time.Minute)
	defer cancel()
	j, err := p.jobs["n1"].Wait(ctx, j.ID)
	return j, err == nil
}

func exploreIdem(t *testing.T) {
	testkit.Explore(t, 50, func(w *testkit.World) {
		s := newStorm(w)
		w.Advance(2 * time.Second)
		var ids [10]string
		var done atomic.Int32
		for i := range ids {
			w.Go(fmt.Sprint("submitter", i), func() {
				defer done.Add(1)
				for {
					j, err := s.jobs[s.nodes[i%3].Name()].Submit(w.T.Context(), job.Request{Kind: "load", Idem: "once", Args: load{N: 1}})
					if err == nil {
						ids[i] = j.ID
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		w.Eventually(time.Minute, "all submitted", func() bool { return done.Load() == int32(len(ids)) })
		for _, id := range ids {
			if id != ids[0] {
				w.T.Fatalf("answers %v", ids)
			}
		}
		s.ids = ids[:1]
		if js := s.ends(time.Minute); js[0].Runs != 1 {
			w.T.Fatalf("%d runs", js[0].Runs)
		}
	})
}

func exploreSubscribed(t *testing.T) {
	testkit.Explore(t, 1000, func(w *testkit.World) {
		var up atomic.Bool
		p := newPair(w, plainStore, func(m *job.Manager) {
			job.Handle(m, "wait", func(ctx context.Context, _ struct{}) (bool, error) {
				if err := job.Subscribe(ctx, "up"); err != nil {
					return false, err
				}
				if up.Load() {
					return true, nil
				}
				return false, job.Park(job.OnTopic("up"))
			})
		})
		r := w.Rand("load")
		j := p.submit("n1", job.Request{Kind: "wait"})
		w.Advance(time.Duration(r.IntN(12)) * time.Millisecond)
		up.Store(true)
		if _, err := p.jobs["n2"].WakeWith(w.T.Context(), "up", nil); err != nil {
			w.T.Fatal(err)
		}
		if j, ok := p.ends(j); !ok || j.Runs > 2 {
			w.T.Fatalf("%s after %d runs", state(j), j.Runs)
		}
	})
}

// family46 is a parent whose child ends at about the time when the parent parks; it says whether that woke up.
func family46(w *testkit.World, look func(job.Store) job.Store) (*job.Job, bool) {
	r := w.Rand("load")
	hold := time.Duration(r.IntN(8)) * time.Millisecond
	p := newPair(w, look, func(m *job.Manager) {
		job.Handle(m, "child", func(ctx context.Context, _ struct{}) (int, error) { return 1, nil })
		job.Handle(m, "parent", func(ctx context.Context, _ struct{}) (int, error) {
			c, err := m.Submit(ctx, job.Request{Kind: "child", Name: "c"})
			if err != nil {
				return 0, err
			}
			if j, _ := job.FromContext(ctx); j.Runs > 1 {
				return job.Await[int](ctx, c.ID)
			}
			time.Sleep(hold)
			return 0, job.Park(job.OnChildren(), job.OnJobs(c.ID))
		})
	})
	return p.ends(p.submit("n1", job.Request{Kind: "parent"}))
}

func exploreLastChild(t *testing.T) {
	testkit.Explore(t, 500, func(w *testkit.World) {
		if j, ok := family46(w, plainStore); !ok || j.State != job.Succeeded || j.Runs != 2 {
			w.T.Fatalf("%s after %d runs", state(j), j.Runs)
		}
	})
}

func exploreNoLook(t *testing.T) {
	var asleep atomic.Int32
	testkit.Explore(t, 100, func(w *testkit.World) {
		if _, ok := family46(w, blind); !ok {
			asleep.Add(1)
		}
	})
	if asleep.Load() == 0 {
		t.Fatal("without the second look no job slept for ever: the check checks nothing")
	}
}

type tree struct{ Width, Depth int }

// grow lets a job have a tree of children and count them, parked while they run.
func grow(s *storm, m *job.Manager, n *testkit.Node) {
	job.Handle(m, "tree", func(ctx context.Context, a tree) (int, error) {
		if a.Depth == 0 {
			j, _ := job.FromContext(ctx)
			return 1, n.Env.Sleep(ctx, time.Duration(100+j.Seq*37%1000)*time.Millisecond)
		}
		var ids []string
		for i := range a.Width {
			c, err := m.Submit(ctx, job.Request{Kind: "tree", Name: fmt.Sprint(i), Args: tree{a.Width, a.Depth - 1}})
			if err != nil {
				return 0, err
			}
			ids = append(ids, c.ID)
		}
		sum := 1
		for _, id := range ids {
			v, err := job.Await[int](ctx, id)
			if err != nil {
				return 0, err
			}
			sum += v
		}
		return sum, nil
	}, job.Retry(nil, 100), job.MaxLost(100))
}

func treeStorm(w *testkit.World) *storm {
	s := &storm{w: w, jobs: map[string]*job.Manager{}}
	s.more = grow
	for _, name := range []string{"n1", "n2", "n3"} {
		s.nodes = append(s.nodes, w.Node(name, s.build))
	}
	w.Advance(2 * time.Second)
	return s
}

func (s *storm) plant(n int, a tree) {
	for i := range n {
		for try := i; ; try++ {
			j, err := s.jobs[s.nodes[try%3].Name()].Submit(s.w.T.Context(), job.Request{Kind: "tree", Idem: fmt.Sprint(i), Args: a})
			if err == nil {
				s.ids = append(s.ids, j.ID)
				break
			}
			s.w.Advance(100 * time.Millisecond)
		}
	}
}

func exploreTrees(t *testing.T) {
	testkit.Explore(t, 50, func(w *testkit.World) {
		s := treeStorm(w)
		s.plant(3, tree{2, 2})
		s.trouble(6)
		for _, j := range s.ends(30 * time.Minute) {
			if got, err := job.Result[int](j); got != 7 || err != nil {
				w.T.Fatalf("%d jobs, %v", got, err)
			}
		}
	})
}

// noneLeft checks that no job below root is live.
func (s *storm) noneLeft(root string) {
	for try := 0; ; try++ {
		js, _, err := s.jobs["n2"].Page(s.w.T.Context(), job.Query{Root: root})
		if err == nil && len(js) == 0 {
			return
		}
		if try == 600 {
			s.w.T.Fatalf("%d jobs of a cancelled tree are live, the first %s %s, %v", len(js), js[0].State, js[0].Args, err)
		}
		s.w.Advance(100 * time.Millisecond)
	}
}

func exploreCancelTrees(t *testing.T) {
	testkit.Explore(t, 100, func(w *testkit.World) {
		s := treeStorm(w)
		s.plant(2, tree{2, 2})
		r := w.Rand("cancel")
		w.Advance(time.Duration(r.IntN(2000)) * time.Millisecond)
		ok, err := s.jobs["n1"].Cancel(w.T.Context(), s.ids[0], "test")
		js := s.ends(10 * time.Minute)
		if ok && js[0].State != job.Cancelled && js[0].State != job.Succeeded || err != nil && ok {
			w.T.Fatalf("cancel %v, %v: %s", ok, err, js[0].State)
		}
		s.noneLeft(s.ids[0])
		if got, err := job.Result[int](js[1]); got != 7 || err != nil {
			w.T.Fatalf("the other tree: %d, %v", got, err)
		}
	})
}

func exploreTreePoints(t *testing.T) {
	testkit.Explore(t, 1, func(w *testkit.World) {
		s := treeStorm(w)
		first := s.nodes[0]
		w.CrashPoints(first, func() {
			m := s.jobs["n1"]
			for i := range 2 {
				j, err := m.Submit(first.Context(), job.Request{Kind: "tree", Idem: fmt.Sprint(i), Args: tree{2, 1}})
				if err == nil {
					s.ids = append(s.ids, j.ID)
				}
			}
			w.Advance(700 * time.Millisecond)
			for i, id := range s.ids {
				if i == 0 {
					_ = m.Wake(first.Context(), "job/"+id)
				} else {
					_, _ = m.Cancel(first.Context(), id)
				}
			}
			w.Advance(4 * time.Second)
		})
		for _, id := range s.ids { // n1 may be dead
			ctx, cancel := context.WithTimeout(w.T.Context(), 5*time.Minute)
			j, err := s.jobs["n2"].Wait(ctx, id)
			cancel()
			if err != nil {
				w.T.Fatalf("%s: %v", state(j), err)
			}
			if got, err := job.Result[int](j); j.State != job.Cancelled && (got != 3 || err != nil) {
				w.T.Fatalf("%s, %d, %v", j.State, got, err)
			}
			s.noneLeft(id)
		}
	})
}
