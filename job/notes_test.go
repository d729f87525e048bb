package job_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

func TestNotes(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-57 what the manager writes", stores: "msp", run: managerNotes},
		{name: "spans, metrics and logs", run: tells},
		{name: "metrics of lines", run: linesTell},
	})
}

// texts is the journal of a job, a row's text each.
func (w *world) texts(n *node, id string) string {
	w.Helper()
	var texts []string
	for e, err := range n.Journal(w.Context(), id) {
		w.must(err)
		if e.At.IsZero() || e.N == 0 {
			w.Errorf("%+v", e)
		}
		texts = append(texts, e.Text)
	}
	return strings.Join(texts, "; ")
}

func managerNotes(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) {
		g.handle(m, "x", job.Retry(constant(time.Millisecond), 2))
		job.Handle(m, "parker", func(ctx context.Context, _ int) (int, error) {
			if j, _ := job.FromContext(ctx); j.Runs > 1 {
				return 1, nil
			}
			return 0, job.Park(job.OnTopic("t"))
		})
	})
	ok := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	g.let <- nil
	w.wait(n, ok)
	failing := w.submit(n, job.Request{Kind: "x"})
	for range 2 {
		<-g.started
		g.let <- errBoom
	}
	w.wait(n, failing)
	parked := w.submit(n, job.Request{Kind: "parker", Args: 1})
	w.eventually(5*time.Second, "parked", func() bool { return w.get(n, parked.ID).State == job.Parked })
	w.must(n.Wake(w.Context(), "t"))
	w.wait(n, parked)
	cancelled := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	w.must(second(n.Cancel(w.Context(), cancelled.ID, "no need")))
	w.wait(n, cancelled)
	idle := w.submit(n, job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)})
	w.must(n.Hold(w.Context(), idle.ID))
	w.must(second(n.Cancel(w.Context(), idle.ID)))
	fenced := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	w.must(n.Fence(w.Context(), fenced.ID, "hangs"))
	for _, c := range []struct {
		j    *job.Job
		want string
	}{
		{ok, ""},
		{failing, "claimed; boom; claimed; boom"},
		{parked, "claimed; parked; woken: topic t"},
		{cancelled, "cancel requested by a: no need; claimed; job: cancelled: no need"},
		{idle, "parked: held by an operator; cancel requested by a"},
		{fenced, "claimed; fenced: hangs"},
	} {
		if got := w.texts(n, c.j.ID); got != c.want {
			w.Errorf("journal %q, want %q", got, c.want)
		}
	}
}

func tells(w *world) {
	tel := &telemetry{}
	n := w.idle("a", workers(1), with(func(c *job.Config) { c.Env.Tracer, c.Env.Meter = tel, meters{to: tel} }))
	job.Handle(n.Manager, "x", func(ctx context.Context, _ struct{}) (int, error) {
		if j, _ := job.FromContext(ctx); j.Runs == 1 {
			return 0, errBoom
		}
		return 1, nil
	}, job.Retry(constant(time.Second), 2))
	job.Declare[struct{}, int](n.Manager, "odd")
	n.run()
	j := w.wait(n, w.submit(n, job.Request{Kind: "x", Sync: vm("1")}))
	w.submit(n, job.Request{Kind: "odd"})
	time.Sleep(2 * time.Minute)
	w.must(tel.collect(w.Context()))
	for _, m := range [][]string{
		{"drover.job.submitted", "kind", "x", "queue"}, {"drover.job.claimed", "default"}, {"drover.job.finished", "succeeded", "code"},
		{"drover.job.retried"}, {"drover.job.running"}, {"drover.job.turn"}, {"drover.job.wait"}, {"drover.job.run"},
		{"drover.job.claim"}, {"drover.job.finish"}, {"drover.job.blocked 0", "default"}, {"drover.job.depth 1", "default", "ready"},
		{"drover.job.oldest", "default"}, {"drover.job.unhandled 1", "odd", "default"},
	} {
		if !tel.has(m...) {
			w.Errorf("no metric %v", m)
		}
	}
	runs, submits := tel.named("job.run x"), tel.named("job.submit")
	if len(runs) != 2 || len(submits) != 2 {
		w.Fatalf("%d runs, %d submissions", len(runs), len(submits))
	}
	for i, s := range runs {
		if s.parent.TraceID() != submits[0].sc.TraceID() || s.ended != 1 || s.attr("job.id") != j.ID || s.attr("job.epoch") == "" || s.attr("queue.kind") != "vm" {
			w.Errorf("run %d: %+v", i, s)
		}
	}
	if a, b := runs[0], runs[1]; a.attr("job.state") != "scheduled" || a.attr("job.code") != "internal" || len(a.links) != 0 ||
		b.attr("job.state") != "succeeded" || len(b.links) != 1 || b.links[0].SpanID() != a.sc.SpanID() {
		w.Errorf("%+v\n%+v", a, b)
	}
}

func linesTell(w *world) {
	tel := &telemetry{}
	n := w.idle("a", workers(2), with(func(c *job.Config) { c.Env.Tracer, c.Env.Meter = tel, meters{to: tel} }))
	job.Handle(n.Manager, "x", func(context.Context, struct{}) (int, error) { time.Sleep(time.Minute); return 1, nil })
	n.run()
	for range 3 {
		w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	}
	time.Sleep(30 * time.Second)
	w.must(tel.collect(w.Context()))
	time.Sleep(5 * time.Minute)
	for _, m := range [][]string{
		{"drover.syncqueue.waiting 2 ", "kind", "vm"}, {"drover.syncqueue.held 1 ", "kind", "vm"}, {"drover.syncqueue.oldest ", "vm"},
		{"drover.syncqueue.granted ", "vm"}, {"drover.syncqueue.handoff ", "vm"},
	} {
		if !tel.has(m...) {
			w.Errorf("no metric %v", m)
		}
	}
	if strings.Contains(tel.text(), "vm/1") || tel.count("drover.syncqueue.granted") != 3 || tel.count("drover.syncqueue.handoff") != 2 {
		w.Error(tel.text())
	}
}
