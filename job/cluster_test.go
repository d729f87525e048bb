package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

func TestCluster(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-14 nobody handles it", run: unhandled},
		{name: "job-68 maintenance", stores: "msp", run: maintained},
		{name: "job-68 descendants of running jobs go on", run: maintainedKin},
		{name: "job-68 a manager that does not run", run: maintainedIdle},
		{name: "job-67 drain runs descendants only", run: drainKin},
		{name: "job-75 a full queue", stores: "msp", run: overloaded},
		{name: "job-82 resize", stores: "msp", run: resized},
		{name: "a paused queue", stores: "msp", run: paused},
	})
}

// unhandled: job-14 needs a minute to pass.
func unhandled(w *world) {
	a := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Declare[struct{}, string](m, "odd")
	})
	odd, gone := w.submit(a, job.Request{Kind: "odd"}), w.submit(a, job.Request{Kind: "odd"})
	w.submit(a, job.Request{Kind: "odd", RunAt: time.Now().Add(time.Hour)})
	reported := func() (ids []string) {
		list, err := a.Blocked(w.Context())
		w.must(err)
		for _, b := range list {
			if b.Why == job.WhyUnhandled {
				ids = append(ids, b.Job.ID)
			}
		}
		return ids
	}
	time.Sleep(59 * time.Second)
	if ids := reported(); len(ids) != 0 {
		w.Errorf("after 59 s: %v", ids)
	}
	time.Sleep(2 * time.Second)
	if ids := reported(); !slices.Equal(ids, []string{odd.ID, gone.ID}) {
		w.Errorf("after 61 s: %v, want %s and %s", ids, odd.ID, gone.ID)
	}
	w.state(a, odd.ID, job.Ready)
	if ok, err := a.Cancel(w.Context(), gone.ID); !ok || err != nil {
		w.Errorf("cancel: %v, %v", ok, err)
	}
	g := newGate()
	b := w.node("b", func(m *job.Manager) { g.handle(m, "odd") })
	<-g.started
	if ids := reported(); len(ids) != 0 {
		w.Errorf("while it runs: %v", ids)
	}
	g.let <- nil
	if j := w.wait(a, odd); j.State != job.Succeeded {
		w.Error(j.State)
	}
	w.must(b.stop()) // its kinds count for a minute after it was last heard of
	late := w.submit(a, job.Request{Kind: "odd"})
	time.Sleep(20 * time.Second)
	if ids := reported(); len(ids) != 0 {
		w.Errorf("20 s after the node went: %v", ids)
	}
	time.Sleep(90 * time.Second)
	if ids := reported(); !slices.Equal(ids, []string{late.ID}) {
		w.Errorf("later: %v", ids)
	}
}

func overloaded(w *world) {
	g := newGate()
	limit := with(func(c *job.Config) { c.MaxWaiting = map[string]int{"default": 100} })
	register := func(m *job.Manager) {
		g.handle(m, "blocker", job.Priority(-1))
		noopNamed(m, "x")
	}
	a, b := w.node("a", register, workers(1), limit), w.node("b", register, workers(0), limit)
	w.submit(a, job.Request{Kind: "blocker"})
	<-g.started
	accepted := 0
	var err error
	for range 300 {
		if _, err = a.Submit(w.Context(), job.Request{Kind: "x"}); err != nil {
			break
		}
		accepted++
	}
	over := new(job.OverloadedError)
	if !errors.Is(err, job.ErrOverloaded) || !errors.As(err, &over) || over.RetryAfter <= 0 || accepted < 95 || accepted > 110 {
		w.Fatalf("%d accepted, then %v", accepted, err)
	}
	time.Sleep(1100 * time.Millisecond)
	err = nil
	for range 5 { // the blocker was counted too
		if err == nil {
			_, err = b.Submit(w.Context(), job.Request{Kind: "x"})
		}
	}
	if !errors.Is(err, job.ErrOverloaded) {
		w.Errorf("on the other node: %v", err)
	}
	batch := new(job.BatchError)
	if _, err = b.SubmitMany(w.Context(), slices.Repeat([]job.Request{{Kind: "x"}}, 3)); !errors.Is(err, job.ErrOverloaded) || !errors.As(err, &batch) {
		w.Errorf("many: %v", err)
	}
	if _, err = a.Submit(w.Context(), job.Request{Kind: "x", RunAt: time.Now().Add(time.Hour)}); err != nil {
		w.Errorf("one that is not due: %v", err)
	}
	g.let <- nil
	time.Sleep(2500 * time.Millisecond)
	if _, err = b.Submit(w.Context(), job.Request{Kind: "x"}); err != nil {
		w.Errorf("afterwards: %v", err)
	}
	if _, err := job.New(job.Config{Tx: w.db, Store: w.db.Jobs(), Queues: map[string]int{}, MaxWaiting: map[string]int{"q": 0}}); !errors.Is(err, job.ErrInvalid) {
		w.Errorf("MaxWaiting 0: %v", err)
	}
	childrenOfOverload(w)
}

// childrenOfOverload: a running job gets its children although the queue is full.
func childrenOfOverload(w *world) {
	n := w.idle("c", with(func(c *job.Config) { c.MaxWaiting, c.Queues = map[string]int{"own": 1}, map[string]int{"own": 1} }))
	done := make(chan error, 1)
	job.Handle(n.Manager, "spawner", func(ctx context.Context, _ struct{}) (string, error) {
		for range 5 {
			if _, err := n.Submit(ctx, job.Request{Kind: "leaf"}); err != nil {
				done <- err
				return "", err
			}
		}
		done <- nil
		return "", nil
	}, job.Queue("own"))
	job.Handle(n.Manager, "leaf", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }, job.Queue("own"))
	n.run()
	w.submit(n, job.Request{Kind: "spawner"})
	w.must(<-done)
}

func resized(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") }, workers(8))
	var rs []job.Request
	for i := range 60 {
		r := job.Request{Kind: "x"}
		if i%2 == 0 {
			r.Sync = vm(fmt.Sprint(i % 6))
		}
		rs = append(rs, r)
	}
	js, err := n.SubmitMany(w.Context(), rs)
	w.must(err)
	for range 8 {
		<-g.started
	}
	running := func() int {
		s, err := n.Stats(w.Context())
		w.must(err)
		return s.Queues["default"].Running
	}
	w.must(n.Resize("default", 2))
	for left := 7; left >= 2; left-- {
		g.let <- nil
		w.eventually(5*time.Second, "one ended", func() bool { return running() == left })
		time.Sleep(w.poll / 2)
		if len(g.started) > 0 {
			w.Fatalf("started although %d run", left)
		}
	}
	g.let <- nil
	<-g.started
	time.Sleep(w.poll)
	if r := running(); r != 2 || len(g.started) > 0 {
		w.Errorf("%d run, want 2", r)
	}
	at := time.Now()
	w.must(n.Resize("default", 8))
	for range 6 {
		<-g.started
	}
	if d := time.Since(at); d > 0 && !w.real {
		w.Errorf("more workers took effect after %v", d)
	}
	for range 60 {
		g.let <- nil
	}
	for _, j := range js {
		if j := w.wait(n, j); j.State != job.Succeeded {
			w.Fatal(j.State)
		}
	}
	for _, err := range []error{n.Resize("default", -1), n.Resize("default", 100_001), n.Resize("other", 1)} {
		if !errors.Is(err, job.ErrInvalid) {
			w.Errorf("%v, want ErrInvalid", err)
		}
	}
}

func paused(w *world) {
	g := newGate()
	register := func(m *job.Manager) { g.handle(m, "x") }
	a := w.node("a", register, workers(1))
	first, next := w.submit(a, job.Request{Kind: "x", Sync: vm("1")}), w.submit(a, job.Request{Kind: "x", Sync: vm("1")})
	<-g.started
	w.must(a.PauseQueue(w.Context(), "default"))
	w.must(a.PauseQueue(w.Context(), "default"))
	late := w.submit(a, job.Request{Kind: "x"})
	g.let <- nil
	w.wait(a, first)
	b := w.node("b", register)
	time.Sleep(3 * w.poll)
	if len(g.started) > 0 {
		w.Fatal("a job of a paused queue started")
	}
	w.state(a, next.ID, job.Ready)
	s, err := b.Stats(w.Context())
	w.must(err)
	if q := s.Queues["default"]; !q.Paused || q.Depth[job.Ready] != 2 || q.Oldest < 3*w.poll-100*time.Millisecond {
		w.Errorf("%+v", q)
	}
	w.must(b.ResumeQueue(w.Context(), "default"))
	g.let <- nil
	g.let <- nil
	w.wait(b, next)
	w.wait(b, late)
	if err := a.PauseQueue(w.Context(), "a\n"); !errors.Is(err, job.ErrInvalid) {
		w.Error(err)
	}
}
