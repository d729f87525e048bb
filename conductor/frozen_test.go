package conductor_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/testkit"
)

// TestFrozen: a host stands still for 300 s in the middle of a job, and then goes on where it was.
func TestFrozen(t *testing.T) {
	t.Run("conductor-25 a host is frozen for 300 s", func(t *testing.T) {
		testkit.Explore(t, seeds(), frozen, testkit.AtMost(seeds()))
	})
}

func frozen(w *testkit.World) {
	c := newCluster(w)
	var ctl *job.Manager
	w.Node("s1", func(n *testkit.Node) drover.Component {
		b := bus.New(n.Bus, bus.Config{Env: n.Env})
		cfg := conductor.ServerConfig{Env: n.Env, Bus: b, Tx: n.Store}
		cfg.Policy.Queues = func(string) []string { return []string{"q"} }
		srv := must(w, func() (*conductor.Server, error) { return conductor.NewServer(cfg) })
		ctl = must(w, func() (*job.Manager, error) {
			return job.New(job.Config{Env: n.Env, DB: n.Store, Queues: map[string]int{"ctl": 1}})
		})
		job.Declare[startVM, string](ctl, "vm.start")
		return c.group(n, b, srv, ctl)
	})
	var mu sync.Mutex
	var on []string
	stale := 0
	host := func(n *testkit.Node) drover.Component {
		b := bus.New(n.Bus, bus.Config{Env: n.Env})
		cl := must(w, func() (*conductor.Client, error) { return conductor.New(conductor.Config{Env: n.Env, Bus: b}) })
		m := must(w, func() (*job.Manager, error) {
			return job.New(job.Config{Env: n.Env, DB: cl, Queues: map[string]int{"q": 4}})
		})
		name, env := n.Name(), n.Env
		job.Handle(m, "vm.start", func(ctx context.Context, _ startVM) (string, error) {
			mu.Lock()
			on = append(on, name)
			mu.Unlock()
			_ = env.Sleep(context.WithoutCancel(ctx), 10*time.Second) // deaf
			if err := job.Report(ctx, job.Progress{Percent: 99, Step: name}); err == nil && ctx.Err() != nil {
				mu.Lock()
				stale++
				mu.Unlock()
			}
			return name, nil
		})
		return c.group(n, b, cl, m)
	}
	nodes := map[string]*testkit.Node{"h1": w.Node("h1", host), "h2": w.Node("h2", host)}
	w.Advance(5 * time.Second)
	j, err := ctl.Submit(context.Background(), job.Request{Kind: "vm.start", Queue: "q", Args: startVM{"1"}})
	if err != nil {
		w.T.Fatal(err)
	}
	w.Advance(time.Duration(2000+w.Rand("when").IntN(7000)) * time.Millisecond)
	if len(on) != 1 {
		w.T.Fatalf("it runs on %v", on)
	}
	first := on[0]
	nodes[first].Freeze(300 * time.Second)
	w.Advance(10 * time.Minute)
	got, err := ctl.Get(context.Background(), j.ID)
	if err != nil {
		w.T.Fatal(err)
	}
	if len(on) != 2 || on[1] == first || got.State != job.Succeeded || string(got.Result) != `"`+on[1]+`"` || got.Progress.Step != on[1] || stale > 0 {
		w.T.Errorf("it ran on %v; %s, result %s, progress %+v, %d stale reports", on, got.State, got.Result, got.Progress, stale)
	}
	again, err := ctl.Submit(context.Background(), job.Request{Kind: "vm.start", Queue: "q", Args: startVM{"2"}})
	if err == nil {
		w.Advance(time.Minute)
		again, err = ctl.Get(context.Background(), again.ID)
	}
	if err != nil || again.State != job.Succeeded {
		w.T.Errorf("after the thaw: %s, %v", again.State, err)
	}
}
