package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func nodeDies(w *world) {
	var o order
	block := make(chan struct{})
	var dead atomic.Bool
	register := func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (string, error) {
			j, _ := job.FromContext(ctx)
			o.enter(j.Sync.ID, j.ID)
			defer o.leave(j.Sync.ID)
			if !dead.Load() {
				<-block // the process that dies here never returns
			}
			return j.Session, nil
		})
	}
	a := w.node("a", register)
	j, next := w.submit(a, job.Request{Kind: "x", Sync: vm("1")}), w.submit(a, job.Request{Kind: "x", Sync: vm("1")})
	w.eventually(5*time.Second, "runs", func() bool { return w.get(a, j.ID).State == job.Running })
	b := w.node("b", register)
	joiners := make(chan *job.Job, 2)
	for range 2 {
		go func() { joiners <- w.wait(b, j) }()
	}
	dead.Store(true)
	a.faults.down(true)
	start := time.Now()
	first := <-joiners
	if d := time.Since(start); first.State != job.Succeeded || first.Runs != 2 || first.Lost != 1 || d > w.ttl+w.poll+100*time.Millisecond {
		w.Errorf("%s after %v, %d runs, %d lost", first.State, d, first.Runs, first.Lost)
	}
	<-joiners
	if n := w.wait(b, next); n.Runs != 1 || n.Started.Before(first.Ended) {
		w.Errorf("the next ran %d times, started %v, first ended %v", n.Runs, n.Started, first.Ended)
	}
	if r := o.runs(); !slices.Equal(r, []string{j.ID, j.ID, next.ID}) {
		w.Errorf("runs %v", r)
	}
	close(block)
}

func nodeFrozen(w *world) {
	kinds := []string{"finish", "fail", "report", "note", "step", "spawn", "release", "nocancel", "seal", "attach"}
	go1, refused := make(chan struct{}), make(chan string, 100)
	second := newGate()
	register := func(n *node) {
		job.Handle(n.Manager, "child", func(context.Context, struct{}) (int, error) { return 0, nil })
		for _, kind := range kinds {
			job.Handle(n.Manager, kind, func(ctx context.Context, _ struct{}) (string, error) {
				if j, _ := job.FromContext(ctx); j.Session != "a" {
					second.started <- j
					return "second", <-second.let
				}
				<-go1
				err := late(ctx, w, n, kind)
				if !errors.Is(err, job.ErrLost) && kind != "finish" && kind != "fail" {
					refused <- fmt.Sprintf("%s: %v", kind, err)
				}
				if kind == "fail" {
					return "", job.Permanent(errBoom)
				}
				return "first", nil
			})
		}
	}
	a := w.idle("a")
	register(a)
	a.run()
	js := map[string]*job.Job{}
	for _, k := range kinds {
		js[k] = w.submit(a, job.Request{Kind: k, Sync: vm(k)})
	}
	for _, k := range kinds {
		w.eventually(5*time.Second, "runs", func() bool { return w.get(a, js[k].ID).State == job.Running })
	}
	a.freeze()
	b := w.idle("b")
	register(b)
	b.run()
	for range kinds {
		<-second.started // each is run again, slowly
	}
	if !w.real {
		time.Sleep(10 * w.ttl)
	}
	before := map[string]string{}
	for _, k := range kinds {
		before[k] = dump(w.get(b, js[k].ID))
	}
	a.thawStore()
	close(go1)
	w.settle()
	time.Sleep(10 * time.Millisecond)
	w.settle()
	for _, k := range kinds {
		if after := dump(w.get(b, js[k].ID)); after != before[k] {
			w.Errorf("%s changed the job\n%s\n%s", k, before[k], after)
		}
	}
	for range kinds {
		second.let <- nil
	}
	a.thawClock()
	for _, k := range kinds {
		if j := w.wait(b, js[k]); string(j.Result) != `"second"` || j.Runs != 2 {
			w.Errorf("%s: %s after %d runs", k, j.Result, j.Runs)
		}
	}
	for len(refused) > 0 {
		w.Error(<-refused)
	}
	for range b.List(w.Context(), job.Query{Kinds: []string{"child"}, States: []job.State{job.Ready, job.Succeeded}}) {
		w.Error("spawned a child")
	}
}

func dump(j *job.Job) string {
	b, _ := json.Marshal(j)
	return string(b)
}

// late is what a handler tries that does not know that it is lost.
func late(ctx context.Context, w *world, n *node, kind string) (err error) {
	switch kind {
	case "report":
		return job.Report(ctx, job.Progress{Percent: 50})
	case "note":
		return job.Note(ctx, "late", nil)
	case "step":
		_, err = job.Step(ctx, "late", func(context.Context) (int, error) { return 1, nil })
	case "spawn":
		_, err = n.Submit(ctx, job.Request{Kind: "child"})
	case "release":
		return job.ReleaseTurn(ctx)
	case "nocancel":
		return job.NoCancel(ctx)
	case "attach":
		return job.Attach(ctx, "vm/late")
	case "seal":
		return n.faults.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx store.Tx) error { return job.FinishTx(ctx, tx, 1) })
	}
	return err
}

func abandon(w *world) {
	block := make(chan struct{})
	hooks := make(chan *job.Job, 10)
	register := func(m *job.Manager) {
		f := func(ctx context.Context, _ struct{}) (int, error) { <-block; return 0, nil }
		job.Handle(m, "plain", f, job.OnLost(job.Fail))
		job.Handle(m, "hooked", f, job.OnLost(job.Fail), job.Abandon(func(ctx context.Context, j *job.Job) error {
			hooks <- j
			return nil
		}))
	}
	a := w.node("a", register)
	plain, hooked := w.submit(a, job.Request{Kind: "plain"}), w.submit(a, job.Request{Kind: "hooked"})
	w.eventually(5*time.Second, "run", func() bool {
		return w.get(a, plain.ID).State == job.Running && w.get(a, hooked.ID).State == job.Running
	})
	first := w.get(a, hooked.ID)
	b := w.node("b", register)
	a.faults.down(true)
	for _, j := range []*job.Job{plain, hooked} {
		if got := w.wait(b, j); got.State != job.Failed || got.Error.Code != job.CodeLost {
			w.Errorf("%s: %s %+v", got.Kind, got.State, got.Error)
		}
	}
	if j := <-hooks; j.ID != hooked.ID || j.Epoch <= first.Epoch || len(hooks) > 0 {
		w.Errorf("hook of %+v, %d more", j, len(hooks))
	}
	close(block)
}

func fiftyJobs(w *world) {
	block := make(chan struct{})
	var ran atomic.Int32
	register := func(m *job.Manager) {
		f := func(ctx context.Context, _ struct{}) (int, error) {
			if j, _ := job.FromContext(ctx); j.Session == "a" {
				<-block
			}
			ran.Add(1)
			return 0, nil
		}
		job.Handle(m, "fail", f, job.OnLost(job.Fail))
		job.Handle(m, "rerun", f)
	}
	a := w.node("a", register)
	fail := w.submit(a, job.Request{Kind: "fail"})
	js, err := a.SubmitMany(w.Context(), slices.Repeat([]job.Request{{Kind: "rerun"}}, 49))
	w.must(err)
	w.eventually(5*time.Second, "run", func() bool { return running50(w, a) == 50 })
	b := w.node("b", register)
	a.faults.down(true)
	if j := w.wait(b, fail); j.State != job.Failed {
		w.Error(j.State)
	}
	for _, j := range js {
		if j := w.wait(b, j); j.State != job.Succeeded || j.Session != "b" || j.Runs != 2 {
			w.Fatalf("%s on %s after %d", j.State, j.Session, j.Runs)
		}
	}
	if ran.Load() != 49 {
		w.Errorf("%d ran", ran.Load())
	}
	close(block)
}

func running50(w *world, n *node) (c int) {
	for _, err := range n.List(w.Context(), job.Query{States: []job.State{job.Running}}) {
		w.must(err)
		c++
	}
	return c
}

func clusterRestart(w *world) {
	block := make(chan struct{})
	old := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, struct{}) (int, error) { <-block; return 1, nil })
	})
	js, err := old.SubmitMany(w.Context(), slices.Repeat([]job.Request{{Kind: "x", Sync: vm("1")}}, 5))
	w.must(err)
	w.eventually(5*time.Second, "runs", func() bool { return w.get(old, js[0].ID).State == job.Running })
	old.faults.down(true)
	time.Sleep(time.Hour) // everything is down
	start := time.Now()
	n := w.node("b", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, struct{}) (int, error) { return 2, nil })
	})
	var last time.Time
	for _, j := range js {
		got := w.wait(n, j)
		if got.State != job.Succeeded || got.Started.Before(last) {
			w.Fatalf("%s, started %v after %v", got.State, got.Started, last)
		}
		last = got.Ended
	}
	if d := time.Since(start); d > 2*w.poll {
		w.Errorf("took %v", d)
	}
	close(block)
}

func poison(w *world) {
	block := make(chan struct{})
	deadly := func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, string) (int, error) { <-block; return 0, nil }, job.MaxLost(3))
	}
	var n *node
	var j, next, neighbour *job.Job
	for i := range 3 {
		n = w.node(fmt.Sprint("n", i), deadly, workers(2))
		if i == 0 {
			j, next = w.submit(n, job.Request{Kind: "x", Args: "kills", Sync: vm("1")}), w.submit(n, job.Request{Kind: "x", Sync: vm("1")})
			neighbour = w.submit(n, job.Request{Kind: "x", RunAt: time.Now().Add(100 * time.Second)}) // runs on the third
		}
		w.eventually(2*time.Minute, "runs", func() bool { return w.get(n, j.ID).Session == fmt.Sprint("n", i) })
		time.Sleep(w.ttl)
		n.faults.down(true)
	}
	saviour := w.node("s", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, string) (int, error) { return 0, nil }, job.MaxLost(3))
	})
	for _, o := range []*job.Job{next, neighbour} {
		if got := w.wait(saviour, o); got.State != job.Succeeded || got.Attempt != 0 {
			w.Errorf("%s, attempt %d", got.State, got.Attempt)
		}
	}
	if got := w.state(saviour, j.ID, job.Parked); got.Lost != 3 {
		w.Errorf("lost %d", got.Lost)
	}
	w.must(saviour.Wake(w.Context(), "job/"+j.ID))
	if got := w.wait(saviour, j); got.State != job.Succeeded || got.Lost != 0 {
		w.Errorf("%s, lost %d", got.State, got.Lost)
	}
	close(block)
}

func twoSweepers(w *world) {
	const jobs = 5000
	block := make(chan struct{})
	a := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, struct{}) (int, error) { <-block; return 0, nil })
	}, workers(jobs))
	js, err := a.SubmitMany(w.Context(), slices.Repeat([]job.Request{{Kind: "x"}}, jobs))
	w.must(err)
	w.eventually(10*time.Second, "all run", func() bool { return running50(w, a) == jobs })
	ev := &sink{}
	swept := func(m *job.Manager) { job.Declare[struct{}, int](m, "x") }
	for _, name := range []string{"b", "c"} {
		w.node(name, swept, with(func(c *job.Config) { c.Events = ev }))
	}
	a.faults.down(true)
	time.Sleep(w.ttl + 2*w.poll)
	a.faults.down(false)
	for _, j := range js[:100] {
		if got := w.get(a, j.ID); got.State != job.Ready || got.Lost != 1 {
			w.Fatalf("%s, lost %d", got.State, got.Lost)
		}
	}
	if n := running50(w, w.idle("look")); n != 0 {
		w.Errorf("%d still running", n)
	}
	for _, j := range js[:100] {
		if c := ev.count("update", j.ID); c != 1 {
			w.Fatalf("swept %d times", c)
		}
	}
	close(block)
}
