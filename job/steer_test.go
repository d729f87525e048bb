package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func TestSteering(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-26 wait", run: waits},
		{name: "job-27 wait on another node", stores: "msp", run: waitElsewhere},
		{name: "job-27 a thousand waiters", stores: "mp", run: thousandWaiters},
		{name: "job-28 watch", run: watches},
		{name: "job-49 cancel before it runs", run: cancelIdle},
		{name: "job-51 cancel on another node", stores: "msp", run: cancelElsewhere},
		{name: "job-52 cancel refused", run: cancelRefused},
		{name: "job-53 after a cancel", run: afterCancel},
		{name: "job-61 listing", run: listing},
		{name: "job-63 retry", run: retryVerb},
		{name: "job-63 retry with the finished steps", stores: "msp", run: retrySteps},
		{name: "job-64 hold and reschedule", run: holdAndReschedule},
		{name: "job-34 fence", run: fence},
	})
}

func listing(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x"); g.handle(m, "y", job.Queue("other")) })
	ids := func(q job.Query) (ids []string) {
		w.Helper()
		for j, err := range n.List(w.Context(), q) {
			w.must(err)
			ids = append(ids, j.ID)
		}
		return ids
	}
	check := func(what string, q job.Query, want ...*job.Job) {
		w.Helper()
		var ws []string
		for _, j := range want {
			ws = append(ws, j.ID)
		}
		if got := ids(q); !slices.Equal(got, ws) {
			w.Errorf("%s: %v, want %v", what, got, ws)
		}
	}
	start := time.Now()
	done := w.submit(n, job.Request{Kind: "x", Resource: "vm/1", Identity: map[string]string{"account": "a1"}})
	<-g.started
	g.let <- nil
	w.wait(n, done)
	time.Sleep(time.Minute)
	run := w.submit(n, job.Request{Kind: "x", Resource: "vm/1", Identity: map[string]string{"account": "a2", "user": "Eve"}, Sync: vm("1")})
	<-g.started
	wait := w.submit(n, job.Request{Kind: "x", Resource: "vm/2", Identity: map[string]string{"account": "a1"}, Sync: vm("1")})
	time.Sleep(time.Minute)
	later := w.submit(n, job.Request{Kind: "y", RunAt: time.Now().Add(time.Hour), Resource: "vm/1"})
	check("live", job.Query{}, run, wait, later)
	check("newest", job.Query{Newest: true}, later, wait, run)
	check("pages", job.Query{Limit: 1}, run, wait, later)
	check("succeeded", job.Query{States: []job.State{job.Succeeded}}, done)
	check("in a period", job.Query{States: []job.State{job.Succeeded, job.Running}, Created: job.Range{From: start.Add(time.Second), To: time.Now()}}, run)
	check("ended in a period", job.Query{States: []job.State{job.Succeeded}, Ended: job.Range{To: start.Add(time.Second)}}, done)
	check("resource", job.Query{Resource: "vm/1"}, run, later)
	check("session", job.Query{Session: "a"}, run)
	check("account", job.Query{Account: "a1"}, wait)
	check("queue", job.Query{Queues: []string{"other"}}, later)
	check("kind", job.Query{Kinds: []string{"y"}}, later)
	check("key", job.Query{Key: vm("1")}, run, wait)
	check("older", job.Query{Older: 59 * time.Second}, run)
	check("older", job.Query{Older: 61 * time.Second})
	check("text", job.Query{Text: "eVe"}, run)
	check("suffix", job.Query{Suffix: wait.ID[24:]}, wait)
	by, err := n.ByResource(w.Context(), []string{"vm/1", "vm/2", "vm/3"})
	w.must(err)
	if len(by) != 2 || by["vm/1"].ID != run.ID || by["vm/2"].ID != wait.ID {
		w.Errorf("by resource: %v", by)
	}
	for _, q := range []job.Query{{Limit: 501}, {Limit: -1}, {States: []job.State{"dead"}}, {Text: fmt.Sprint(make([]int, 100))}, {Suffix: fmt.Sprint(make([]int, 30))}} {
		if _, _, err := n.Page(w.Context(), q); !errors.Is(err, job.ErrInvalid) {
			w.Errorf("%+v: %v", q, err)
		}
	}
	g.let <- nil
	g.let <- nil
}

func retryVerb(w *world) {
	fail := true
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(_ context.Context, n int) (int, error) {
			if fail {
				return 0, job.Permanent(errBoom)
			}
			return n, nil
		})
	})
	old := w.wait(n, w.submit(n, job.Request{Kind: "x", Args: 7, Sync: vm("1"), Identity: map[string]string{"user": "u"}, Resource: "vm/1"}))
	fail = false
	j, err := n.Retry(w.Context(), old.ID)
	w.must(err)
	j = w.wait(n, j)
	if r, err := job.Result[int](j); r != 7 || err != nil || j.RetryOf != old.ID || j.ID == old.ID || j.Identity["user"] != "u" || j.Sync != old.Sync || j.Resource != "vm/1" {
		w.Fatalf("%+v", j)
	}
	w.state(n, old.ID, job.Failed)
	if _, err := n.Retry(w.Context(), j.ID); !errors.Is(err, job.ErrInvalid) {
		w.Fatal(err)
	}
}

// retrySteps: what was done is done again only without KeepSteps.
func retrySteps(w *world) {
	var calls []string
	fail := true
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			v, err := job.Step(ctx, "A", func(context.Context) (int, error) {
				calls = append(calls, "A")
				return 7, nil
			})
			if err != nil || fail {
				return 0, job.Permanent(errBoom)
			}
			return v, nil
		})
	})
	old := w.wait(n, w.submit(n, job.Request{Kind: "x"}))
	fail = false
	for _, c := range []struct {
		opts []job.RetryOption
		want int
	}{{[]job.RetryOption{job.KeepSteps()}, 1}, {nil, 2}} {
		j, err := n.Retry(w.Context(), old.ID, c.opts...)
		w.must(err)
		j = w.wait(n, j)
		if r, err := job.Result[int](j); r != 7 || err != nil || len(calls) != c.want {
			w.Errorf("%d, %v, step A was called %d times, want %d", r, err, len(calls), c.want)
		}
	}
}

func holdAndReschedule(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") })
	first, held, last := w.submit(n, job.Request{Kind: "x", Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	<-g.started
	w.must(n.Hold(w.Context(), held.ID))
	w.state(n, held.ID, job.Parked)
	if err := n.Hold(w.Context(), first.ID); !errors.Is(err, store.ErrConflict) {
		w.Error(err)
	}
	w.must(n.Wake(w.Context(), "job/"+held.ID))
	if j := w.state(n, held.ID, job.Waiting); j.Place != held.Place {
		w.Errorf("place %d of %d", j.Place, held.Place)
	}
	for _, j := range []*job.Job{first, held, last} {
		g.let <- nil
		if got := w.wait(n, j); got.State != job.Succeeded {
			w.Fatal(got.State)
		}
	}
	if err := n.Hold(w.Context(), first.ID); !errors.Is(err, job.ErrFinished) {
		w.Error(err)
	}
	later := w.submit(n, job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)})
	w.must(n.SetPriority(w.Context(), later.ID, -5))
	if err := n.Reschedule(w.Context(), later.ID, time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, job.ErrInvalid) {
		w.Errorf("a time that cannot be meant: %v", err)
	}
	w.must(n.Reschedule(w.Context(), later.ID, time.Now().Add(10*time.Second)))
	start := time.Now()
	g.let <- nil
	if got := w.wait(n, later); got.Priority != -5 || time.Since(start).Round(time.Second) != 10*time.Second {
		w.Errorf("priority %d, after %v", got.Priority, time.Since(start))
	}
	later = w.submit(n, job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)})
	w.must(n.Reschedule(w.Context(), later.ID, time.Now()))
	start = time.Now()
	g.let <- nil
	if w.wait(n, later); time.Since(start) > w.poll {
		w.Errorf("after %v", time.Since(start))
	}
}

func fence(w *world) {
	g := newGate()
	wrote := make(chan error, 1)
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			g.started <- nil
			<-g.let
			wrote <- job.Note(ctx, "late", nil)
			return 1, nil
		}, job.Timeout(time.Second))
	})
	j, next := w.submit(n, job.Request{Kind: "x", Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	<-g.started
	w.must(n.Fence(w.Context(), j.ID, "hangs"))
	if got := w.state(n, j.ID, job.Failed); got.Error.Code != job.CodeFenced {
		w.Errorf("%+v", got.Error)
	}
	<-g.started
	close(g.let)
	if err := <-wrote; !errors.Is(err, job.ErrLost) && err != nil {
		w.Error(err)
	}
	if got := w.wait(n, next); got.State != job.Succeeded {
		w.Error(got.State)
	}
	w.state(n, j.ID, job.Failed)
}
