package flow_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/testkit"
)

// releases is a cluster whose nodes have different definitions.
func releases(w *testkit.World, of map[string]builds) *cluster {
	c := newCluster(w, nil)
	c.register = func(n *testkit.Node, m *job.Manager) {
		for _, build := range of[n.Name()] {
			flow.Register(m, build(n, c))
		}
	}
	return c
}

func (c *cluster) start(name string) { c.nodes[name] = c.w.Node(name, c.node) }

type builds = []func(*testkit.Node, *cluster) *flow.Flow[plan]

// version n of letters.
func version(n int, steps string) func(*testkit.Node, *cluster) *flow.Flow[plan] {
	return letters(steps, func(_ *testkit.Node, _ *cluster, f *flow.Flow[plan]) { f.Version(n) })
}

func TestChanged(t *testing.T) {
	for _, r := range []struct {
		name, old, at, new string
		state              job.State
		have, calls, cause string
	}{
		{"flow-28 inserted after the current one", "abd", "b", "abcd", job.Succeeded, "abcd", "do a, do b, do b, do c, do d", ""},
		{"flow-28 taken away after the current one", "abcd", "b", "abd", job.Succeeded, "abd", "do a, do b, do b, do d", ""},
		{"flow-28 inserted before the current one", "acd", "c", "abcd", job.Failed, "", "do a, do c, undo c, undo a", "step c is not where it was"},
		{"flow-28 inserted before the first", "bc", "c", "abc", job.Failed, "", "do b, do c, undo c, undo b", "definition changed"},
		{"flow-28 order changed", "abc", "c", "bac", job.Failed, "", "do a, do b, do c, undo c, undo b, undo a", "definition changed"},
		{"flow-28 the current one removed", "abc", "b", "ac", job.Failed, "b", "do a, do b, undo a", "undo b: " + flow.ErrNoUndo.Error()},
		{"flow-28 one before removed", "abc", "c", "bc", job.Failed, "a", "do a, do b, do c, undo c, undo b", "undo a: " + flow.ErrNoUndo.Error()},
		{"flow-28 the last one inserted", "ab", "b", "abc", job.Succeeded, "abc", "do a, do b, do b, do c", ""},
	} {
		explore(t, r.name, 3, func(w *testkit.World) {
			c := releases(w, map[string]builds{"n1": {letters(r.old)}, "n2": {letters(r.new)}})
			c.start("n1")
			id := c.submit("n1", plan{})
			c.wait("n1 do " + r.at)
			w.Advance(700 * time.Millisecond) // it has made what it makes
			c.nodes["n1"].Crash()
			c.start("n2")
			j := c.final("n2", id)
			c.want(j, r.state, r.have, r.calls)
			if r.cause != "" && (!strings.Contains(j.Error.Text, r.cause) || !strings.Contains(j.Error.Text, flow.ErrChanged.Error())) {
				w.T.Errorf("%v", j.Error)
			}
			if n := len(c.debts("n2")); n != 0 {
				w.T.Errorf("%d debts: nobody knows the undo", n)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	both := builds{version(2, "xyz"), version(1, "abc")}
	for _, at := range []string{"a", "b"} {
		explore(t, "flow-28 version 1 beside 2, at "+at, 3, func(w *testkit.World) {
			c := releases(w, map[string]builds{"n1": {version(1, "abc")}, "n2": both})
			c.start("n1")
			id := c.submit("n1", plan{})
			c.wait("n1 do " + at)
			c.nodes["n1"].Crash()
			c.start("n2")
			if j := c.final("n2", id); j.State != job.Succeeded || c.have() != "abc" {
				w.T.Fatalf("%s with %q after %s", j.State, c.have(), c.calls(true))
			}
			if j := c.final("n2", c.submit("n2", plan{})); j.State != job.Succeeded || c.have() != "abcxyz" {
				w.T.Fatalf("%s with %q after %s", j.State, c.have(), c.calls(true))
			}
		})
		explore(t, "flow-28 missing version, at "+at, 3, func(w *testkit.World) {
			c := releases(w, map[string]builds{
				"n1": {version(2, "abc")}, "n2": {version(1, "xyz")}, "n3": {version(2, "abc")},
			})
			c.start("n1")
			id := c.submit("n1", plan{})
			c.wait("n1 do " + at)
			c.nodes["n1"].Crash()
			c.start("n2")
			w.Advance(3 * time.Minute)
			j, err := c.jobs["n2"].Get(w.T.Context(), id)
			if err != nil || j.State != job.Scheduled || j.Attempt != 0 || strings.Contains(c.calls(true), "n2") {
				w.T.Fatalf("%+v, %v after %s", j, err, c.calls(true))
			}
			if err := c.nodes["n2"].Stop(); err != nil {
				w.T.Fatal(err)
			}
			c.start("n3")
			if j := c.final("n3", id); j.State != job.Succeeded || c.have() != "abc" || j.Attempt != 0 {
				w.T.Fatalf("%s with %q, attempt %d after %s", j.State, c.have(), j.Attempt, c.calls(true))
			}
		})
	}
	explore(t, "flow-28 a debt is of its version", 3, func(w *testkit.World) {
		broken := true
		owing := letters("abc", stuck(func() bool { return broken }), func(_ *testkit.Node, _ *cluster, f *flow.Flow[plan]) { f.Version(2) })
		c := releases(w, map[string]builds{"n1": {owing}, "n2": {version(1, "abc"), version(3, "bc")}, "n3": {owing}})
		c.start("n1")
		c.final("n1", c.submit("n1", plan{Fail: "c"}))
		w.Advance(2 * time.Second)
		if err := c.nodes["n1"].Stop(); err != nil {
			w.T.Fatal(err)
		}
		broken = false
		c.start("n2")
		w.Advance(2 * time.Minute)
		if strings.Contains(c.calls(true), "n2") {
			w.T.Fatalf("paid under another version: %s", c.calls(true))
		}
		_ = c.nodes["n2"].Stop()
		c.start("n3")
		if d := c.final("n3", c.debts("n3")[0].ID); d.State != job.Succeeded || c.have() != "" {
			w.T.Errorf("%s with %q", d.State, c.have())
		}
	})
	t.Run("bad versions", func(t *testing.T) {
		m, err := job.New(job.Config{DB: testkitStore(t)})
		if err != nil {
			t.Fatal(err)
		}
		ok := func(context.Context, *plan) error { return nil }
		flow.Register(m, flow.New[plan]("f").Then("a", ok, nil))
		for name, c := range map[string]struct {
			f    func()
			want string
		}{
			"zero":  {func() { flow.New[plan]("f").Version(0) }, "Version(0)"},
			"twice": {func() { flow.Register(m, flow.New[plan]("f").Then("a", ok, nil)) }, "version 1 is registered twice"},
			"other state": {func() {
				flow.Register(m, flow.New[trail]("f").Then("a", do("a", nil), nil).Version(2))
			}, "another state"},
		} {
			if msg := panics(c.f); !strings.Contains(msg, c.want) {
				t.Errorf("%s: panic %q, want it to name %s", name, msg, c.want)
			}
		}
	})
}

func TestParkInside(t *testing.T) {
	parks := func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
		f.Replace("b", func(ctx context.Context, s *plan) error {
			j, _ := job.FromContext(ctx)
			if len(j.Wakes) == 0 || j.Wakes[0].Why != "topic" {
				c.note(n, "park b")
				return job.Park(job.OnTopic("go"), job.After(time.Hour))
			}
			return c.work(n, "b", true)(ctx, s)
		}, c.work(n, "b", false), flow.Retry(nil, 3))
	}
	explore(t, "park inside a step", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abc", parks), "n1", "n2")
		id := c.submit("n1", plan{})
		w.Advance(time.Minute)
		if j, err := c.jobs["n1"].Get(w.T.Context(), id); err != nil || j.State != job.Parked {
			w.T.Fatal(j.State, err)
		}
		if err := c.jobs["n2"].Wake(w.T.Context(), "go"); err != nil {
			w.T.Fatal(err)
		}
		j := c.final("n1", id)
		c.want(j, job.Succeeded, "abc", "do a, park b, do b, do c")
		if j.Attempt != 0 {
			w.T.Errorf("attempt %d", j.Attempt)
		}
	})
	explore(t, "park inside the first step", 5, func(w *testkit.World) {
		c := newCluster(w, letters("bc", parks), "n1", "n2")
		id := c.submit("n1", plan{})
		w.Advance(time.Minute)
		if err := c.jobs["n2"].Wake(w.T.Context(), "go"); err != nil {
			w.T.Fatal(err)
		}
		c.want(c.final("n1", id), job.Succeeded, "bc", "park b, do b, do c")
	})
	explore(t, "cancelled while parked inside a step", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abc", parks), "n1", "n2")
		id := c.submit("n1", plan{})
		w.Advance(time.Minute)
		if ok, err := c.jobs["n2"].Cancel(w.T.Context(), id); !ok || err != nil {
			w.T.Fatal(ok, err)
		}
		c.want(c.final("n1", id), job.Cancelled, "", "do a, park b, undo b, undo a")
	})
	explore(t, "children inside a step", 3, func(w *testkit.World) {
		c := newCluster(w, letters("ac", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.After("a", flow.Step[plan]{Name: "b", Do: func(ctx context.Context, _ *plan) error {
				j, _ := job.FromContext(ctx)
				if len(j.Wakes) > 0 {
					return nil
				}
				_, err := c.jobs[n.Name()].Submit(ctx, job.Request{Kind: "part", Name: "part"})
				return errors.Join(err, job.Park(job.OnChildren()))
			}})
		}))
		register := c.register
		c.register = func(n *testkit.Node, m *job.Manager) {
			register(n, m)
			job.Handle(m, "part", func(context.Context, struct{}) (int, error) { return 1, n.Env.Sleep(n.Context(), time.Second) })
		}
		c.start("n1")
		c.want(c.final("n1", c.submit("n1", plan{})), job.Succeeded, "ac", "do a, do c")
	})
}
