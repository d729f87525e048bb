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

func waits(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") })
	j := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	start := time.Now()
	got, err := n.Wait(ctx, j.ID)
	if d := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || got == nil || got.State != job.Running || d < time.Second || d > 1100*time.Millisecond {
		w.Fatalf("%v, %s after %v", err, state(got), d)
	}
	g.let <- nil
	w.wait(n, j)
	start = time.Now()
	if w.wait(n, j); time.Since(start) > 0 && !w.real {
		w.Fatalf("slept %v", time.Since(start))
	}
	if _, err := n.Wait(w.Context(), "0198b5d2-0000-7000-8000-00000000000a"); !errors.Is(err, job.ErrNotFound) {
		w.Fatal(err)
	}
	if _, err := n.Wait(w.Context(), "x"); !errors.Is(err, job.ErrNotFound) {
		w.Fatal(err)
	}
	// A manager that does not run waits too. The job ends between its subscription and its first look.
	other := w.idle("b", deaf)
	j = w.submit(n, job.Request{Kind: "x"})
	<-g.started
	other.faults.set(func(f *faults) {
		f.before = func(op string) error {
			if op == "begin" {
				f.before = nil
				g.let <- nil
				f.mu.Unlock() // held by call
				w.wait(n, j)
				f.mu.Lock()
			}
			return nil
		}
	})
	start = time.Now()
	if j := w.wait(other, j); j.State != job.Succeeded || !w.real && time.Since(start) > 100*time.Millisecond {
		w.Fatalf("%s after %v", j.State, time.Since(start))
	}
}

func waitElsewhere(w *world) {
	g := newGate()
	a := w.node("a", func(m *job.Manager) { g.handle(m, "x") })
	register := func(m *job.Manager) { job.Declare[struct{}, string](m, "x") }
	for _, c := range []struct {
		n     *node
		bound time.Duration
	}{{w.node("hinted", register), 100 * time.Millisecond}, {w.node("deaf", register, deaf), w.poll + 100*time.Millisecond}} {
		j := w.submit(a, job.Request{Kind: "x"})
		<-g.started
		ended := make(chan time.Time, 1)
		go func() {
			w.wait(c.n, j)
			ended <- time.Now()
		}()
		w.settle()
		start := time.Now()
		g.let <- nil
		if d := (<-ended).Sub(start); d > c.bound {
			w.Errorf("woke after %v", d)
		}
	}
}

func thousandWaiters(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") }, workers(1))
	front := w.node("b", func(m *job.Manager) { job.Declare[struct{}, string](m, "x") }, with(func(c *job.Config) { c.Queues = map[string]int{} }))
	js, err := n.SubmitMany(w.Context(), slices.Repeat([]job.Request{{Kind: "x"}}, 1000))
	w.must(err)
	done := make(chan *job.Job, len(js))
	for _, j := range js {
		go func() {
			got, err := front.Wait(context.Background(), j.ID)
			if err != nil {
				w.Error(err)
			}
			done <- got
		}()
	}
	time.Sleep(2 * w.poll)
	before := front.faults.ops("list")
	time.Sleep(3 * w.poll)
	if q := front.faults.ops("list") - before; q < 2 || q > 8 { // 2 per poll, polls up to 10 % shorter
		w.Errorf("%d queries in 3 polls", q)
	}
	for range js {
		g.let <- nil
	}
	for range js {
		if j := <-done; j == nil || j.State != job.Succeeded {
			w.Fatal(state(j))
		}
	}
}

func watches(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			g.started <- nil
			for p := range 3 {
				<-g.let
				w.must(job.Report(ctx, job.Progress{Percent: 10 * (p + 1)}))
				time.Sleep(2 * time.Second)
			}
			return 0, nil
		})
	})
	j := w.submit(n, job.Request{Kind: "x"})
	<-g.started
	var seen []*job.Job
	for j, err := range n.Watch(w.Context(), j.ID) {
		w.must(err)
		if len(seen) > 0 && j.Rev <= seen[len(seen)-1].Rev {
			w.Fatalf("rev %d after %d", j.Rev, seen[len(seen)-1].Rev)
		}
		seen = append(seen, j)
		g.let <- nil
	}
	if first, last := seen[0], seen[len(seen)-1]; first.State != job.Running || last.State != job.Succeeded || len(seen) != 5 || last.Progress.Percent != 30 {
		w.Fatalf("%d revisions, %s to %s at %d %%", len(seen), first.State, last.State, last.Progress.Percent)
	}
	for _, err := range n.Watch(w.Context(), "0198b5d2-0000-7000-8000-00000000000a") {
		if !errors.Is(err, job.ErrNotFound) {
			w.Fatal(err)
		}
	}
	for range n.Watch(w.Context(), j.ID) {
		break
	}
}

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
