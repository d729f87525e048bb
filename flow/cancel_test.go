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
