package job_test

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/job"
)

func cancelIdle(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") }, workers(2))
	full := []*job.Job{w.submit(n, job.Request{Kind: "x", Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("2")})}
	<-g.started
	<-g.started
	scheduled := w.submit(n, job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)})
	waiting := w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	behind := w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	ready := w.submit(n, job.Request{Kind: "x"})
	parked := w.submit(n, job.Request{Kind: "x"})
	w.must(n.Hold(w.Context(), parked.ID))
	for _, c := range []struct {
		j    *job.Job
		from job.State
	}{{scheduled, job.Scheduled}, {waiting, job.Waiting}, {ready, job.Ready}, {parked, job.Parked}} {
		w.state(n, c.j.ID, c.from)
		if ok, err := n.Cancel(w.Context(), c.j.ID, "no", "need"); !ok || err != nil {
			w.Fatalf("%s: %v, %v", c.from, ok, err)
		}
		j := w.state(n, c.j.ID, job.Cancelled)
		if j.Runs != 0 || j.CancelReason != "no need" || j.CancelAt.IsZero() || j.CancelBy != "a" || j.Error.Code != job.CodeCancelled || j.Ended.IsZero() {
			w.Errorf("%s: %+v", c.from, j)
		}
		if _, err := job.Result[string](j); !errors.Is(err, job.ErrCancelled) {
			w.Errorf("%s: %v", c.from, err)
		}
	}
	w.state(n, behind.ID, job.Waiting)
	g.let <- nil
	g.let <- nil
	w.wait(n, full[0])
	<-g.started
	g.let <- nil
	if j := w.wait(n, behind); j.State != job.Succeeded {
		w.Fatal(j.State)
	}
}

func cancelElsewhere(w *world) {
	g := newGate()
	b := w.node("b", func(m *job.Manager) { g.handle(m, "x") })
	a := w.node("a", func(m *job.Manager) { job.Declare[struct{}, string](m, "x") }, with(func(c *job.Config) { c.Queues = map[string]int{} }))
	cancel := func(on *node, bound time.Duration) {
		j := w.submit(a, job.Request{Kind: "x"})
		<-g.started
		start := time.Now()
		if ok, err := on.Cancel(w.Context(), j.ID, "enough"); !ok || err != nil {
			w.Fatal(ok, err)
		}
		got := w.wait(on, j)
		if d := time.Since(start); got.State != job.Cancelled || d > bound || got.CancelReason != "enough" || got.Error.Text != "job: cancelled: enough" {
			w.Errorf("%s after %v: %+v", got.State, d, got.Error)
		}
	}
	if w.real { // the statements are planned once per connection
		for range 5 {
			cancel(b, 10*time.Second)
			cancel(a, 10*time.Second)
		}
	}
	cancel(b, 100*time.Millisecond)
	cancel(a, 100*time.Millisecond)
	w.must(b.stop())
	w.node("c", func(m *job.Manager) { g.handle(m, "x") }, deaf)
	a2 := w.node("d", func(m *job.Manager) { job.Declare[struct{}, string](m, "x") }, with(func(c *job.Config) { c.Queues = map[string]int{} }))
	a = a2
	cancel(a2, w.poll+100*time.Millisecond)
}

func cancelRefused(w *world) {
	g := newGate()
	passed := make(chan error) // the handler goes on when it is asked
	n := w.node("a", func(m *job.Manager) {
		g.handle(m, "x")
		g.handle(m, "locked", job.NotCancellable())
		job.Handle(m, "past", func(ctx context.Context, _ struct{}) (int, error) {
			err := job.NoCancel(ctx)
			passed <- err
			if err != nil {
				return 0, err
			}
			return 1, <-g.let
		})
		job.Handle(m, "late", func(ctx context.Context, _ struct{}) (int, error) {
			<-ctx.Done()
			passed <- job.NoCancel(ctx)
			return 0, ctx.Err()
		})
	})
	refused := func(id string, want error) {
		w.Helper()
		before, _ := n.Get(w.Context(), id)
		if ok, err := n.Cancel(w.Context(), id); ok || !errors.Is(err, want) {
			w.Errorf("%v, %v, want %v", ok, err, want)
		}
		if after, _ := n.Get(w.Context(), id); before != nil && (after.Rev != before.Rev || after.State != before.State) {
			w.Errorf("changed to %s", after.State)
		}
	}
	j := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	g.let <- nil
	w.wait(n, j)
	refused(j.ID, job.ErrFinished)
	refused("0198b5d2-0000-7000-8000-00000000000a", job.ErrNotFound)
	refused("nonsense", job.ErrNotFound)

	j = w.submit(n, job.Request{Kind: "locked"})
	<-g.started
	refused(j.ID, job.ErrNotCancellable)
	g.let <- nil
	if j := w.wait(n, j); j.State != job.Succeeded {
		w.Error(j.State)
	}
	later := w.submit(n, job.Request{Kind: "locked", RunAt: time.Now().Add(time.Hour)})
	if ok, err := n.Cancel(w.Context(), later.ID); !ok || err != nil {
		w.Errorf("locked, not started: %v, %v", ok, err)
	}
	j = w.submit(n, job.Request{Kind: "past"})
	w.must(<-passed)
	refused(j.ID, job.ErrNotCancellable)
	g.let <- nil
	if j := w.wait(n, j); j.State != job.Succeeded {
		w.Error(j.State)
	}
	j = w.submit(n, job.Request{Kind: "late"})
	w.eventually(10*time.Second, "runs", func() bool { return w.get(n, j.ID).State == job.Running })
	for range 2 { // twice is as good as once
		if ok, err := n.Cancel(w.Context(), j.ID); !ok || err != nil {
			w.Error(ok, err)
		}
	}
	if err := <-passed; !errors.Is(err, job.ErrCancelled) {
		w.Errorf("NoCancel after the request: %v", err)
	}
	if j := w.wait(n, j); j.State != job.Cancelled {
		w.Error(j.State)
	}
}

func afterCancel(w *world) {
	g := newGate()
	undone := 0
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "stubborn", func(ctx context.Context, _ struct{}) (int, error) {
			g.started <- nil
			<-ctx.Done()
			return 7, nil
		})
		job.Handle(m, "fails", func(ctx context.Context, _ struct{}) (int, error) {
			g.started <- nil
			<-ctx.Done()
			if c := context.Cause(ctx); !errors.Is(c, job.ErrCancelled) || c.Error() != "job: cancelled: why" {
				w.Errorf("cause %v", c)
			}
			return 0, errBoom
		})
		job.Handle(m, "unwinds", func(ctx context.Context, _ struct{}) (int, error) {
			g.started <- nil
			if errors.Is(context.Cause(ctx), job.ErrCancelled) {
				undone++
				return 0, ctx.Err()
			}
			return 0, job.Again(time.Hour)
		}, job.Unwinds())
	})
	for _, c := range []struct {
		kind string
		want job.State
	}{{"stubborn", job.Succeeded}, {"fails", job.Cancelled}, {"unwinds", job.Cancelled}} {
		j := w.submit(n, job.Request{Kind: c.kind})
		<-g.started
		w.settle()
		if ok, err := n.Cancel(w.Context(), j.ID, "why"); !ok || err != nil {
			w.Fatal(c.kind, ok, err)
		}
		if j := w.wait(n, j); j.State != c.want || j.Attempt != 0 {
			w.Errorf("%s: %s, attempt %d", c.kind, j.State, j.Attempt)
		}
	}
	if undone != 1 {
		w.Errorf("compensated %d times", undone)
	}
	<-g.started // of the compensation
	// The node dies after the request.
	block := make(chan struct{})
	defer close(block)
	dying := w.node("dying", func(m *job.Manager) {
		job.Handle(m, "doomed", func(ctx context.Context, _ struct{}) (int, error) {
			g.started <- nil
			<-block
			return 0, ctx.Err()
		})
	})
	job := w.submit(dying, job.Request{Kind: "doomed"})
	<-g.started
	if ok, err := n.Cancel(w.Context(), job.ID); !ok || err != nil {
		w.Fatal(ok, err)
	}
	dying.faults.down(true)
	if j := w.wait(n, job); j.State != "cancelled" || j.Runs != 1 || j.Lost != 1 {
		w.Errorf("%s after %d runs, %d lost", j.State, j.Runs, j.Lost)
	}
}
