package job_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

func TestNodes(t *testing.T) {
	eachStore(t, []spec{
		{name: "job-20 node dies", stores: "msp", run: nodeDies},
		{name: "job-21 node frozen for ten leases", stores: "msp", run: nodeFrozen},
		{name: "job-22 abandon", run: abandon},
		{name: "job-23 fifty jobs of a dead node", run: fiftyJobs},
		{name: "job-23 whole cluster restarted", run: clusterRestart},
		{name: "job-24 clocks an hour off", run: wrongClocks},
		{name: "job-25 poison", run: poison},
		{name: "job-69 graceful stop", run: gracefulStop},
		{name: "job-69 stubborn handler", run: stubborn},
		{name: "job-70 retention", run: retention},
		{name: "job-72 node name taken", run: nameTaken},
		{name: "job-73 store down for a minute", run: storeDown},
		{name: "job-77 two sweepers", stores: "m", run: twoSweepers},
		{name: "job-67 drain", run: drains},
	})
}

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

// A jump of the wall clock while a node runs does not move the monotonic reading that Now keeps, so what matters are nodes
// whose clocks differ, and one that comes back with another clock.
func wrongClocks(w *world) {
	var o order
	register := func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			j, _ := job.FromContext(ctx)
			o.enter(j.Sync.ID, j.ID)
			defer o.leave(j.Sync.ID)
			time.Sleep(20 * time.Second)
			return 0, ctx.Err()
		}, job.Timeout(30*time.Second))
	}
	var nodes []*node
	for i, off := range []time.Duration{time.Hour, -time.Hour, 0} {
		n := w.idle(fmt.Sprint("n", i), workers(5))
		n.clock.offset = off
		register(n.Manager)
		nodes = append(nodes, n.run())
	}
	var js []*job.Job
	for i := range 30 {
		js = append(js, w.submit(nodes[i%3], job.Request{Kind: "x", Sync: vm(fmt.Sprint(i % 10)), Deadline: time.Now().Add(10 * time.Minute)}))
	}
	time.Sleep(21 * time.Second)
	w.must(nodes[0].stop())
	back := w.idle("n0", workers(5))
	back.clock.offset = -time.Hour
	register(back.Manager)
	back.run()
	for _, j := range js {
		if j := w.wait(nodes[2], j); j.State != job.Succeeded || j.Attempt != 0 || j.Lost != 0 {
			w.Errorf("%s after %d runs, %d lost: %v", j.State, j.Runs, j.Lost, j.Error)
		}
	}
	time.Sleep(time.Minute)
	for k, n := range o.max {
		if n > 1 {
			w.Errorf("%s: %d at once", k, n)
		}
	}
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

func gracefulStop(w *world) {
	causes := make(chan error, 100)
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "x", func(ctx context.Context, _ struct{}) (int, error) {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return 0, ctx.Err()
		})
	}, workers(50))
	var rs []job.Request
	for i := range 100 {
		rs = append(rs, job.Request{Kind: "x", Sync: vm(fmt.Sprint(i % 70))})
	}
	js, err := n.SubmitMany(w.Context(), rs)
	w.must(err)
	w.eventually(5*time.Second, "50 run", func() bool { return running50(w, n) == 50 })
	w.settle()
	start := time.Now()
	w.must(n.stop())
	if d := time.Since(start); d > time.Second {
		w.Errorf("took %v", d)
	}
	if len(causes) != 50 {
		w.Errorf("%d handlers ended", len(causes))
	}
	for len(causes) > 0 {
		if c := <-causes; !errors.Is(c, drover.ErrStopping) {
			w.Errorf("cause %v", c)
		}
	}
	for _, j := range js {
		if got := w.get(n, j.ID); got.State == job.Running || got.State.Final() || got.Attempt != 0 || got.Lost != 0 {
			w.Errorf("%s, attempt %d, lost %d", got.State, got.Attempt, got.Lost)
		}
	}
	infos, err := n.session.List(w.Context())
	w.must(err)
	for _, i := range infos {
		if i.State == lease.Active {
			w.Errorf("session %+v", i)
		}
	}
	if err := n.Run(w.Context()); !errors.Is(err, drover.ErrUsed) {
		w.Errorf("second Run: %v", err)
	}
	if _, err := n.Submit(w.Context(), job.Request{Kind: "x"}); !errors.Is(err, job.ErrDraining) || !errors.Is(err, drover.ErrStopping) {
		w.Errorf("submit to a stopped node: %v", err)
	}
	b := w.node("b", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, struct{}) (int, error) { return 0, nil })
	})
	for _, j := range js {
		if got := w.wait(b, j); got.State != job.Succeeded {
			w.Fatal(got.State)
		}
	}
}

func stubborn(w *world) {
	release := make(chan struct{})
	n := w.node("a", func(m *job.Manager) {
		job.Handle(m, "stubborn", func(context.Context, struct{}) (int, error) { <-release; return 0, nil })
	})
	j := w.submit(n, job.Request{Kind: "stubborn"})
	w.eventually(5*time.Second, "runs", func() bool { return w.get(n, j.ID).State == job.Running })
	start := time.Now()
	err := n.stop()
	if d := time.Since(start).Round(time.Second); !errors.Is(err, drover.ErrStuck) || !strings.Contains(err.Error(), j.ID) || d != 30*time.Second {
		w.Errorf("%v after %v", err, d)
	}
	b := w.node("b", func(m *job.Manager) {
		job.Handle(m, "stubborn", func(context.Context, struct{}) (int, error) { return 1, nil })
	})
	got := w.wait(b, j)
	if d := time.Since(start); got.State != job.Succeeded || got.Lost != 1 || d < w.ttl {
		w.Errorf("%s, lost %d, freed after %v", got.State, got.Lost, d)
	}
	close(release)
}

func retention(w *world) {
	days := 3 * 24 * time.Hour
	if _, ok := w.db.(*memory.Store); ok { // a month of polls is quick enough
		days *= 10
	}
	w.ttl, w.poll = 10*time.Minute, time.Minute
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "short", func(context.Context, struct{}) (int, error) { return 0, nil }, job.Keep(time.Hour))
		job.Handle(m, "long", func(context.Context, struct{}) (int, error) { return 0, job.Again(2 * days) })
	})
	live := w.submit(n, job.Request{Kind: "long"})
	old := w.submit(n, job.Request{Kind: "noop", RunAt: time.Now().Add(days)})
	done, short := w.wait(n, w.submit(n, job.Request{Kind: "noop"})), w.wait(n, w.submit(n, job.Request{Kind: "short"}))
	is := func(j *job.Job, there bool) {
		w.Helper()
		if _, err := n.Get(w.Context(), j.ID); there != (err == nil) || !there && !errors.Is(err, job.ErrNotFound) {
			w.Errorf("%s after %v: %v", j.Kind, time.Since(done.Ended), err)
		}
	}
	time.Sleep(59 * time.Minute)
	is(short, true)
	time.Sleep(2 * time.Minute)
	is(short, false)
	time.Sleep(time.Until(done.Ended.Add(1439 * time.Minute)))
	is(done, true)
	time.Sleep(2 * time.Minute)
	is(done, false)
	time.Sleep(time.Until(old.RunAt.Add(time.Hour)))
	w.state(n, old.ID, job.Succeeded)
	is(live, true)
}

func nameTaken(w *world) {
	block := make(chan struct{})
	lost := make(chan error, 1)
	a := w.idle("same")
	job.Handle(a.Manager, "x", func(ctx context.Context, _ struct{}) (string, error) {
		<-ctx.Done()
		lost <- context.Cause(ctx)
		<-block
		return "first", nil
	})
	a.run()
	j := w.submit(a, job.Request{Kind: "x"})
	w.eventually(5*time.Second, "runs", func() bool { return w.get(a, j.ID).State == job.Running })
	start := time.Now()
	b := w.node("same", func(m *job.Manager) {
		job.Handle(m, "x", func(context.Context, struct{}) (string, error) { return "second", nil })
	})
	if got := w.wait(b, j); string(got.Result) != `"second"` || got.Lost != 1 || time.Since(start) > w.poll+100*time.Millisecond {
		w.Errorf("%s after %v", got.Result, time.Since(start))
	}
	if err := <-lost; !errors.Is(err, job.ErrLost) || !errors.Is(err, lease.ErrLost) {
		w.Errorf("cause %v", err)
	}
	close(block)
	if err := <-a.done; !errors.Is(err, lease.ErrLost) {
		w.Errorf("Run: %v", err)
	}
	a.once.Do(func() {})
	if got := w.get(b, j.ID); string(got.Result) != `"second"` {
		w.Errorf("result %s", got.Result)
	}
}

func storeDown(w *world) {
	var at atomic.Int64
	causes := make(chan error, 1)
	n := w.node("a", func(m *job.Manager) {
		noop(m)
		job.Handle(m, "long", func(ctx context.Context, _ struct{}) (int, error) {
			if j, _ := job.FromContext(ctx); j.Runs > 1 {
				return 1, nil
			}
			start := time.Now()
			<-ctx.Done()
			at.Store(int64(time.Since(start)))
			causes <- context.Cause(ctx)
			return 0, ctx.Err()
		})
	})
	w.settle()
	long := w.submit(n, job.Request{Kind: "long"})
	w.eventually(time.Second, "runs", func() bool { return w.get(n, long.ID).State == job.Running })
	begins := n.faults.ops("begin")
	n.faults.down(true)
	time.Sleep(60 * time.Second)
	if tries := n.faults.ops("begin") - begins; tries > 20+10 { // 20 of the manager, and those of its session
		w.Errorf("%d attempts", tries)
	}
	if d := time.Duration(at.Load()); d < 24*time.Second || d > 25*time.Second {
		w.Errorf("handler ended after %v", d)
	}
	if err := <-causes; !errors.Is(err, job.ErrLost) {
		w.Error(err)
	}
	n.faults.down(false)
	w.eventually(15*time.Second, "back", func() bool { _, err := n.session.Held(); return err == nil })
	start := time.Now()
	js, err := n.SubmitMany(w.Context(), slices.Repeat([]job.Request{{Kind: "noop"}}, 1000))
	w.must(err)
	for _, j := range js {
		w.wait(n, j)
	}
	if d := time.Since(start); d > 2*time.Second {
		w.Errorf("a thousand jobs took %v", d)
	}
	if j := w.wait(n, long); j.State != job.Succeeded || j.Lost != 1 || j.Runs != 2 {
		w.Errorf("%s, lost %d", j.State, j.Lost)
	}
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

func drains(w *world) {
	g := newGate()
	n := w.node("a", func(m *job.Manager) { g.handle(m, "x") }, workers(1))
	run, queued := w.submit(n, job.Request{Kind: "x"}), w.submit(n, job.Request{Kind: "x"})
	<-g.started
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	if err := n.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), run.ID) {
		w.Errorf("drain: %v", err)
	}
	if _, err := n.Submit(w.Context(), job.Request{Kind: "x"}); !errors.Is(err, job.ErrDraining) || n.Accepting() == nil {
		w.Error(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.must(n.Drain(w.Context())) })
	g.let <- nil
	wg.Wait()
	w.state(n, run.ID, job.Succeeded)
	w.state(n, queued.ID, job.Ready)
}
