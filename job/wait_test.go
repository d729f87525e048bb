package job_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
)

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
