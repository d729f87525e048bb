package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/testkit"
)

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
		if n := writes(w) - 7; n != 6 {
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
				_ = n.Env.Sleep(ctx, 1500*time.Millisecond)
				err := job.Report(ctx, job.Progress{Percent: 50})
				_ = n.Env.Sleep(ctx, 1500*time.Millisecond)
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
