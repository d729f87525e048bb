package job_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func maintained(w *world) {
	g := newGate()
	register := func(m *job.Manager) { g.handle(m, "x") }
	a, b, c := w.node("a", register, workers(2)), w.node("b", register, workers(2)), w.node("c", register, workers(2), deaf)
	nodes := []*node{a, b, c}
	for range 4 {
		w.submit(a, job.Request{Kind: "x", Sync: vm("1")})
		w.submit(b, job.Request{Kind: "x"})
	}
	for range 5 { // four without a key, and the first of the key
		<-g.started
	}
	active := func(n *node) int {
		time.Sleep(1100 * time.Millisecond) // counted a second ago at most
		s, err := n.Stats(w.Context())
		w.must(err)
		return s.Active
	}
	if n := active(c); n != 5 {
		w.Fatalf("%d active, want 5", n)
	}
	w.must(a.SetMaintenance(w.Context(), true))
	w.eventually(2*w.poll, "all refuse", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return n.Accepting() == nil })
	})
	for _, n := range nodes {
		if _, err := n.Submit(w.Context(), job.Request{Kind: "x"}); !errors.Is(err, job.ErrDraining) {
			w.Errorf("submit: %v", err)
		}
	}
	for range 5 {
		g.let <- nil
	}
	time.Sleep(3 * w.poll)
	if len(g.started) > 0 {
		w.Errorf("%d jobs started", len(g.started))
	}
	for _, n := range nodes {
		if got := active(n); got != 0 {
			w.Errorf("%d active", got)
		}
	}
	w.must(b.SetMaintenance(w.Context(), false))
	for range 3 {
		<-g.started
		g.let <- nil
	}
	w.eventually(2*w.poll, "all accept", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return n.Accepting() != nil })
	})
	g.let <- nil
	w.wait(c, w.submit(c, job.Request{Kind: "x"}))
}

// generations are a parent that blocks for a child that parks on a grandchild, each handled by a node of its own.
func generations(parent, child, grandchild *node, let chan struct{}) {
	job.Handle(parent.Manager, "parent", func(ctx context.Context, _ struct{}) (string, error) {
		<-let
		j, err := parent.Submit(ctx, job.Request{Kind: "child"})
		if err != nil {
			return "", err
		}
		j, err = parent.Wait(ctx, j.ID)
		return string(j.State), err
	})
	job.Handle(child.Manager, "child", func(ctx context.Context, _ struct{}) (string, error) {
		j, err := child.Submit(ctx, job.Request{Kind: "grandchild", Name: "g"})
		if err != nil {
			return "", err
		}
		_, err = job.Await[struct{}](ctx, j.ID)
		return "", err
	})
	noopNamed(grandchild.Manager, "grandchild")
	job.Declare[struct{}, string](parent.Manager, "child")
	job.Declare[struct{}, struct{}](parent.Manager, "grandchild")
	job.Declare[struct{}, struct{}](child.Manager, "grandchild")
}

func noopNamed(m *job.Manager, kind string) {
	job.Handle(m, kind, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
}

func maintainedKin(w *world) {
	a, b, c := w.idle("a"), w.idle("b"), w.idle("c", deaf)
	let := make(chan struct{})
	generations(a, b, c, let)
	for _, n := range []*node{a, b, c} {
		n.run()
	}
	p := w.submit(a, job.Request{Kind: "parent"})
	other := w.submit(a, job.Request{Kind: "grandchild", RunAt: time.Now().Add(2 * time.Second)})
	w.eventually(5*time.Second, "the parent runs", func() bool { return w.get(a, p.ID).State == job.Running })
	w.must(c.SetMaintenance(w.Context(), true))
	time.Sleep(5 * time.Second)
	close(let)
	if j := w.wait(a, p); j.State != job.Succeeded || string(j.Result) != `"succeeded"` {
		w.Errorf("%s %s %v", j.State, j.Result, j.Error)
	}
	w.state(a, other.ID, job.Ready)
	w.must(c.SetMaintenance(w.Context(), false))
	w.wait(a, other)
}

func (w *world) idleNoop(name string) *node {
	n := w.idle(name)
	noop(n.Manager)
	return n
}

func maintainedIdle(w *world) {
	a, cli := w.node("a", noop), w.idleNoop("cli")
	w.submit(cli, job.Request{Kind: "noop"})
	failed := w.submit(cli, job.Request{Kind: "noop", RunAt: time.Now().Add(time.Hour)})
	_, err := cli.Cancel(w.Context(), failed.ID)
	w.must(err)
	w.must(a.SetMaintenance(w.Context(), true))
	time.Sleep(w.poll)
	if _, err := cli.Submit(w.Context(), job.Request{Kind: "noop"}); !errors.Is(err, job.ErrDraining) {
		w.Errorf("submit: %v", err)
	}
	if _, err := w.idleNoop("cli3").Retry(w.Context(), failed.ID); !errors.Is(err, job.ErrDraining) {
		w.Errorf("retry by a manager that never looked: %v", err)
	}
	other := w.idleNoop("cli2")
	err = w.db.InTx(w.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := other.SubmitTx(ctx, tx, job.Request{Kind: "noop"})
		return err
	})
	if !errors.Is(err, job.ErrDraining) {
		w.Errorf("a manager that never looked: %v", err)
	}
	w.must(cli.SetMaintenance(w.Context(), false))
	w.submit(cli, job.Request{Kind: "noop"})
}

// drainKin: the child runs on the node that drains, which alone handles it; what was queued does not.
func drainKin(w *world) {
	let, childRan := make(chan struct{}), make(chan struct{}, 1)
	n := w.idle("a", workers(2))
	job.Handle(n.Manager, "parent", func(ctx context.Context, _ struct{}) (string, error) {
		<-let
		j, err := n.Submit(ctx, job.Request{Kind: "child"})
		if err != nil {
			return "", err
		}
		j, err = n.Wait(ctx, j.ID)
		return string(j.State), err
	})
	job.Handle(n.Manager, "child", func(context.Context, struct{}) (struct{}, error) {
		childRan <- struct{}{}
		return struct{}{}, nil
	})
	n.run()
	p := w.submit(n, job.Request{Kind: "parent"})
	w.eventually(time.Second, "runs", func() bool { return w.get(n, p.ID).State == job.Running })
	queued := w.submit(n, job.Request{Kind: "child", RunAt: time.Now().Add(2 * time.Second)})
	drained := make(chan error, 1)
	go func() { drained <- n.Drain(w.Context()) }()
	w.settle()
	if _, err := n.Submit(w.Context(), job.Request{Kind: "child"}); !errors.Is(err, job.ErrDraining) {
		w.Errorf("submit: %v", err)
	}
	time.Sleep(5 * time.Second) // it is due
	close(let)
	w.must(<-drained)
	if j := w.state(n, p.ID, job.Succeeded); string(j.Result) != `"succeeded"` || len(childRan) != 1 {
		w.Errorf("%s, %d children ran", j.Result, len(childRan))
	}
	w.state(n, queued.ID, job.Ready)
}
