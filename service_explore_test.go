package drover_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/testkit"
)

// member is a Service of a simulated node: a session, jobs that take d, and a record.
type member struct {
	*drover.Service
	jobs *job.Manager
	lost error // what ended a handler
}

func newMember(w *testkit.World, n *testkit.Node, d time.Duration) *member {
	m := &member{Service: &drover.Service{Env: n.Env, Topic: "compute", Version: "1", Record: n.Store.Records(), DrainTimeout: time.Minute}}
	session, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier()})
	if err != nil {
		w.T.Fatal(err)
	}
	m.jobs, err = job.New(job.Config{Env: n.Env, DB: n.Store, Session: session, Queues: map[string]int{"default": 3}})
	if err != nil {
		w.T.Fatal(err)
	}
	job.Handle(m.jobs, "op", func(ctx context.Context, i int) (int, error) {
		err := n.Env.Sleep(ctx, d)
		if errors.Is(err, lease.ErrLost) {
			m.lost = err
		}
		return i, err
	})
	m.Components.Add("session", session)
	m.Components.Add("jobs", m.jobs)
	return m
}

func TestSpecServiceExplore(t *testing.T) {
	t.Run("service-05 two starters, one record", func(t *testing.T) {
		testkit.Explore(t, 500, func(w *testkit.World) {
			db := w.Node("looker", nil)
			up := 0
			start := func(n *testkit.Node) drover.Component {
				return &drover.Service{Env: n.Env, Host: "h", Topic: "compute", Version: n.Name(), Record: n.Store.Records(),
					PostStart: func(context.Context) error { up++; return nil }}
			}
			a, b := w.Node("a", start), w.Node("b", start)
			w.Eventually(time.Minute, "both run", func() bool { return up == 2 })
			r, found, err := db.Store.Records().Load(w.T.Context(), "h", "compute")
			if err != nil || !found || r.Version != "a" && r.Version != "b" {
				w.T.Fatalf("%+v %v %v", r, found, err)
			}
			if err := errors.Join(a.Stop(), b.Stop()); err != nil {
				w.T.Fatal(err)
			}
		})
	})
	t.Run("service-16 one of three nodes drains, all 100 operations succeed", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			w.JobInvariants()
			nodes := map[string]*member{}
			start := func(n *testkit.Node) drover.Component {
				nodes[n.Name()] = newMember(w, n, 2*time.Second)
				return nodes[n.Name()]
			}
			a := w.Node("a", start)
			w.Node("b", start)
			w.Node("c", start)
			w.Advance(time.Second)
			var ids []string
			for i := range 100 {
				via := nodes[[]string{"a", "b", "c"}[i%3]]
				if i == 50 {
					w.Go("operator", func() {
						if err := nodes["a"].Shutdown(w.T.Context()); err != nil {
							w.T.Errorf("Shutdown: %v", err)
						}
					})
				}
				j, err := via.jobs.Submit(w.T.Context(), job.Request{Kind: "op", Args: i})
				if errors.Is(err, drover.ErrStopping) { // a caller goes elsewhere
					j, err = nodes["b"].jobs.Submit(w.T.Context(), job.Request{Kind: "op", Args: i})
				}
				if err != nil {
					w.T.Fatal(err)
				}
				ids = append(ids, j.ID)
				w.Advance(200 * time.Millisecond)
			}
			w.Advance(3 * time.Minute)
			for _, id := range ids {
				if j, err := nodes["c"].jobs.Get(w.T.Context(), id); err != nil || j.State != job.Succeeded || j.Runs != 1 {
					w.T.Fatalf("%+v %v", j, err)
				}
			}
			if err := a.Err(); err != nil || nodes["a"].State() != "stopped" {
				w.T.Fatalf("a: %s %v", nodes["a"].State(), err)
			}
		})
	})
	t.Run("service-17 the store is away for ten minutes", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			var m *member
			n := w.Node("a", func(n *testkit.Node) drover.Component { m = newMember(w, n, time.Hour); return m })
			w.Advance(time.Second)
			if _, err := m.jobs.Submit(w.T.Context(), job.Request{Kind: "op", Args: 1}); err != nil {
				w.T.Fatal(err)
			}
			w.Advance(9 * time.Second)
			is := func(after time.Duration, ready bool, states ...string) {
				h := m.Health()
				for _, s := range states {
					if h.State == s && m.Ready() == ready && m.Live() && m.State() == "running" {
						return
					}
				}
				w.T.Fatalf("%v after the loss: ready %v, live %v, %s, %+v", after, m.Ready(), m.Live(), m.State(), h)
			}
			is(0, true, "ready")
			w.StoreDown(10 * time.Minute)
			w.Advance(26 * time.Second)
			if m.lost == nil {
				w.T.Fatal("26 s after the loss the handler still runs")
			}
			is(26*time.Second, false, "starting")
			w.Advance(50 * time.Second)
			is(76*time.Second, false, "failing")
			w.Advance(8 * time.Minute)
			is(556*time.Second, false, "failing")
			w.Advance(time.Minute)
			_ = m.Health() // a probe: from here on it is seen to be good
			w.Advance(11 * time.Second)
			is(627*time.Second, true, "ready")
			if err := n.Err(); err != nil {
				w.T.Fatal(err)
			}
		})
	})
	t.Run("service-47 same seed, same trace", func(t *testing.T) {
		traces := map[string]int{}
		for range 2 {
			testkit.Explore(t, 5, func(w *testkit.World) { // strict: it compares two runs of a seed itself, too
				var members []*member
				for i := range 3 {
					w.Node(fmt.Sprint("n", i), func(n *testkit.Node) drover.Component {
						m := newMember(w, n, 5*time.Second)
						members = append(members, m)
						return m
					})
				}
				w.Advance(2 * time.Second)
				for i, m := range members {
					if _, err := m.jobs.Submit(w.T.Context(), job.Request{Kind: "op", Args: i}); err != nil {
						w.T.Fatal(err)
					}
					w.Go(fmt.Sprint("stop", i), func() { _ = m.Shutdown(w.T.Context()) })
				}
				w.Advance(2 * time.Minute)
				trace := w.Trace()
				traces[fmt.Sprint(w.Seed, " ", trace[len(trace)-1])]++
				if !strings.Contains(strings.Join(trace, "\n"), "store.records.create") {
					w.T.Error("no start in the trace")
				}
			}, testkit.Parallel(1))
		}
		for trace, n := range traces {
			if n%2 != 0 {
				t.Errorf("%s: %d times", trace, n)
			}
		}
	})
}
