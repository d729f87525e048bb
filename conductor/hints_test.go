package conductor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// worker is a host's manager, whose handlers are f.
func (n *net) worker(c *client, f func(ctx context.Context, a startVM) (string, error)) *job.Manager {
	n.Helper()
	jobs, err := job.New(job.Config{Env: n.env("h1"), DB: c.Client, Queues: map[string]int{"h1": 10}})
	if err != nil {
		n.Fatal(err)
	}
	job.Handle(jobs, "vm.start", f)
	n.run(jobs)
	return jobs
}

// took is how long a job waits until it has run on h1.
func (n *net) took(ctl *job.Manager) time.Duration {
	n.Helper()
	began := time.Now()
	j, err := ctl.Submit(context.Background(), job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{"1"}})
	if err == nil {
		_, err = ctl.Wait(context.Background(), j.ID)
	}
	if err != nil {
		n.Fatal(err)
	}
	return time.Since(began)
}

func quick(context.Context, startVM) (string, error) { return "", nil }

func TestHints(t *testing.T) {
	bubble(t, "conductor-28 hints and polls", func(n *net) {
		s := n.server("s1", nil)
		ctl := n.controller()
		c := n.client("h1", nil)
		n.worker(c, quick)
		time.Sleep(5 * time.Second)
		if d := n.took(ctl); d > 50*time.Millisecond {
			n.Errorf("hinted: %v", d)
		}
		time.Sleep(time.Minute)
		c.wire.sent()
		time.Sleep(time.Minute)
		probes := 0
		for _, call := range c.wire.sent() {
			if call == "store.job/claim" {
				probes++
			}
		}
		if probes < 10 || probes > 15 {
			n.Errorf("%d probes in an idle minute, want one in 5 s", probes)
		}
		if d := n.took(ctl); d > 50*time.Millisecond {
			n.Errorf("hinted after a long rest: %v", d)
		}
		time.Sleep(2 * time.Second) // it has worked: polls are quick again
		s.wire.bend(func(m *bus.Message) bool { return m.Wire.Kind == bus.KindEvent })
		if d := n.took(ctl); d > 1100*time.Millisecond {
			n.Errorf("the hint was lost: %v", d)
		}
	})
	bubble(t, "conductor-14 the server is gone for a while", func(n *net) {
		b := n.node("s1")
		s := n.serverOn(b, "s1", nil)
		ctl := n.controller()
		c := n.client("h1", nil)
		causes := make(chan error, 10)
		n.worker(c, func(ctx context.Context, a startVM) (string, error) {
			if a.ID == "1" {
				return "", nil
			}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return "", context.Cause(ctx)
		})
		if _, err := ctl.Submit(context.Background(), job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{"long"}}); err != nil {
			n.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		gone := time.Now()
		s.stop()
		if cause := <-causes; !errors.Is(cause, job.ErrLost) || time.Since(gone) > 30*time.Second {
			n.Errorf("the handler ended with %v after %v", cause, time.Since(gone))
		}
		time.Sleep(time.Minute)
		n.serverOn(b, "s1", nil)
		time.Sleep(15 * time.Second) // a session tries again every 10 s
		if d := n.took(ctl); d > 2*time.Second {
			n.Errorf("after the outage: %v", d)
		}
	})
	bubble(t, "conductor-25 a host is frozen", func(n *net) {
		n.server("s1", func(c *conductor.ServerConfig) { c.Policy.Queues = func(string) []string { return []string{"h1"} } })
		ctl := n.controller()
		a, b := n.client("h1", nil), n.client("h2", nil)
		release := make(chan struct{})
		n.worker(a, func(ctx context.Context, _ startVM) (string, error) {
			<-release // deaf to its ctx
			return "stale", job.Report(ctx, job.Progress{Percent: 99})
		})
		j, err := ctl.Submit(context.Background(), job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{"1"}})
		if err != nil {
			n.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		a.wire.bend(func(*bus.Message) bool { return true })
		other, err := job.New(job.Config{Env: n.env("h2"), DB: b.Client, Queues: map[string]int{"h1": 10}})
		if err != nil {
			n.Fatal(err)
		}
		job.Handle(other, "vm.start", func(context.Context, startVM) (string, error) { return "taken over", nil })
		n.run(other)
		time.Sleep(300 * time.Second)
		a.wire.bend(nil)
		close(release)
		time.Sleep(time.Minute)
		got, err := ctl.Get(context.Background(), j.ID)
		if err != nil {
			n.Fatal(err)
		}
		n.same("result", string(got.Result), `"taken over"`)
		n.same("progress", got.Progress.Percent, 0)
	})
}

// everyBody is a handler that uses what handlers may, with children and turns, on a manager whose transactions are checked.
func TestBodies(t *testing.T) {
	bubble(t, "conductor-07 the bodies of a job manager keep the shape", func(n *net) {
		checked := conductor.CheckShape(n.db)
		ctl := n.controller()
		jobs, err := job.New(job.Config{Env: n.env("h1"), DB: checked, Queues: map[string]int{"h1": 20}})
		if err != nil {
			n.Fatal(err)
		}
		job.Handle(jobs, "vm.start", agentJob)
		job.Handle(jobs, "group", func(ctx context.Context, k int) (string, error) {
			for _, id := range []string{"1", "2", "4"} {
				r := job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{id}, Name: id}
				if k == 1 {
					r.Sync = syncqueue.Key{Kind: "vm", ID: "shared"}
				}
				j, err := jobs.Submit(ctx, r)
				if err != nil {
					return "", err
				}
				if k == 2 {
					if _, err := jobs.Wait(ctx, j.ID); err != nil {
						return "", err
					}
				}
			}
			if k == 3 {
				return "", job.Permanent(errors.New("its children are cancelled"))
			}
			if done, err := job.Joined(ctx); len(done) > 0 || k == 2 {
				return "", err
			}
			return "", job.Park(job.OnChildren())
		})
		job.Handle(jobs, "sealed", func(ctx context.Context, _ int) (string, error) {
			err := checked.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return job.FinishTx(ctx, tx, "sealed") })
			return "", err
		})
		job.Declare[int, string](ctl, "group")
		job.Declare[int, string](ctl, "sealed")
		n.run(jobs)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		var ids []string
		submit := func(r job.Request) {
			n.Helper()
			j, err := ctl.Submit(ctx, r)
			if err != nil {
				n.Fatal(err)
			}
			ids = append(ids, j.ID)
		}
		for i := range 10 {
			submit(job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{string(rune('0' + i))}})
		}
		for k := range 4 {
			submit(job.Request{Kind: "group", Queue: "h1", Args: k, Sync: syncqueue.Key{Kind: "vm", ID: "shared"}})
		}
		submit(job.Request{Kind: "sealed", Queue: "h1", Args: 1})
		for _, id := range ids {
			if _, err := ctl.Wait(ctx, id); err != nil {
				n.Fatalf("%s: %v", id, err)
			}
		}
		n.same("misfits", n.log.count("of this shape"), 0)
	})
}
