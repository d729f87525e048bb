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
	w     *testkit.World
	build func(n *testkit.Node, c *cluster) *flow.Flow[plan]
	jobs  map[string]*job.Manager
	nodes map[string]*testkit.Node

	mu   sync.Mutex
	made map[string]bool // by steps
	log  []string        // "a do c", in order
	ends int
}

func newCluster(w *testkit.World, build func(*testkit.Node, *cluster) *flow.Flow[plan], nodes ...string) *cluster {
	c := &cluster{w: w, build: build, jobs: map[string]*job.Manager{}, nodes: map[string]*testkit.Node{}, made: map[string]bool{}}
	for _, n := range nodes {
		c.nodes[n] = w.Node(n, c.node)
	}
	return c
}

func (c *cluster) node(n *testkit.Node) drover.Component {
	m, err := job.New(job.Config{Env: n.Env, DB: n.Store})
	if err != nil {
		c.w.T.Fatal(err)
	}
	flow.Register(m, c.build(n, c))
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

func TestDurable(t *testing.T) {
	explore(t, "flow-20 crash anywhere", 500, func(w *testkit.World) {
		r := w.Rand("flow")
		c := newCluster(w, letters("abcde"), "n1", "n2")
		p := plan{Fail: []string{"", "a", "c", "e"}[r.IntN(4)]}
		id := c.submit("n1", p)
		errs := func(p float64) {
			for _, n := range []string{"n1", "n2"} {
				c.nodes[n].Fail("store.*", p, nil)
				c.nodes[n].FailAfter("store.tx.commit", p, nil)
			}
		}
		errs(float64(r.IntN(3)) / 100)
		for range 1 + r.IntN(2) {
			w.Advance(time.Duration(r.IntN(7000)) * time.Millisecond)
			n := c.nodes[[]string{"n1", "n2"}[r.IntN(2)]]
			n.Crash()
			w.Advance(time.Duration(r.IntN(40)) * time.Second)
			n.Restart()
		}
		errs(0)
		j := c.final("n2", id)
		switch p.Fail {
		case "":
			c.want(j, job.Succeeded, "abcde", "")
		default:
			c.want(j, job.Failed, "", "")
		}
		c.ordered()
		if c.ends == 0 {
			w.T.Error("Finally did not run")
		}
	})
	for _, fail := range []string{"", "c"} {
		explore(t, "flow-20 crash points, fails at "+fail, 1, func(w *testkit.World) {
			c := newCluster(w, letters("abc"), "n1")
			var id string
			w.CrashPoints(c.nodes["n1"], func() {
				j, err := c.jobs["n1"].Submit(c.nodes["n1"].Context(), job.Request{Kind: "flow:letters", Args: plan{Fail: fail}})
				if err == nil {
					id = j.ID
				}
				w.Advance(10 * time.Second)
			})
			c.nodes["n1"].Restart()
			w.Advance(2 * time.Minute)
			if id != "" {
				c.final("n1", id)
			}
			if have := c.have(); have != "" && have != "abc" {
				w.T.Fatalf("left half-way: %q after %s", have, c.calls(true))
			}
			c.ordered()
		})
	}
	explore(t, "flow-21 another node goes on", 5, func(w *testkit.World) {
		var seen []string
		c := newCluster(w, letters("abcde", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.Replace("c", func(ctx context.Context, s *plan) error {
				c.mu.Lock()
				seen = append(seen, strings.Join(s.Done, ""))
				c.mu.Unlock()
				return c.work(n, "c", true)(ctx, s)
			}, nil)
		}), "n1")
		id := c.submit("n1", plan{})
		c.wait("n1 do c")
		c.nodes["n1"].Crash()
		c.nodes["n2"] = w.Node("n2", c.node)
		c.want(c.final("n2", id), job.Succeeded, "abcde", "do a, do b, do c, do c, do d, do e")
		if got := fmt.Sprint(seen); got != "[ab ab]" {
			w.T.Errorf("state at c: %s", got)
		}
	})
	explore(t, "flow-22 claim lost", 5, func(w *testkit.World) {
		var cause error
		c := newCluster(w, letters("abcde", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.Replace("c", func(ctx context.Context, s *plan) error {
				c.note(n, "do c")
				if n.Name() == "n1" {
					n.Env.Sleep(context.WithoutCancel(ctx), 2*time.Minute)
					c.mu.Lock()
					defer c.mu.Unlock()
					cause = context.Cause(ctx)
					return errBoom
				}
				return nil
			}, c.work(n, "c", false))
		}), "n1")
		id := c.submit("n1", plan{})
		c.wait("n1 do c")
		c.nodes["n1"].Fail("store.*", 1, nil)
		c.nodes["n2"] = w.Node("n2", c.node)
		w.Advance(time.Minute)
		c.nodes["n1"].Fail("store.*", 0, nil)
		j := c.final("n2", id)
		w.Advance(5 * time.Minute)
		if got := c.calls(true); got != "n1 do a, n1 do b, n1 do c, n2 do c, n2 do d, n2 do e" || j.State != job.Succeeded {
			w.T.Errorf("%s after %s", j.State, got)
		}
		if !errors.Is(cause, job.ErrLost) {
			w.T.Errorf("cause %v", cause)
		}
	})
	explore(t, "flow-30 frozen holder", 100, func(w *testkit.World) {
		r := w.Rand("flow")
		c := newCluster(w, letters("abcde"), "n1")
		id := c.submit("n1", plan{})
		w.Advance(time.Duration(r.IntN(5000)) * time.Millisecond)
		c.nodes["n2"] = w.Node("n2", c.node)
		c.nodes["n1"].Freeze(31*time.Second + time.Duration(r.IntN(4000))*time.Millisecond)
		c.want(c.final("n2", id), job.Succeeded, "abcde", "")
		w.Advance(time.Minute)
		if strings.Contains(c.calls(false), "undo") {
			w.T.Errorf("undone: %s", c.calls(true))
		}
	})
	explore(t, "flow-24 drain", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abcde"), "n1")
		id := c.submit("n1", plan{})
		c.wait("n1 do c")
		if err := c.nodes["n1"].Stop(); err != nil {
			w.T.Error(err)
		}
		c.nodes["n2"] = w.Node("n2", c.node)
		j := c.final("n2", id)
		if got := c.calls(true); got != "n1 do a, n1 do b, n1 do c, n2 do d, n2 do e" || j.State != job.Succeeded || j.Attempt != 0 {
			w.T.Errorf("%s, attempt %d after %s", j.State, j.Attempt, got)
		}
	})
}

func TestCancel(t *testing.T) {
	explore(t, "flow-23 cancelled in step 3", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abcde"), "n1", "n2")
		id := c.submit("n1", plan{})
		w.Eventually(time.Minute, "in step c", func() bool { return strings.HasSuffix(c.calls(false), "do c") })
		if ok, err := c.jobs["n1"].Cancel(w.T.Context(), id); !ok || err != nil {
			w.T.Fatal(ok, err)
		}
		c.want(c.final("n1", id), job.Cancelled, "", "do a, do b, do c, undo c, undo b, undo a")
	})
	explore(t, "flow-23 deadline", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abcde"), "n1")
		j, err := c.jobs["n1"].Submit(w.T.Context(), job.Request{Kind: "flow:letters", Args: plan{}, Deadline: time.Now().Add(2500 * time.Millisecond)})
		if err != nil {
			w.T.Fatal(err)
		}
		j = c.final("n1", j.ID)
		c.want(j, job.Failed, "", "do a, do b, do c, undo c, undo b, undo a")
		if _, err := job.Result[plan](j); !errors.Is(err, job.ErrDeadline) {
			w.T.Errorf("%v", err)
		}
	})
	explore(t, "flow-23 cancelled between steps 2 and 3", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abcde", func(_ *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.Check(func(_ context.Context, s *plan) error {
				if len(s.Done) == 2 {
					return job.Again(time.Minute)
				}
				return nil
			})
		}), "n1")
		id := c.submit("n1", plan{})
		w.Advance(20 * time.Second)
		if ok, err := c.jobs["n1"].Cancel(w.T.Context(), id); !ok || err != nil {
			w.T.Fatal(ok, err)
		}
		c.want(c.final("n1", id), job.Cancelled, "", "do a, do b, undo b, undo a")
	})
	explore(t, "again between steps", 5, func(w *testkit.World) {
		asked := 0
		c := newCluster(w, letters("abc", func(_ *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.Check(func(_ context.Context, s *plan) error {
				if asked++; asked%2 == 1 {
					return job.Again(time.Minute)
				}
				return nil
			})
		}), "n1")
		c.want(c.final("n1", c.submit("n1", plan{})), job.Succeeded, "abc", "do a, do b, do c")
		if asked != 8 {
			w.T.Errorf("asked %d times", asked)
		}
	})
	explore(t, "cancelled after a crash in step 3", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abcde"), "n1")
		id := c.submit("n1", plan{})
		c.wait("n1 do c")
		w.Advance(700 * time.Millisecond)
		c.nodes["n1"].Crash()
		c.nodes["n2"] = w.Node("n2", c.node)
		if ok, err := c.jobs["n2"].Cancel(w.T.Context(), id); !ok || err != nil {
			w.T.Fatal(ok, err)
		}
		c.want(c.final("n2", id), job.Cancelled, "", "do a, do b, do c, undo c, undo b, undo a")
	})
}

func TestBoundaries(t *testing.T) {
	writes := func(w *testkit.World) (n int) {
		for _, l := range w.Trace() {
			if strings.Contains(l, " store.jobs.log ") {
				n++
			}
		}
		return n
	}
	explore(t, "flow-25 writes", 1, func(w *testkit.World) {
		c := newCluster(w, letters("abcdefg"), "n1")
		c.want(c.final("n1", c.submit("n1", plan{})), job.Succeeded, "abcdefg", "")
		if n := writes(w); n != 7 {
			w.T.Errorf("%d writes for 7 steps", n)
		}
		c.final("n1", c.submit("n1", plan{Fail: "c"}))
		if n := writes(w) - 7; n != 6+1 { // and the job's own row about its failure
			w.T.Errorf("%d writes for 3 steps and their undo", n)
		}
	})
	explore(t, "flow-26 three crashes", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abc"), "n1")
		id := c.submit("n1", plan{})
		for i := range 3 {
			w.Eventually(time.Minute, "step b", func() bool { return strings.Count(c.calls(false), "do b") == i+1 })
			c.nodes["n1"].Restart()
		}
		j := c.final("n1", id)
		c.want(j, job.Failed, "", "do a, do b, do b, do b, undo b, undo a")
		if !strings.Contains(j.Error.Text, "died") {
			w.T.Errorf("%v", j.Error)
		}
	})
	for name, spoil := range map[string]func(*plan){
		"too big":        func(s *plan) { s.Pad = strings.Repeat("x", 256<<10+1) },
		"cannot encode ": func(s *plan) { s.Any = make(chan int) },
	} {
		explore(t, "flow-27 "+name, 1, func(w *testkit.World) {
			var undone []string
			c := newCluster(w, letters("a", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
				f.Then("b", func(_ context.Context, s *plan) error {
					s.Done = append(s.Done, "b")
					spoil(s)
					return nil
				}, func(_ context.Context, s *plan) error { undone = s.Done; return nil })
			}), "n1")
			j := c.final("n1", c.submit("n1", plan{}))
			c.want(j, job.Failed, "", "do a, undo a")
			if fmt.Sprint(undone) != "[a]" || !strings.Contains(j.Error.Text, flow.ErrState.Error()) {
				w.T.Errorf("undone with %v: %v", undone, j.Error)
			}
		})
	}
	explore(t, "flow-29 progress", 1, func(w *testkit.World) {
		c := newCluster(w, letters("acd", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.After("a", flow.Step[plan]{Name: "b", Do: func(ctx context.Context, s *plan) error {
				n.Env.Sleep(ctx, 1500*time.Millisecond)
				err := job.Report(ctx, job.Progress{Percent: 50})
				n.Env.Sleep(ctx, 1500*time.Millisecond)
				return err
			}})
		}), "n1")
		id := c.submit("n1", plan{})
		var seen []int
		for j, err := range c.jobs["n1"].Watch(w.T.Context(), id) {
			if err != nil {
				w.T.Fatal(err)
			}
			seen = append(seen, j.Progress.Percent)
		}
		if got := fmt.Sprint(slices.Compact(seen)); got != "[0 25 37 50 75 100]" {
			w.T.Errorf("%v", got)
		}
	})
	t.Run("flow-48 secrets", func(t *testing.T) {
		type inner struct {
			Key string `secret:"true"`
		}
		type open struct{ In []*inner }
		type never struct{ C chan int }
		m, err := job.New(job.Config{DB: testkitStore(t)})
		if err != nil {
			t.Fatal(err)
		}
		refused := func(f func()) (err error) {
			defer func() { err, _ = recover().(error) }()
			f()
			return nil
		}
		err = refused(func() {
			flow.Register(m, flow.New[open]("s").Then("a", func(context.Context, *open) error { return nil }, nil))
		})
		if !errors.Is(err, flow.ErrState) || !strings.Contains(err.Error(), "In.Key") {
			t.Errorf("secret: %v", err)
		}
		err = refused(func() {
			flow.Register(m, flow.New[never]("n").Then("a", func(context.Context, *never) error { return nil }, nil))
		})
		if !errors.Is(err, flow.ErrState) {
			t.Errorf("channel: %v", err)
		}
		if err := refused(func() { flow.Register(m, flow.New[plan]("e")) }); !errors.Is(err, flow.ErrEmpty) {
			t.Errorf("empty: %v", err)
		}
	})
}

func TestDurableSub(t *testing.T) {
	nested := func(n *testkit.Node, c *cluster) *flow.Flow[plan] {
		in := flow.New[plan]("in").Then("b", c.work(n, "b", true), c.work(n, "b", false)).
			Then("c", c.work(n, "c", true), c.work(n, "c", false))
		f := flow.New[plan]("letters").Then("a", c.work(n, "a", true), c.work(n, "a", false))
		flow.Sub(f, "in", in, func(s *plan) *plan { return s })
		return f.Then("d", c.work(n, "d", true), c.work(n, "d", false)).
			Finally(func(context.Context, *plan, error) { c.ends++ })
	}
	explore(t, "flow-20 a flow within, crash anywhere", 500, func(w *testkit.World) {
		r := w.Rand("flow")
		c := newCluster(w, nested, "n1")
		p := plan{Fail: []string{"", "c", "d"}[r.IntN(3)]}
		id := c.submit("n1", p)
		for range 1 + r.IntN(2) {
			w.Advance(time.Duration(r.IntN(9000)) * time.Millisecond)
			c.nodes["n1"].Restart()
		}
		if r.IntN(4) == 0 {
			_, err := c.jobs["n1"].Cancel(w.T.Context(), id)
			if err != nil && !errors.Is(err, job.ErrFinished) {
				w.T.Fatal(err)
			}
		}
		j := c.final("n1", id)
		if want := map[bool]string{true: "abcd"}[j.State == job.Succeeded]; c.have() != want {
			w.T.Fatalf("%s (%v) with %q after %s", j.State, j.Error, c.have(), c.calls(true))
		}
		c.ordered()
	})
}

func testkitStore(t *testing.T) job.DB {
	t.Helper()
	return &memory.Store{}
}
