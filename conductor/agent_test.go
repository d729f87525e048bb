package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
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
		n.server("s1", nil)
		n.server("s2", nil)
		ctl := n.controller()
		host := &process{local: testkit.Deny(n), remote: n.client("h1", nil).Client}
		jobs, err := job.New(job.Config{Env: n.env("h1"), DB: host, Queues: map[string]int{"h1": 10}})
		if err != nil {
			n.Fatal(err)
		}
		job.Handle(jobs, "vm.start", agentJob, job.Retry(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }, 2))
		n.run(jobs)
		group, err := servicegroup.New(servicegroup.Config{Env: n.env("h1"), Driver: host.Members()})
		if err != nil {
			n.Fatal(err)
		}
		n.run(group)
		track, err := tracker.New(tracker.Config{Env: n.env("h1"), Tx: host, Store: host.Tracker(),
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
		if host.asked() == 0 {
			n.Error("the process's store was not asked for")
		}
	})
	bubble(t, "conductor-02 a store too few is found", func(n *net) {
		n.server("s1", nil)
		told := 0
		local := conductor.Deny(slog.New(slog.DiscardHandler))
		local.OnDenied(func(string) { told++ })
		host := &process{local: local, remote: n.client("h1", nil).Client, lacks: "Tracker"}
		track, err := tracker.New(tracker.Config{Env: n.env("h1"), Tx: host, Store: host.Tracker(),
			Hosts: func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h1", Driver: fixed{}}}, nil }})
		if err != nil {
			n.Fatal(err)
		}
		if _, err := track.Audit(context.Background(), "h1"); !errors.Is(err, conductor.ErrDenied) || told == 0 {
			n.Errorf("an audit with the process's own store: %v, %d denials", err, told)
		}
	})
}

// process is a host's process that reaches for its local store, and takes what it gets in its place from the client.
type process struct {
	local  *conductor.Denied
	remote *conductor.Client
	lacks  string // what the client is not used for

	mu sync.Mutex
	n  int
}

// stores are those of a Denied and of a Client.
type stores interface {
	job.DB
	Tracker() tracker.Store
	Members() servicegroup.Driver
	Queues() syncqueue.Store
}

func (p *process) of(what string) stores {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n++; what == p.lacks {
		return p.local
	}
	return p.remote
}

func (p *process) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *process) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	return p.of("InTx").InTx(ctx, fn)
}
func (p *process) Jobs() job.Store              { return p.of("Jobs").Jobs() }
func (p *process) Queues() syncqueue.Store      { return p.of("Queues").Queues() }
func (p *process) Leases() lease.Store          { return p.of("Leases").Leases() }
func (p *process) Notifier() store.Notifier     { return p.of("Notifier").Notifier() }
func (p *process) Outbox() bus.Outbox           { return p.remote.Outbox() }
func (p *process) Ledger() lease.LedgerStore    { return p.remote.Ledger() }
func (p *process) Tracker() tracker.Store       { return p.of("Tracker").Tracker() }
func (p *process) Members() servicegroup.Driver { return p.of("Members").Members() }

func TestReporter(t *testing.T) {
	bubble(t, "conductor-22 a reporter survives", func(n *net) {
		odd := &oddMembers{Driver: n.db.Members()}
		n.server("s1", func(c *conductor.ServerConfig) { c.Stores = onlyMembers{odd} })
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
		cut, back := n.log.count("msg=disconnected"), n.log.count("msg=recovered")
		odd.set(errors.New("strange")) // no error that anybody knows
		time.Sleep(3 * time.Minute)
		n.same("disconnected again", n.log.count("msg=disconnected"), cut+1)
		odd.set(nil)
		time.Sleep(time.Minute)
		n.same("recovered again", n.log.count("msg=recovered"), back+1)
		all, err := n.db.Members().Members(context.Background(), "drover")
		if err != nil || len(all) != 1 || all[0].Age > 11*time.Second {
			n.Errorf("members: %+v, %v", all, err)
		}
	})
}

// oddMembers is a driver whose beats fail as they are told to.
type oddMembers struct {
	servicegroup.Driver
	mu  sync.Mutex
	err error
}

func (o *oddMembers) set(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *oddMembers) Beat(ctx context.Context, m servicegroup.Member) error {
	o.mu.Lock()
	err := o.err
	o.mu.Unlock()
	if err != nil {
		return err
	}
	return o.Driver.Beat(ctx, m)
}

type onlyMembers struct{ d servicegroup.Driver }

func (o onlyMembers) Members() servicegroup.Driver { return o.d }

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
