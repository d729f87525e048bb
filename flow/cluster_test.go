package flow_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/testkit"
)

// plan is the state of the flows below; Fail names the step that fails.
type plan struct {
	Fail string
	Done []string
	Pad  string
	Any  any
}

// cluster is nodes that run one flow as jobs, and what its steps did to the world.
type cluster struct {
	w        *testkit.World
	register func(n *testkit.Node, m *job.Manager)
	poll     time.Duration
	jobs     map[string]*job.Manager
	nodes    map[string]*testkit.Node

	mu   sync.Mutex
	made map[string]bool // by steps
	log  []string        // "a do c", in order
	ends int
}

func newCluster(w *testkit.World, build func(*testkit.Node, *cluster) *flow.Flow[plan], nodes ...string) *cluster {
	c := &cluster{w: w, jobs: map[string]*job.Manager{}, nodes: map[string]*testkit.Node{}, made: map[string]bool{}}
	c.register = func(n *testkit.Node, m *job.Manager) { flow.Register(m, build(n, c)) }
	for _, n := range nodes {
		c.nodes[n] = w.Node(n, c.node)
	}
	return c
}

func (c *cluster) node(n *testkit.Node) drover.Component {
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store, Poll: c.poll})
	if err != nil {
		c.w.T.Fatal(err)
	}
	c.register(n, m)
	c.jobs[n.Name()] = m
	return m
}

func (c *cluster) note(n *testkit.Node, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, n.Name()+" "+fmt.Sprintf(format, args...))
}

func (c *cluster) set(step string, made bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made[step] = made
}

// have lists what is made.
func (c *cluster) have() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var have []string
	for s, ok := range c.made {
		if ok {
			have = append(have, s)
		}
	}
	slices.Sort(have)
	return strings.Join(have, "")
}

// calls is the log, without nodes unless asked for.
func (c *cluster) calls(nodes bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, l := range c.log {
		if !nodes {
			_, l, _ = strings.Cut(l, " ")
		}
		list = append(list, l)
	}
	return strings.Join(list, ", ")
}

// wait does so until the log has this line.
func (c *cluster) wait(line string) {
	c.w.Eventually(10*time.Minute, line, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Contains(c.log, line)
	})
}

// work takes a second, in the middle of which it does something.
func (c *cluster) work(n *testkit.Node, name string, made bool) func(context.Context, *plan) error {
	life := n.Context() // what a dead process does, does not happen
	return func(ctx context.Context, s *plan) error {
		i := flow.Current(ctx)
		c.note(n, "%s %s", i.Phase, i.Step)
		if err := n.Env.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if errors.Is(context.Cause(life), testkit.ErrCrashed) {
			runtime.Goexit()
		}
		c.set(name, made)
		if made {
			s.Done = append(s.Done, name)
		}
		if err := n.Env.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if made && s.Fail == name {
			return errBoom
		}
		return nil
	}
}

// letters is a flow of steps a, b, c…, each of which makes something.
func letters(steps string, change ...func(n *testkit.Node, c *cluster, f *flow.Flow[plan])) func(*testkit.Node, *cluster) *flow.Flow[plan] {
	return func(n *testkit.Node, c *cluster) *flow.Flow[plan] {
		f := flow.New[plan]("letters")
		for _, s := range steps {
			f.Then(string(s), c.work(n, string(s), true), c.work(n, string(s), false))
		}
		for _, g := range change {
			g(n, c, f)
		}
		return f.Finally(func(context.Context, *plan, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ends++
		})
	}
}

func (c *cluster) submit(node string, p plan) string {
	c.w.T.Helper()
	j, err := c.jobs[node].Submit(c.w.T.Context(), job.Request{Kind: "flow:letters", Args: p})
	if err != nil {
		c.w.T.Fatal(err)
	}
	return j.ID
}

// final waits for the job's end.
func (c *cluster) final(node, id string) *job.Job {
	c.w.T.Helper()
	ctx, cancel := context.WithTimeout(c.w.T.Context(), time.Hour)
	defer cancel()
	j, err := c.jobs[node].Wait(ctx, id)
	if err != nil {
		c.w.T.Fatalf("%v; %+v; %s", err, j, c.calls(true))
	}
	return j
}

func (c *cluster) want(j *job.Job, state job.State, have, calls string) {
	c.w.T.Helper()
	if j.State != state || c.have() != have || calls != "" && c.calls(false) != calls {
		c.w.T.Fatalf("%s (%v) with %q after %s\nwant %s with %q after %s", j.State, j.Error, c.have(), c.calls(true), state, have, calls)
	}
}

// ordered checks that steps went up, then down, and only one that was interrupted twice.
func (c *cluster) ordered() {
	c.w.T.Helper()
	last, down := "", false
	for _, l := range c.log {
		p := strings.Fields(l)
		phase, step := p[1], p[2]
		switch {
		case phase == "do" && (down || step < last), phase == "undo" && down && step > last:
			c.w.T.Fatalf("out of order at %q: %v", l, c.log)
		}
		last, down = step, phase == "undo"
	}
}

func explore(t *testing.T, name string, seeds int, f func(w *testkit.World)) {
	t.Run(name, func(t *testing.T) { testkit.Explore(t, seeds, f) })
}

func testkitStore(t *testing.T) job.DB {
	t.Helper()
	return &memory.Store{}
}
