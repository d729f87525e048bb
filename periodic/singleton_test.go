package periodic_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/testkit"
)

// cluster is nodes with one singleton task.
type cluster struct {
	w    *testkit.World
	task func(n *testkit.Node, l periodic.Ledger, f periodic.Func) periodic.Task
	body func(ctx context.Context, n *testkit.Node) error

	sink *live // of log lines

	mu    sync.Mutex
	sets  map[string]*periodic.Set
	begun []begun
	done  map[time.Time]int // completed runs by due time
}

// begun is one run.
type begun struct {
	node  string
	due   time.Time
	epoch int64
	at    time.Time
}

func newCluster(w *testkit.World, d time.Duration, opts ...periodic.SingletonOption) *cluster {
	w.LeaseInvariants()
	return &cluster{w: w, sink: &live{}, sets: map[string]*periodic.Set{}, done: map[time.Time]int{},
		body: func(context.Context, *testkit.Node) error { return nil },
		task: func(_ *testkit.Node, l periodic.Ledger, f periodic.Func) periodic.Task {
			return periodic.Every(d, "gc", f, periodic.Singleton(l, opts...))
		}}
}

func (c *cluster) build(n *testkit.Node) drover.Component {
	s, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier()})
	if err != nil {
		c.w.T.Fatal(err)
	}
	env := n.Env
	env.Logger = newLogger(c.sink)
	set := &periodic.Set{Env: env}
	err = set.Add(c.task(n, lease.NewLedger(s, n.Store.Ledger()), func(ctx context.Context) error {
		r := periodic.RunOf(ctx)
		c.mu.Lock()
		c.begun = append(c.begun, begun{n.Name(), r.Due.UTC(), r.Epoch, r.Started})
		c.mu.Unlock()
		if err := c.body(ctx, n); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.done[r.Due.UTC()]++
		return nil
	}))
	if err != nil {
		c.w.T.Fatal(err)
	}
	c.mu.Lock()
	c.sets[n.Name()] = set
	c.mu.Unlock()
	g := &drover.Group{Env: n.Env}
	g.Add("session", s)
	g.Add("tasks", set)
	return g
}

func (c *cluster) runs() []begun {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.begun)
}

func (c *cluster) status(node string) periodic.Status {
	c.mu.Lock()
	s := c.sets[node]
	c.mu.Unlock()
	return s.Status()[0]
}

func (c *cluster) count() int { return len(c.runs()) }

func TestSingleton(t *testing.T) {
	t.Parallel()
	t.Run("periodic-56 three nodes, each due time once", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			c := newCluster(w, 10*time.Second)
			for _, n := range []string{"a", "b", "c"} {
				w.Node(n, c.build).Slow(5) // so that they ask at once
			}
			c.onceEach(30)
		})
	})
	t.Run("periodic-57 the holder crashes inside Do", func(t *testing.T) {
		testkit.Explore(t, 50, func(w *testkit.World) {
			c := newCluster(w, 10*time.Minute)
			c.body = func(ctx context.Context, n *testkit.Node) error { return n.Env.Sleep(ctx, time.Minute) }
			nodes := map[string]*testkit.Node{}
			for _, n := range []string{"a", "b", "c"} {
				nodes[n] = w.Node(n, c.build)
			}
			w.Eventually(11*time.Minute, "a first run", func() bool { return c.count() == 1 })
			w.Advance(20 * time.Second)
			first := c.runs()[0]
			nodes[first.node].Crash()
			w.Eventually(31*time.Second+100*time.Millisecond, "the same due time elsewhere", func() bool { return c.count() == 2 })
			second := c.runs()[1]
			if !second.due.Equal(first.due) || second.epoch <= first.epoch || second.node == first.node {
				w.T.Errorf("%+v after %+v", second, first)
			}
			w.Advance(5 * time.Minute)
			if n := c.count(); n != 2 {
				w.T.Errorf("%d runs", n)
			}
		})
	})
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprint("periodic-58 the holder frozen, AtMostOnce ", once), func(t *testing.T) {
			testkit.Explore(t, 30, func(w *testkit.World) {
				var opts []periodic.SingletonOption
				if once {
					opts = append(opts, periodic.AtMostOnce())
				}
				c := newCluster(w, 10*time.Minute, opts...)
				var causes []error
				c.body = func(ctx context.Context, n *testkit.Node) error {
					err := n.Env.Sleep(ctx, 40*time.Second)
					c.mu.Lock()
					defer c.mu.Unlock()
					causes = append(causes, context.Cause(ctx))
					return err
				}
				nodes := map[string]*testkit.Node{}
				for _, n := range []string{"a", "b"} {
					nodes[n] = w.Node(n, c.build)
				}
				w.Eventually(11*time.Minute, "a first run", func() bool { return c.count() == 1 })
				w.Advance(time.Second)
				nodes[c.runs()[0].node].Freeze(90 * time.Second)
				w.Advance(150 * time.Second)
				want := 2
				if once {
					want = 1
				}
				if n := c.count(); n != want {
					w.T.Errorf("%d runs, want %d", n, want)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				if !slices.ContainsFunc(causes, func(err error) bool { return errors.Is(err, periodic.ErrLost) }) {
					w.T.Errorf("no ctx was lost: %v", causes)
				}
			})
		})
	}
	t.Run("periodic-59 a due time that kills its nodes", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			c := newCluster(w, time.Hour)
			nodes := map[string]*testkit.Node{}
			kill := true
			c.body = func(ctx context.Context, n *testkit.Node) error {
				if !kill {
					return nil
				}
				return n.Env.Sleep(ctx, time.Minute)
			}
			for _, n := range []string{"a", "b", "c", "d"} {
				nodes[n] = w.Node(n, c.build)
			}
			for i := range 3 {
				w.Eventually(2*time.Hour, fmt.Sprint("run ", i+1), func() bool { return c.count() == i+1 })
				nodes[c.runs()[i].node].Crash()
			}
			kill = false
			w.Advance(2 * time.Minute)
			rs := c.runs()
			for _, r := range rs[1:] {
				if !r.due.Equal(rs[0].due) {
					w.T.Errorf("%v, want the due time again", rs)
				}
			}
			w.Eventually(time.Hour, "the next due time", func() bool { return c.count() == 4 })
			if next := c.runs()[3]; !next.due.Equal(rs[0].due.Add(time.Hour)) {
				w.T.Errorf("%v after %v", next, rs[0])
			}
			if len(c.sink.logged("periodic.abandoned")) == 0 {
				w.T.Error("no event periodic.abandoned")
			}
		})
	})
	t.Run("periodic-60 a node whose clock is fast", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			c := newCluster(w, time.Minute)
			w.Node("a", c.build)
			w.Node("fast", c.build).Skew(5*time.Minute, 1)
			w.Node("b", c.build)
			w.Advance(20 * time.Minute)
			rs := c.runs()
			if len(rs) < 19 || len(rs) > 20 {
				w.T.Errorf("%d runs in 20 min", len(rs))
			}
			for i, r := range rs {
				if i > 0 && r.due.Sub(rs[i-1].due) != time.Minute {
					w.T.Errorf("%v after %v", r.due, rs[i-1].due)
				}
				at := r.at
				if r.node == "fast" {
					at = at.Add(-5 * time.Minute)
				}
				if at.Before(r.due.Add(-time.Second)) {
					w.T.Errorf("%s ran %v at %v", r.node, r.due, at)
				}
			}
		})
	})
	t.Run("periodic-62 the store is away for three due times", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			c := newCluster(w, 5*time.Second)
			w.Node("a", c.build)
			w.Eventually(time.Minute, "two runs", func() bool { return c.count() == 2 })
			w.Advance(time.Second)
			w.StoreDown(17 * time.Second)
			w.Advance(16 * time.Second)
			if n, st := c.count(), c.status("a"); n != 2 || st.State != "unknown" || st.Gated < 3 || st.Gated > 17 {
				w.T.Errorf("%d runs, %+v", n, st)
			}
			w.Advance(5 * time.Second)
			rs := c.runs()
			if len(rs) < 3 || len(rs) > 4 {
				w.T.Fatalf("%d runs", len(rs))
			}
			if gap := rs[2].due.Sub(rs[1].due); gap < 15*time.Second || gap > 20*time.Second {
				w.T.Errorf("%v after %v", rs[2].due, rs[1].due)
			}
		})
	})
	t.Run("periodic-66 fifty mixed tasks with faults, twice the same", func(t *testing.T) {
		testkit.Explore(t, 3, func(w *testkit.World) { // Strict: each world is run twice and compared
			c := newCluster(w, 7*time.Second)
			for _, name := range []string{"a", "b"} {
				w.Node(name, func(n *testkit.Node) drover.Component {
					g := c.build(n)
					mixed(w, c.sets[n.Name()], n)
					return g
				})
			}
			stop := w.Chaos(testkit.Rough)
			w.Advance(2 * time.Minute)
			stop()
		})
	})
}

// mixed adds tasks of every sort, some of which use the store.
func mixed(w *testkit.World, s *periodic.Set, n *testkit.Node) {
	var lane periodic.Lane
	for i := range 50 {
		f := func(ctx context.Context) error {
			if i%7 == 0 {
				return errors.New("no")
			}
			if i%11 == 0 {
				panic("no")
			}
			return n.Env.Sleep(ctx, time.Duration(i)*100*time.Millisecond)
		}
		name := fmt.Sprintf("t%02d", i)
		opt := []periodic.Option{periodic.NoOverlap(), periodic.Queued(), periodic.CatchUp(3), periodic.OnLane(&lane), periodic.Jitter(time.Second)}[i%5]
		t := periodic.Every(time.Duration(2+i%9)*time.Second, name, f, opt)
		switch i % 4 {
		case 1:
			t = periodic.After(time.Duration(1+i%5)*time.Second, name, f)
		case 2:
			t = periodic.Cron("* * * * *", nil, name, f)
		case 3:
			t = periodic.Adaptive(name, func(ctx context.Context) (time.Duration, error) { return time.Duration(i) * time.Second, f(ctx) })
		}
		if err := s.Add(t); err != nil {
			w.T.Fatal(err)
		}
	}
}

// onceEach runs the cluster for n due times and checks that each was completed once and none left out.
func (c *cluster) onceEach(n int) {
	c.w.Eventually(time.Duration(n)*20*time.Second, "all due times", func() bool { return c.count() >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.begun {
		if c.done[r.due] > 1 {
			c.w.T.Errorf("due %v was completed %d times", r.due, c.done[r.due])
		}
		if i > 0 && r.due.Sub(c.begun[i-1].due) != 10*time.Second {
			c.w.T.Errorf("due %v after %v", r.due, c.begun[i-1].due)
		}
	}
}
