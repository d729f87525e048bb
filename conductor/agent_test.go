package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

type startVM struct{ ID string }

// controller is a job manager on the store itself: it submits, and sweeps.
func (n *net) controller() *job.Manager {
	n.Helper()
	m, err := job.New(job.Config{Env: n.env("ctl"), DB: n.db, Queues: map[string]int{"ctl": 1}})
	if err != nil {
		n.Fatal(err)
	}
	job.Declare[startVM, string](m, "vm.start")
	n.run(m)
	return m
}

func TestAgent(t *testing.T) {
	bubble(t, "conductor-02 a host without a store", func(n *net) {
		var _ job.DB = testkit.Deny(n) // what this process has for a store: whoever calls it fails the test
		n.server("s1", nil)
		n.server("s2", nil)
		ctl := n.controller()
		c := n.client("h1", nil)
		jobs, err := job.New(job.Config{Env: n.env("h1"), DB: c.Client, Queues: map[string]int{"h1": 10}})
		if err != nil {
			n.Fatal(err)
		}
		job.Handle(jobs, "vm.start", agentJob, job.Retry(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }, 2))
		n.run(jobs)
		group, err := servicegroup.New(servicegroup.Config{Env: n.env("h1"), Driver: c.Members()})
		if err != nil {
			n.Fatal(err)
		}
		n.run(group)
		track, err := tracker.New(tracker.Config{Env: n.env("h1"), Tx: c.Client, Store: c.Tracker(),
			Hosts: func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h1", Driver: fixed{}}}, nil }})
		if err != nil {
			n.Fatal(err)
		}
		n.run(track)

		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		var ids []string
		for i := range 100 {
			r := job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{fmt.Sprint(i)}}
			if i%2 == 0 {
				r.Sync = syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i % 10)}
			}
			j, err := ctl.Submit(ctx, r)
			if err != nil {
				n.Fatal(err)
			}
			ids = append(ids, j.ID)
		}
		for i, id := range ids {
			j, err := ctl.Wait(ctx, id)
			if err != nil {
				n.Fatal(err)
			}
			if want := job.Succeeded; j.State != want && i%10 != 9 || i%10 == 9 && j.State != job.Failed {
				n.Errorf("job %d is %s: %v", i, j.State, j.Error)
			}
		}
		time.Sleep(2 * time.Minute)
		beats, err := n.db.Members().Members(ctx, "drover")
		if err != nil || len(beats) != 1 || beats[0].Beat < 10 || beats[0].Age > 11*time.Second {
			n.Errorf("members: %+v, %v", beats, err)
		}
		if _, ok := track.Usage("h1"); !ok {
			n.Error("no audit")
		}
		n.same("denials", n.log.count("msg=denied"), 0)
		n.same("errors", n.log.count("level=ERROR"), 0)
	})
}

func TestReporter(t *testing.T) {
	bubble(t, "conductor-22 a reporter survives", func(n *net) {
		n.server("s1", nil)
		c := n.client("h1", nil)
		group, err := servicegroup.New(servicegroup.Config{Env: n.env("h1"), Driver: c.Members(), BeatOnly: true})
		if err != nil {
			n.Fatal(err)
		}
		n.run(group)
		time.Sleep(time.Minute)
		c.wire.bend(func(m *bus.Message) bool { return m.Wire.Kind == bus.KindCall })
		time.Sleep(3 * time.Minute)
		n.same("disconnected", n.log.count("msg=disconnected"), 1)
		c.wire.bend(nil)
		time.Sleep(time.Minute)
		n.same("recovered", n.log.count("msg=recovered"), 1)
		if err := n.db.Members().(servicegroup.Forgetter).Forget(context.Background(), "drover", "h1", false); err != nil {
			n.Fatal(err)
		}
		time.Sleep(time.Minute)
		n.same("record gone", n.log.count("own record is gone"), 1)
		all, err := n.db.Members().Members(context.Background(), "drover")
		if err != nil || len(all) != 1 || all[0].Age > 11*time.Second {
			n.Errorf("members: %+v, %v", all, err)
		}
	})
}

// agentJob does by its number all that a handler may do on a host.
func agentJob(ctx context.Context, a startVM) (string, error) {
	var n int
	if _, err := fmt.Sscan(a.ID, &n); err != nil {
		return "", err
	}
	switch n % 10 {
	case 1:
		return job.Step(ctx, "place", func(context.Context) (string, error) { return "h1", nil })
	case 2:
		return a.ID, job.Report(ctx, job.Progress{Percent: 50, Step: "half"})
	case 3:
		return a.ID, job.NoCancel(ctx)
	case 4:
		if j, _ := job.FromContext(ctx); len(j.Wakes) == 0 {
			return "", job.Park(job.After(time.Second))
		}
	case 5:
		if j, _ := job.FromContext(ctx); j.Runs == 1 {
			return "", job.Again(time.Second)
		}
	case 6:
		return a.ID, job.ReleaseTurn(ctx)
	case 7:
		return a.ID, job.Attach(ctx, "vm/"+a.ID)
	case 8:
		if j, _ := job.FromContext(ctx); j.Attempt == 0 {
			return "", errors.New("once more")
		}
	case 9:
		return "", job.Permanent(errors.New("never"))
	}
	return a.ID, nil
}

// fixed is a host's driver, as far as an audit asks.
type fixed struct{ hypervisor.Driver }

func (fixed) Resources(context.Context) (hypervisor.Resources, error) {
	return hypervisor.Resources{VCPUs: 8, MemoryMiB: 16384, DiskMiB: 1 << 20}, nil
}
