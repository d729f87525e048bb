package flow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/testkit"
)

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
					_ = n.Env.Sleep(context.WithoutCancel(ctx), 2*time.Minute)
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
