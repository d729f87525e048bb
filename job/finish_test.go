package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func claimFails(w *world) {
	var runs atomic.Int32
	n := w.idle("a")
	job.Handle(n.Manager, "x", func(context.Context, struct{}) (int, error) { runs.Add(1); return 0, nil })
	failed := make(chan struct{})
	n.faults.set(func(f *faults) {
		f.before = func(op string) error {
			if op == "claim" {
				f.before = nil
				close(failed)
				return errors.New("claim fails")
			}
			return nil
		}
	})
	j := w.submit(n, job.Request{Kind: "x"})
	n.run()
	<-failed
	w.settle()
	if runs.Load() != 0 {
		w.Fatal("ran although the claim failed")
	}
	w.state(n, j.ID, job.Ready)
	if j := w.wait(n, j); j.State != job.Succeeded || j.Runs != 1 || runs.Load() != 1 {
		w.Fatalf("%s after %d of %d runs", j.State, runs.Load(), j.Runs)
	}
}

func finishTwice(w *world) {
	n := passive(w, "x")
	_, mv := running(w, n, job.Request{Kind: "x", Sync: vm("1")})
	second := w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	third := w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	if !w.move(mv) {
		w.Fatal("first finish refused")
	}
	rev := w.get(n, mv.ID).Rev
	again := mv
	again.Result = json.RawMessage("2")
	if !w.move(again) {
		w.Fatal("second finish of the same epoch refused")
	}
	if j := w.state(n, mv.ID, job.Succeeded); string(j.Result) != "1" || j.Rev != rev {
		w.Fatalf("result %s, rev %d after %d", j.Result, j.Rev, rev)
	}
	w.state(n, second.ID, job.Ready)
	w.state(n, third.ID, job.Waiting)
}

func finishAgainstCancel(w *world) {
	g := newGate()
	ev := &sink{}
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") }, with(func(c *job.Config) { c.Events = ev }))
	for i := range 20 {
		key := vm(fmt.Sprint(i))
		j, next := w.submit(n, job.Request{Kind: "x", Sync: key}), w.submit(n, job.Request{Kind: "x", Sync: key})
		<-g.started
		var wg sync.WaitGroup
		wg.Go(func() { g.let <- nil })
		wg.Go(func() { _, _ = n.Cancel(w.Context(), j.ID) })
		wg.Go(func() { _, _ = n.Cancel(w.Context(), j.ID) })
		wg.Wait()
		end := w.wait(n, j)
		if c := ev.count("complete", j.ID); c != 1 {
			w.Fatalf("%d complete events", c)
		}
		<-g.started
		if len(g.let) == 0 {
			g.let <- nil
		}
		if got := w.wait(n, next); got.State != job.Succeeded || got.Runs != 1 {
			w.Fatalf("the next one %s after %s", got.State, end.State)
		}
		for len(g.let) > 0 {
			<-g.let
		}
	}
}

// sink records events.
type sink struct {
	mu  sync.Mutex
	evs []job.Event
	err error
}

func (s *sink) Publish(_ context.Context, _ store.Tx, e job.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err; err != nil {
		s.err = nil
		return err
	}
	s.evs = append(s.evs, e)
	return nil
}

func (s *sink) count(typ, id string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.evs {
		if e.Type == typ && e.JobID == id {
			n++
		}
	}
	return n
}

func commitAnswerLost(w *world) {
	var runs atomic.Int32
	n := w.idle("a")
	job.Handle(n.Manager, "x", func(context.Context, struct{}) (int, error) { return int(runs.Add(1)), nil })
	lost := 0
	n.faults.set(func(f *faults) {
		f.after = func(op string) error {
			if op == "finish" && lost < 2 {
				lost++
				return errors.New("connection lost in commit")
			}
			return nil
		}
	})
	n.run()
	a, b := w.submit(n, job.Request{Kind: "x", Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
	for i, j := range []*job.Job{a, b} {
		if got := w.wait(n, j); got.State != job.Succeeded || got.Runs != 1 || string(got.Result) != fmt.Sprint(i+1) {
			w.Fatalf("%s %s after %d runs", got.State, got.Result, got.Runs)
		}
	}
	if runs.Load() != 2 || lost == 0 {
		w.Fatalf("%d runs, %d answers lost", runs.Load(), lost)
	}
}

func claimAnswerLost(w *world) {
	var runs atomic.Int32
	n := w.idle("a")
	job.Handle(n.Manager, "x", func(context.Context, struct{}) (int, error) { return int(runs.Add(1)), nil })
	lost := 0
	n.faults.set(func(f *faults) {
		f.after = func(op string) error {
			if op == "claim" && lost < 3 {
				lost++
				return errors.New("connection lost in commit")
			}
			return nil
		}
	})
	n.run()
	start := time.Now()
	for range 10 {
		j := w.wait(n, w.submit(n, job.Request{Kind: "x"}))
		if j.State != job.Succeeded || j.Runs != 1 {
			w.Fatalf("%s after %d runs", j.State, j.Runs)
		}
	}
	if d := time.Since(start); runs.Load() != 10 || lost != 3 || d > 5*time.Second {
		w.Fatalf("%d runs, %d answers lost, %v", runs.Load(), lost, d)
	}
}
