package job_test

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestLooking(t *testing.T) {
	eachStore(t, []spec{
		{name: "stats", stores: "msp", run: statistics},
		{name: "blocked", stores: "msp", run: blockedJobs},
		{name: "blocked: cycles", run: blockedCycles},
	})
}

func statistics(w *world) {
	g := newGate()
	n := w.idle("a", with(func(c *job.Config) { c.Queues = map[string]int{"default": 3, "quiet": 7} }))
	g.handle(n.Manager, "x")
	job.Handle(n.Manager, "waiter", func(ctx context.Context, id string) (string, error) {
		g.started <- nil
		j, err := n.Wait(ctx, id)
		return string(j.State), err
	})
	job.Handle(n.Manager, "parker", func(context.Context, int) (int, error) { return 0, job.Park(job.OnTopic("t")) })
	n.run()
	far := w.submit(n, job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)})
	w.submit(n, job.Request{Kind: "waiter", Args: far.ID})
	p := w.submit(n, job.Request{Kind: "parker", Args: 1})
	w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	<-g.started
	<-g.started
	w.eventually(5*time.Second, "parked", func() bool { return w.get(n, p.ID).State == job.Parked })
	time.Sleep(1100 * time.Millisecond)
	s, err := n.Stats(w.Context())
	w.must(err)
	q := s.Queues["default"]
	if s.Active != 2 || q.Workers != 3 || q.Running != 1 || q.Blocked != 1 || q.Free != 2 || q.Oldest < time.Second {
		w.Errorf("%+v", s)
	}
	for state, want := range map[job.State]int{job.Running: 2, job.Waiting: 1, job.Scheduled: 1, job.Parked: 1, job.Ready: 0} {
		if q.Depth[state] != want {
			w.Errorf("%d %s, want %d", q.Depth[state], state, want)
		}
	}
	if idle := s.Queues["quiet"]; idle.Workers != 7 || idle.Free != 7 || len(idle.Depth) != 0 {
		w.Errorf("%+v", idle)
	}
	_, err = n.Cancel(w.Context(), far.ID)
	w.must(err)
	g.let <- nil
	g.let <- nil
}

func blockedJobs(w *world) {
	g := newGate()
	register := func(m *job.Manager) {
		g.handle(m, "x", job.Grace(time.Second))
		job.Handle(m, "stubborn", func(context.Context, struct{}) (int, error) {
			g.started <- nil
			<-g.let
			return 1, nil
		}, job.Timeout(time.Second), job.Grace(time.Second), job.Quiet(2*time.Second))
		job.Handle(m, "parker", func(context.Context, int) (int, error) { return 0, job.Park(job.OnTopic("t")) })
	}
	often := with(func(c *job.Config) { c.ReportAfter = 3 * time.Second })
	a, b := w.node("a", register, often), w.node("b", register, workers(0), often)
	holder := w.submit(a, job.Request{Kind: "x", Sync: vm("1")})
	<-g.started
	second, third := w.submit(a, job.Request{Kind: "x", Sync: vm("1")}), w.submit(a, job.Request{Kind: "x", Sync: vm("1")})
	if list, err := b.Blocked(w.Context()); err != nil || len(list) != 0 {
		w.Fatalf("%+v, %v", list, err)
	}
	stubborn := w.submit(a, job.Request{Kind: "stubborn"})
	<-g.started
	held := w.submit(a, job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)})
	w.must(a.Hold(w.Context(), held.ID))
	w.submit(a, job.Request{Kind: "parker", Args: 1})
	time.Sleep(4 * time.Second)
	find := func(n *node) map[string]job.Blocked {
		list, err := n.Blocked(w.Context())
		w.must(err)
		got := map[string]job.Blocked{}
		for _, b := range list {
			got[b.Why+" "+b.Job.ID] = b
		}
		return got
	}
	got := find(b)
	if len(got) != 4 {
		w.Errorf("%+v", got)
	}
	turn := got["turn "+third.ID]
	if turn.Holder.Content != holder.ID || turn.Holder.Holder != "a" || turn.Holder.Since.IsZero() || turn.Line != 2 ||
		turn.Job == nil || turn.Since.Sub(third.Created).Abs() > time.Second {
		w.Errorf("%+v", turn)
	}
	for _, k := range []string{"turn " + second.ID, "overdue " + stubborn.ID, "held " + held.ID} {
		if got[k].Job == nil {
			w.Errorf("%s is missing", k)
		}
	}
	if q := find(a)["quiet "+stubborn.ID]; q.Job == nil || q.Since.Before(stubborn.Created.Add(-time.Second)) {
		w.Errorf("not quiet: %+v", q)
	}
	for range 5 {
		g.let <- nil
	}
}

// blockedCycles: each of two jobs holds a key and waits for a job that waits for the other's; one parks, one blocks.
func blockedCycles(w *world) {
	ids := make(chan [2]string, 2)
	let := make(chan struct{})
	n := w.idle("a", workers(4))
	job.Handle(n.Manager, "hold", func(ctx context.Context, next string) (int, error) {
		j, _ := job.FromContext(ctx)
		<-let
		other, err := n.Submit(ctx, job.Request{Kind: "noop", Sync: syncqueue.Key{Kind: "vm", ID: next}, Detached: true})
		if err != nil {
			return 0, err
		}
		ids <- [2]string{j.ID, other.ID}
		if next == "2" {
			return 0, job.Park(job.OnJobs(other.ID))
		}
		_, err = n.Wait(ctx, other.ID)
		return 0, err
	})
	noop(n.Manager)
	n.run()
	one := w.submit(n, job.Request{Kind: "hold", Args: "2", Sync: vm("1")})
	w.submit(n, job.Request{Kind: "hold", Args: "1", Sync: vm("2")})
	w.settle()
	close(let)
	edges := map[string]string{}
	for range 2 {
		e := <-ids
		edges[e[0]] = e[1]
	}
	time.Sleep(w.poll)
	list, err := n.Blocked(w.Context())
	w.must(err)
	if len(list) != 1 || list[0].Why != job.WhyCycle || len(list[0].Cycle) != 4 {
		w.Fatalf("%+v", list)
	}
	if c := list[0].Cycle; c[0] != one.ID || c[1] != edges[one.ID] || c[3] != edges[c[2]] {
		w.Errorf("%v, edges %v", c, edges)
	}
	_, err = n.Cancel(w.Context(), one.ID)
	w.must(err)
	time.Sleep(w.poll)
	if list, err := n.Blocked(w.Context()); err != nil || len(list) != 0 {
		w.Errorf("%+v, %v", list, err)
	}
}
