package job_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/drover-cloud/drover/job"
)

func oneIdem(w *world) {
	g := newGate()
	var nodes []*node
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, w.node(name, func(m *job.Manager) { g.handle(m, "x") }))
	}
	ids := make([]string, 50)
	fresh := make([]bool, 50)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			j, err := nodes[i%3].Submit(w.Context(), job.Request{Kind: "x", Idem: "once"})
			if err != nil {
				w.Error(err)
				return
			}
			ids[i], fresh[i] = j.ID, !j.Replayed
		})
	}
	wg.Wait()
	if len(slices.Compact(slices.Clone(ids))) != 1 {
		w.Fatalf("answers %v", ids)
	}
	if n := len(slices.DeleteFunc(fresh, func(f bool) bool { return !f })); n != 1 {
		w.Fatalf("%d new jobs", n)
	}
	<-g.started
	g.let <- nil
	if j := w.wait(nodes[0], &job.Job{ID: ids[0]}); j.Runs != 1 || len(g.started) > 0 {
		w.Fatalf("%d runs", j.Runs)
	}
}

func uniqueLive(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") })
	r := job.Request{Kind: "x", Unique: "vm/1"}
	first := w.submit(n, r)
	second := w.submit(n, r)
	if !second.Joined || second.ID != first.ID || first.Joined {
		w.Fatalf("%+v", second)
	}
	refuse := r
	refuse.OnDuplicate = job.Refuse
	var dup *job.DuplicateError
	if _, err := n.Submit(w.Context(), refuse); !errors.Is(err, job.ErrDuplicate) || !errors.As(err, &dup) || dup.ID != first.ID {
		w.Fatal(err)
	}
	results := make(chan string, 2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			v, err := job.Result[string](w.wait(n, first))
			results <- fmt.Sprint(v, " ", err)
		})
	}
	<-g.started
	g.let <- nil
	wg.Wait()
	if a, b := <-results, <-results; a != b || a != "done <nil>" {
		w.Fatal(a, b)
	}
	third := w.submit(n, r)
	if third.Joined || third.ID == first.ID {
		w.Fatal("joined a final job")
	}
	g.let <- nil
	w.wait(n, third)
}

func uniqueArgs(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "remove", func(ctx context.Context, args map[string]any) (map[string]any, error) {
			g.started <- nil
			<-g.let
			return args, nil
		})
	})
	a := job.Request{Kind: "remove", Unique: "vm/1", Args: map[string]any{"expunge": true}}
	b := job.Request{Kind: "remove", Unique: "vm/1", Args: map[string]any{"expunge": false}}
	first := w.submit(n, a)
	for _, policy := range []job.DuplicatePolicy{job.Join, job.Refuse} {
		b.OnDuplicate = policy
		if _, err := n.Submit(w.Context(), b); !errors.Is(err, job.ErrDuplicate) {
			w.Fatal(err)
		}
	}
	g.let <- nil
	if v, err := job.Result[map[string]any](w.wait(n, first)); v["expunge"] != true || err != nil {
		w.Fatal(v, err)
	}
	second := w.submit(n, b)
	g.let <- nil
	if v, err := job.Result[map[string]any](w.wait(n, second)); v["expunge"] != false || err != nil || second.ID == first.ID {
		w.Fatal(v, err)
	}
}

func namedChildren(w *world) {
	g := newGate()
	build := func(m *job.Manager) {
		noop(m)
		job.Handle(m, "parent", func(ctx context.Context, _ struct{}) ([]string, error) {
			var ids []string
			for i := range 3 {
				c, err := m.Submit(ctx, job.Request{Kind: "noop", Name: fmt.Sprint("c", i)})
				if err != nil {
					return nil, err
				}
				ids = append(ids, c.ID)
			}
			if j, _ := job.FromContext(ctx); j.Runs == 1 {
				g.started <- j
				<-g.let
			}
			return ids, nil
		})
	}
	a := w.node("a", build)
	p := w.submit(a, job.Request{Kind: "parent"})
	<-g.started
	a.faults.down(true)
	b := w.node("b", build)
	ids, err := job.Result[[]string](w.wait(b, p))
	w.must(err)
	n := 0
	for c, err := range b.List(w.Context(), job.Query{Parent: p.ID, States: []job.State{job.Ready, job.Running, job.Succeeded}}) {
		w.must(err)
		if c.ID != ids[n] || c.Root != p.ID {
			w.Fatalf("child %d is %s of %v", n, c.ID, ids)
		}
		n++
	}
	if n != 3 {
		w.Fatalf("%d children", n)
	}
	g.let <- nil
}
