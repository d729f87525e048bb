package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/testkit"
)

// stuck makes the undo of step b fail, or panic, as long as broken answers true; tries are logged with their time.
func stuck(broken func() bool) func(*testkit.Node, *cluster, *flow.Flow[plan]) {
	return func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
		f.Replace("b", c.work(n, "b", true), func(ctx context.Context, s *plan) error {
			if i := flow.Current(ctx); i.Outcome != flow.OutcomeDone || i.Cause == nil {
				c.note(n, "undo b with %+v", i)
			}
			if broken() {
				c.note(n, "undo b fails")
				c.mu.Lock()
				defer c.mu.Unlock()
				if len(c.log)%2 == 0 {
					panic("stuck")
				}
				return errBoom
			}
			return c.work(n, "b", false)(ctx, s)
		}, flow.NoRetryUndo())
	}
}

// debts are all jobs of that kind.
func (c *cluster) debts(node string) (js []*job.Job) {
	c.w.T.Helper()
	all := []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded, job.Failed, job.Cancelled}
	for j, err := range c.jobs[node].List(c.w.T.Context(), job.Query{Kinds: []string{"flow-undo:letters"}, States: all}) {
		if err != nil {
			c.w.T.Fatal(err)
		}
		js = append(js, j)
	}
	return js
}

// theDebt is the only one.
func (c *cluster) theDebt(node, failed string) *job.Job {
	c.w.T.Helper()
	js := c.debts(node)
	if len(js) != 1 {
		c.w.T.Fatalf("%d debts after %s", len(js), c.calls(true))
	}
	var d struct {
		Job   string
		S     plan
		Steps []struct{ Step, Outcome string }
	}
	if err := json.Unmarshal(js[0].Args, &d); err != nil {
		c.w.T.Fatal(err)
	}
	if got := fmt.Sprint(d.Steps, d.S.Done); d.Job != failed || got != "[{b done}] [a b c]" {
		c.w.T.Fatalf("debt %s: %s", got, js[0].Args)
	}
	return js[0]
}

// indebted runs letters a, b, c, of which c fails and b cannot be undone, and answers the debt.
func indebted(w *testkit.World, broken func() bool, nodes ...string) (*cluster, *job.Job) {
	c := newCluster(w, letters("abc", stuck(broken)))
	c.poll = 10 * time.Second // hours pass
	for _, n := range nodes {
		c.start(n)
	}
	j, err := c.jobs[nodes[0]].Submit(w.T.Context(), job.Request{
		Kind: "flow:letters", Args: plan{Fail: "c"}, Resource: "vm/1", Identity: map[string]string{"user": "u", "account": "acc"},
	})
	if err != nil {
		w.T.Fatal(err)
	}
	j = c.final(nodes[0], j.ID)
	if j.State != job.Failed || !strings.Contains(j.Error.Text, "undo b") {
		w.T.Fatalf("%s: %v", j.State, j.Error)
	}
	if c.have() != "b" && broken() {
		w.T.Fatalf("left with %q", c.have())
	}
	d := c.theDebt(nodes[0], j.ID)
	if d.Resource != "vm/1" || d.Identity["account"] != "acc" || d.Parent != "" || d.Sync.Kind != "" {
		w.T.Fatalf("%+v", d)
	}
	return c, d
}

func (c *cluster) fails() int { return strings.Count(c.calls(false), "undo b fails") }

func TestDebt(t *testing.T) {
	yes := func() bool { return true }
	explore(t, "flow-31 with the failure, crash anywhere", 500, func(w *testkit.World) {
		r := w.Rand("flow")
		c := newCluster(w, letters("abc", stuck(yes)), "n1", "n2")
		id := c.submit("n1", plan{Fail: "c"})
		errs := func(p float64) {
			for _, n := range []string{"n1", "n2"} {
				c.nodes[n].Fail("store.*", p, nil)
				c.nodes[n].FailAfter("store.tx.commit", p, nil)
			}
		}
		errs(float64(r.IntN(4)) / 100)
		w.Advance(2*time.Second + time.Duration(r.IntN(4000))*time.Millisecond)
		n := c.nodes[[]string{"n1", "n2"}[r.IntN(2)]]
		n.Crash()
		w.Advance(time.Duration(r.IntN(40)) * time.Second)
		n.Restart()
		errs(0)
		c.want(c.final("n2", id), job.Failed, "b", "")
		c.theDebt("n2", id)
	})
	explore(t, "flow-31 crash points", 1, func(w *testkit.World) {
		c := newCluster(w, letters("abc", stuck(yes)), "n1")
		var ids []string
		w.CrashPoints(c.nodes["n1"], func() {
			j, err := c.jobs["n1"].Submit(c.nodes["n1"].Context(), job.Request{Kind: "flow:letters", Args: plan{Fail: "b"}})
			if err == nil {
				ids = append(ids, j.ID)
			}
			w.Advance(4 * time.Second)
		})
		c.nodes["n1"].Restart()
		w.Advance(2 * time.Minute)
		for _, id := range ids {
			c.final("n1", id)
		}
		owed := map[string]int{}
		for _, d := range c.debts("n1") {
			var args struct{ Job string }
			_ = json.Unmarshal(d.Args, &args)
			owed[args.Job]++
		}
		for _, id := range ids {
			if owed[id] != 1 {
				w.T.Errorf("%d debts of %s", owed[id], id)
			}
		}
	})
	explore(t, "flow-31 cancelled, with a debt", 5, func(w *testkit.World) {
		c := newCluster(w, letters("abc", stuck(yes)), "n1")
		id := c.submit("n1", plan{Fail: "c"})
		c.wait("n1 do c")
		if _, err := c.jobs["n1"].Cancel(w.T.Context(), id); err != nil {
			w.T.Fatal(err)
		}
		c.want(c.final("n1", id), job.Cancelled, "b", "")
		if n := len(c.debts("n1")); n != 1 {
			w.T.Errorf("%d debts", n)
		}
	})
	explore(t, "flow-31 nothing is owed after StopUndo", 2, func(w *testkit.World) {
		c := newCluster(w, letters("abc", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.Replace("b", c.work(n, "b", true), func(context.Context, *plan) error { return flow.StopUndo(errBoom) })
		}), "n1")
		c.want(c.final("n1", c.submit("n1", plan{Fail: "c"})), job.Failed, "ab", "")
		if n := len(c.debts("n1")); n != 0 {
			w.T.Errorf("%d debts", n)
		}
	})
}

func TestPay(t *testing.T) {
	yes := func() bool { return true }
	explore(t, "flow-32 paid", 5, func(w *testkit.World) {
		broken := true
		c, d := indebted(w, func() bool { return broken }, "n1", "n2")
		w.Advance(5 * time.Second)
		broken = false
		d = c.final("n1", d.ID)
		w.Advance(time.Hour)
		if got := strings.Count(c.calls(false), "undo b,") + strings.Count(c.calls(false), "undo b with"); d.State != job.Succeeded ||
			c.have() != "" || c.fails() != 2 || got != 0 || !strings.HasSuffix(c.calls(false), "undo b") {
			w.T.Errorf("%s with %q after %s", d.State, c.have(), c.calls(false))
		}
		if s, err := job.Result[plan](d); err != nil || s.Fail != "c" {
			w.T.Errorf("%+v, %v", s, err)
		}
	})
	explore(t, "flow-32 backoff", 2, func(w *testkit.World) {
		c, _ := indebted(w, yes, "n1")
		start, seen := time.Now(), 0
		var waits []time.Duration
		for range 8 {
			seen = c.fails()
			w.Eventually(time.Hour, "next try", func() bool { return c.fails() > seen })
			waits = append(waits, time.Since(start).Round(5*time.Second))
			start = time.Now()
		}
		if got := fmt.Sprint(waits[len(waits)-7:]); got != "[20s 40s 1m20s 2m40s 5m20s 10m0s 10m0s]" &&
			got != "[10s 20s 40s 1m20s 2m40s 5m20s 10m0s]" {
			w.T.Errorf("waits %s", got)
		}
	})
	explore(t, "flow-32 wake", 5, func(w *testkit.World) {
		broken := true
		c, d := indebted(w, func() bool { return broken }, "n1", "n2")
		w.Advance(200 * time.Second)
		n := c.fails()
		for range 2 {
			if err := c.jobs["n2"].Wake(w.T.Context(), flow.DebtTopic("vm/1")); err != nil {
				w.T.Fatal(err)
			}
		}
		w.Advance(2 * time.Second)
		if c.fails() != n+1 {
			w.T.Errorf("%d tries after two wakes at once", c.fails()-n)
		}
		broken = false
		if err := c.jobs["n2"].Wake(w.T.Context(), flow.DebtTopic("vm/1")); err != nil {
			w.T.Fatal(err)
		}
		w.Advance(3 * time.Second)
		if j, err := c.jobs["n1"].Get(w.T.Context(), d.ID); err != nil || j.State != job.Succeeded {
			w.T.Errorf("%+v, %v", j, err)
		}
	})
	explore(t, "flow-33 node of a debt crashes", 100, func(w *testkit.World) {
		r, broken := w.Rand("flow"), true
		c, d := indebted(w, func() bool { return broken }, "n1", "n2")
		w.Advance(time.Duration(r.IntN(60_000)) * time.Millisecond)
		broken = false
		w.Advance(time.Duration(r.IntN(20_000)) * time.Millisecond)
		n := c.nodes[[]string{"n1", "n2"}[r.IntN(2)]]
		n.Crash()
		w.Advance(time.Duration(r.IntN(40)) * time.Second)
		n.Restart()
		if d = c.final("n2", d.ID); d.State != job.Succeeded || c.have() != "" {
			w.T.Fatalf("%s with %q after %s", d.State, c.have(), c.calls(true))
		}
		if s, err := job.Result[plan](d); err != nil || fmt.Sprint(s.Done) != "[a b c]" {
			w.T.Errorf("%+v, %v", s, err)
		}
	})
	explore(t, "flow-34 forgiven", 5, func(w *testkit.World) {
		c, d := indebted(w, yes, "n1", "n2")
		w.Advance(25 * time.Second)
		if ok, err := c.jobs["n2"].Cancel(w.T.Context(), d.ID, "host is scrap"); !ok || err != nil {
			w.T.Fatal(ok, err)
		}
		n := c.fails()
		d = c.final("n1", d.ID)
		w.Advance(time.Hour)
		if d.State != job.Cancelled || c.fails() != n {
			w.T.Errorf("%s, %d more tries", d.State, c.fails()-n)
		}
		var notes []string
		for e, err := range c.jobs["n1"].Journal(w.T.Context(), d.ID) {
			if err != nil {
				w.T.Fatal(err)
			}
			if strings.HasPrefix(e.Text, "forgiven") {
				notes = append(notes, e.Text)
			}
		}
		if got := strings.Join(notes, "; "); got != "forgiven by n2: host is scrap" {
			w.T.Errorf("journal: %s", got)
		}
		if got := c.journal("n1", d.ID); got != "letters/b forgiven 2 (forgiven by n2: host is scrap)" {
			w.T.Errorf("flow journal: %s", got)
		}
	})
	explore(t, "flow-34 given up", 1, func(w *testkit.World) {
		broken := true
		c, d := indebted(w, func() bool { return broken }, "n1")
		w.Eventually(24*time.Hour, "end", func() bool { return c.fails() == 51 }) // 1 in the flow
		if d = c.final("n1", d.ID); d.State != job.Failed || d.Attempt != 1 {
			w.T.Errorf("%s, attempt %d", d.State, d.Attempt)
		}
		w.Advance(time.Hour)
		if c.fails() != 51 {
			w.T.Errorf("%d tries", c.fails()-1)
		}
		again, err := c.jobs["n1"].Retry(w.T.Context(), d.ID)
		if err != nil {
			w.T.Fatal(err)
		}
		w.Advance(5 * time.Second)
		broken = false
		if again = c.final("n1", again.ID); again.State != job.Succeeded || c.have() != "" {
			w.T.Errorf("%s with %q", again.State, c.have())
		}
	})
	explore(t, "flow-34 not worth another try", 1, func(w *testkit.World) {
		c := newCluster(w, letters("abc", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			f.Replace("b", c.work(n, "b", true), func(context.Context, *plan) error { return job.Permanent(errBoom) })
		}), "n1")
		c.final("n1", c.submit("n1", plan{Fail: "c"}))
		w.Advance(time.Second)
		d := c.debts("n1")[0]
		if _, err := job.Result[plan](d); d.State != job.Failed || err == nil || !strings.Contains(err.Error(), "undo b: boom") {
			w.T.Errorf("%s: %v", d.State, err)
		}
	})
	explore(t, "debts of a flow within", 5, func(w *testkit.World) {
		broken := true
		c := newCluster(w, func(n *testkit.Node, c *cluster) *flow.Flow[plan] {
			in := flow.New[plan]("in").Then("b", c.work(n, "b", true), func(ctx context.Context, s *plan) error {
				if broken {
					return errBoom
				}
				return c.work(n, "b", false)(ctx, s)
			}, flow.NoRetryUndo()).Then("c", c.work(n, "c", true), c.work(n, "c", false))
			f := flow.New[plan]("letters").Then("a", c.work(n, "a", true), c.work(n, "a", false))
			return flow.Sub(f, "in", in, func(s *plan) *plan { return s })
		}, "n1")
		id := c.submit("n1", plan{Fail: "c"})
		c.want(c.final("n1", id), job.Failed, "b", "")
		w.Advance(time.Second)
		d := c.debts("n1")[0]
		broken = false
		if d = c.final("n1", d.ID); d.State != job.Succeeded || c.have() != "" {
			w.T.Errorf("%s with %q", d.State, c.have())
		}
		if got := c.journal("n1", d.ID); got != "letters/in/b undone 1 (boom)" {
			w.T.Errorf("flow journal: %s", got)
		}
		if got := c.journal("n1", id); got != "letters/a undone 1, letters/in failed 1 (boom), letters/in/b undo-failed 1 (boom), letters/in/c undone 1 (boom)" {
			w.T.Errorf("flow journal: %s", got)
		}
	})
}

// journal prints a flow's.
func (c *cluster) journal(node, id string) string {
	c.w.T.Helper()
	var list []string
	for s, err := range flow.Journal(c.w.T.Context(), c.jobs[node], id) {
		if err != nil {
			c.w.T.Fatal(err)
		}
		line := fmt.Sprintf("%s %s %d", s.Path, s.State, s.Tries)
		if s.Cause != "" {
			line += " (" + s.Cause + ")"
		}
		if s.Ended.IsZero() != (s.State == flow.StateStarted || s.State == flow.StateSkipped) || !s.Ended.IsZero() && s.Ended.Before(s.Started) {
			line += fmt.Sprintf(" %v-%v", s.Started, s.Ended)
		}
		list = append(list, line)
	}
	return strings.Join(list, ", ")
}

func TestJournal(t *testing.T) {
	explore(t, "journal of a run", 2, func(w *testkit.World) {
		c := newCluster(w, letters("abd", func(n *testkit.Node, c *cluster, f *flow.Flow[plan]) {
			tries := 0
			f.Replace("b", func(context.Context, *plan) error {
				if tries++; tries < 3 {
					return errBoom
				}
				return flow.Continue(errBoom)
			}, nil, flow.Retry(nil, 3))
			f.After("b", flow.Step[plan]{Name: "c", Do: c.work(n, "c", true), Opts: []flow.Option{
				flow.When(func(context.Context, *plan) (bool, error) { return false, nil }),
			}})
		}), "n1")
		id := c.submit("n1", plan{})
		c.wait("n1 do d")
		w.Advance(100 * time.Millisecond)
		if got := c.journal("n1", id); got != "letters/a done 1, letters/b done 3 (boom), letters/c skipped 0, letters/d started 0" {
			w.T.Errorf("under way: %s", got)
		}
		c.final("n1", id)
		if got := c.journal("n1", id); got != "letters/a done 1, letters/b done 3 (boom), letters/c skipped 0, letters/d done 1" {
			w.T.Errorf("ended: %s", got)
		}
		for _, err := range flow.Journal(w.T.Context(), c.jobs["n1"], "0190a0a0-0000-7000-8000-000000000000") {
			if !errors.Is(err, job.ErrNotFound) {
				w.T.Errorf("unknown job: %v", err)
			}
		}
	})
}
