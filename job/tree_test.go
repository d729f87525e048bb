package job_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
)

func TestTrees(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-09 one Idem, fifty submitters", stores: "msp", run: oneIdem},
		{name: "job-10 unique", stores: "msp", run: uniqueLive},
		{name: "job-11 unique, other args", stores: "msp", run: uniqueArgs},
		{name: "job-12 named children", stores: "ms", run: namedChildren},
		{name: "job-12 at most 10 000", stores: "m", run: tooManyChildren},
		{name: "job-29 who asked", stores: "ms", run: whoAsked},
		{name: "job-30 parents block in Wait", stores: "msp", run: blockingParents},
		{name: "job-54 cancel of a tree", stores: "msp", run: cancelTree},
		{name: "job-54 a parked parent outlives its children", stores: "msp", run: lastChild},
		{name: "job-54 a parent that fails", stores: "msp", run: failingParent},
		{name: "job-54 wide", stores: "m", run: wideTree},
		{name: "job-35 a child's deadline", run: childDeadline},
	})
}

func tooManyChildren(w *world) {
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "parent", func(ctx context.Context, _ struct{}) (int, error) {
			rs := make([]job.Request, 5000)
			for i := range rs {
				rs[i] = job.Request{Kind: "noop", RunAt: time.Now().Add(time.Hour)}
			}
			for range 2 {
				if _, err := m.SubmitMany(ctx, rs); err != nil {
					return 0, err
				}
			}
			if _, err := m.Submit(context.Background(), job.Request{Kind: "noop", Parent: parentID(ctx)}); !errors.Is(err, job.ErrInvalid) {
				return 0, fmt.Errorf("from outside: %w", err)
			}
			if j, _ := job.FromContext(ctx); j.Runs == 1 {
				rs = rs[:1]
				_, err := m.SubmitMany(ctx, rs)
				return 0, job.Permanent(err)
			}
			return 0, nil
		})
	})
	j := w.wait(n, w.submit(n, job.Request{Kind: "parent"}))
	if j.State != job.Failed || !errors.Is(j.Error, job.ErrInvalid) {
		w.Fatalf("%s %v", j.State, j.Error)
	}
	for c, err := range n.List(w.Context(), job.Query{Parent: j.ID}) { // it has failed: they are cancelled
		w.must(err)
		w.Fatal("a live child", c.State)
	}
}

func parentID(ctx context.Context) string {
	j, _ := job.FromContext(ctx)
	return j.ID
}

func whoAsked(w *world) {
	g := newGate()
	who := make(chan map[string]string, 10)
	roots := make(chan string, 10)
	see := func(ctx context.Context) {
		j, _ := job.FromContext(ctx)
		who <- j.Identity
		roots <- j.Root
	}
	build := func(m *job.Manager) {
		job.Handle(m, "child", func(ctx context.Context, _ struct{}) (int, error) {
			see(ctx)
			return 0, nil
		})
		job.Handle(m, "parent", func(ctx context.Context, _ struct{}) (int, error) {
			see(ctx)
			if j, _ := job.FromContext(ctx); j.Runs == 1 {
				g.started <- j
				<-g.let
				return 0, nil
			}
			c, err := m.Submit(ctx, job.Request{Kind: "child", Name: "c"})
			if err != nil {
				return 0, err
			}
			return job.Await[int](ctx, c.ID)
		})
	}
	a := w.node("a", build)
	p := w.submit(a, job.Request{Kind: "parent", Identity: map[string]string{"account": "acme", "user": "u1", "roles": "admin"}})
	<-g.started
	a.faults.down(true)
	b := w.node("b", build)
	if j := w.wait(b, p); j.State != job.Succeeded || j.Runs != 3 {
		w.Fatalf("%s %v, %d runs", j.State, j.Error, j.Runs)
	}
	for range 4 { // on a, on b, the child, and the parent again
		if id := <-who; id["account"] != "acme" || id["user"] != "u1" || id["roles"] != "admin" {
			w.Fatal(id)
		}
		if r := <-roots; r != p.ID {
			w.Fatal("root", r)
		}
	}
	g.let <- nil
}

func blockingParents(w *world) {
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "parent", func(ctx context.Context, _ struct{}) (string, error) {
			c, err := m.Submit(ctx, job.Request{Kind: "noop"})
			if err != nil {
				return "", err
			}
			c, err = m.Wait(ctx, c.ID)
			return string(state(c)), err
		})
	}, workers(8))
	var js []*job.Job
	for range 8 {
		js = append(js, w.submit(n, job.Request{Kind: "parent"}))
	}
	for _, j := range js {
		if s, err := job.Result[string](w.wait(n, j)); s != "succeeded" || err != nil {
			w.Fatal(s, err)
		}
	}
}

// family is a tree whose jobs block until they are let go; a parent spawns children down to a depth.
type family struct {
	mu   sync.Mutex
	ids  map[string]string // by path
	live chan string
	let  chan error
}

type member struct {
	Path  string
	Kids  []member
	Then  string // "park", "fail", "" blocks
	Loose bool
}

func newFamily() *family {
	return &family{ids: map[string]string{}, live: make(chan string, 5000), let: make(chan error, 5000)}
}

func (f *family) id(path string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[path]
}

func (f *family) handle(m *job.Manager, opts ...job.HandleOption) {
	job.Handle(m, "member", func(ctx context.Context, a member) (string, error) {
		j, _ := job.FromContext(ctx)
		f.mu.Lock()
		f.ids[a.Path] = j.ID
		f.mu.Unlock()
		for _, k := range a.Kids {
			if _, err := m.Submit(ctx, job.Request{Kind: "member", Args: k, Detached: k.Loose, Name: map[bool]string{false: k.Path}[k.Loose]}); err != nil {
				return "", err
			}
		}
		if j.Runs == 1 {
			f.live <- a.Path
		}
		if a.Then == "park" && j.Runs == 1 {
			return "", job.Park(job.OnChildren())
		}
		select {
		case err := <-f.let:
			if a.Then == "fail" {
				return "", job.Permanent(errBoom)
			}
			return "done", err
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}, opts...)
}

func cancelTree(w *world) {
	f := newFamily()
	a := w.node("a", func(m *job.Manager) { f.handle(m) })
	b := w.node("b", func(m *job.Manager) { f.handle(m) })
	tree := member{Path: "root", Kids: []member{
		{Path: "x", Kids: []member{{Path: "x1", Kids: []member{{Path: "x11"}}}, {Path: "loose", Loose: true}}},
		{Path: "y"},
	}}
	root := w.submit(a, job.Request{Kind: "member", Args: tree})
	for range 6 {
		<-f.live
	}
	if ok, err := b.Cancel(w.Context(), root.ID, "enough"); !ok || err != nil {
		w.Fatal(ok, err)
	}
	for _, path := range []string{"root", "x", "y", "x1", "x11"} {
		j := w.wait(a, &job.Job{ID: f.id(path)})
		if j.State != job.Cancelled || j.CancelReason != "enough" || !errors.Is(j.Error, job.ErrCancelled) {
			w.Fatalf("%s: %s %v, reason %q", path, j.State, j.Error, j.CancelReason)
		}
	}
	w.state(a, f.id("loose"), job.Running)
	f.let <- nil
	if j := w.wait(a, &job.Job{ID: f.id("loose")}); j.State != job.Succeeded {
		w.Fatal(j.State)
	}
}

func lastChild(w *world) {
	f := newFamily()
	stubborn := make(chan struct{})
	n := w.node("a", func(m *job.Manager) {
		f.handle(m)
		job.Handle(m, "stubborn", func(ctx context.Context, _ struct{}) (int, error) {
			f.live <- "stubborn"
			<-stubborn
			return 0, errBoom
		})
		job.Handle(m, "root", func(ctx context.Context, _ struct{}) (int, error) {
			for i, r := range []job.Request{
				{Kind: "stubborn"}, {Kind: "member", Args: member{Path: "p", Then: "park", Kids: []member{{Path: "p1"}}}},
				{Kind: "stubborn", RunAt: time.Now().Add(time.Hour)},
			} {
				r.Name = fmt.Sprint(i)
				if _, err := m.Submit(ctx, r); err != nil {
					return 0, err
				}
			}
			return 0, job.Park(job.OnChildren())
		})
	})
	root := w.submit(n, job.Request{Kind: "root"})
	above := w.submit(n, job.Request{Kind: "member", Args: member{Path: "above"}})
	for range 4 { // stubborn, p, p1, above
		<-f.live
	}
	w.parked(n, root.ID)
	w.parked(n, f.id("p"))
	for range 2 { // twice is as once
		if ok, err := n.Cancel(w.Context(), root.ID, "enough"); !ok || err != nil {
			w.Fatal(ok, err)
		}
	}
	w.wait(n, &job.Job{ID: f.id("p1")})
	if j := w.wait(n, &job.Job{ID: f.id("p")}); j.State != job.Cancelled || j.Runs != 1 {
		w.Fatalf("%s after %d runs", j.State, j.Runs)
	}
	w.settle()
	if j := w.state(n, root.ID, job.Parked); j.CancelReason != "enough" { // one child still runs
		w.Fatalf("reason %q", j.CancelReason)
	}
	close(stubborn)
	if j := w.wait(n, root); j.State != job.Cancelled || j.Runs != 1 || j.Error.Code != job.CodeCancelled {
		w.Fatalf("%s %v after %d runs", j.State, j.Error, j.Runs)
	}
	for c, err := range n.List(w.Context(), job.Query{Root: root.ID}) {
		w.must(err)
		w.Fatalf("%s %s is left", c.Kind, c.State)
	}
	f.let <- nil
	w.wait(n, above)
}

func failingParent(w *world) {
	f := newFamily()
	n := w.node("a", func(m *job.Manager) { f.handle(m) })
	tree := member{Path: "root", Then: "fail", Kids: []member{
		{Path: "x", Kids: []member{{Path: "x1"}}}, {Path: "p", Then: "park", Kids: []member{{Path: "p1"}}}, {Path: "loose", Loose: true},
	}}
	root := w.submit(n, job.Request{Kind: "member", Args: tree})
	for range 6 {
		<-f.live
	}
	w.parked(n, f.id("p"))
	w.must(n.Fence(w.Context(), root.ID, "test"))
	for _, path := range []string{"x", "x1", "p", "p1"} {
		if j := w.wait(n, &job.Job{ID: f.id(path)}); j.State != job.Cancelled || j.CancelBy != "job/"+root.ID {
			w.Fatalf("%s: %s, by %q", path, j.State, j.CancelBy)
		}
	}
	w.state(n, f.id("loose"), job.Running)
	f.let <- nil
	w.wait(n, &job.Job{ID: f.id("loose")})

	w.submit(n, job.Request{Kind: "member", Args: member{Path: "ok", Kids: []member{{Path: "child"}}}})
	<-f.live
	<-f.live
	f.let <- nil // one of the two succeeds; if it is the parent, its child goes on
	w.settle()
	f.let <- nil
	for _, path := range []string{"ok", "child"} {
		if j := w.wait(n, &job.Job{ID: f.id(path)}); j.State != job.Succeeded {
			w.Fatalf("%s: %s", path, j.State)
		}
	}
}

func wideTree(w *world) {
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "parent", func(ctx context.Context, _ struct{}) (int, error) {
			rs := make([]job.Request, 2500)
			for i := range rs {
				rs[i] = job.Request{Kind: "noop", Name: fmt.Sprint(i), RunAt: time.Now().Add(time.Hour)}
			}
			if _, err := m.SubmitMany(ctx, rs); err != nil {
				return 0, err
			}
			return 0, job.Park(job.OnChildren())
		})
	})
	p := w.submit(n, job.Request{Kind: "parent"})
	w.parked(n, p.ID)
	moves := n.faults.ops("move")
	if ok, err := n.Cancel(w.Context(), p.ID); !ok || err != nil {
		w.Fatal(ok, err)
	}
	w.state(n, p.ID, job.Cancelled)
	if got := n.faults.ops("move") - moves; got != 5 { // the root, 1000 + 1000 + 500 children, the root's end
		w.Fatalf("%d moves", got)
	}
	for c, err := range n.List(w.Context(), job.Query{Root: p.ID}) {
		w.must(err)
		w.Fatal("a live child", c.State)
	}
}

func childDeadline(w *world) {
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "parent", func(ctx context.Context, at time.Duration) (time.Time, error) {
			c, err := m.Submit(ctx, job.Request{Kind: "noop", Name: "c", Deadline: time.Now().Add(at), RunAt: time.Now().Add(time.Hour)})
			if err != nil {
				return time.Time{}, err
			}
			return c.Deadline, nil
		})
	})
	for at, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, time.Hour: 10 * time.Minute} {
		now := time.Now()
		p := w.submit(n, job.Request{Kind: "parent", Args: at, Deadline: now.Add(10 * time.Minute)})
		got, err := job.Result[time.Time](w.wait(n, p))
		if err != nil || got.Sub(now).Round(time.Second) != want {
			w.Fatalf("%v: %v %v", at, got.Sub(now), err)
		}
	}
}
