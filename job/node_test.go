package job_test

import (
	"context"
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
