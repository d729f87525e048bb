package conductor_test

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

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

const manyHosts = 500

func TestLoad(t *testing.T) {
	bubble(t, "conductor-19 one host of 500 floods", flooded)
	bubble(t, "conductor-20 a store that blocks for ever", blocked)
	bubble(t, "conductor-21 all workers are stuck, 500 hosts live", stuckWorkers)
}

// glance is a read.
func (c *client) glance(ctx context.Context) error {
	return c.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}})
		return err
	})
}

func flooded(n *net) {
	n.server("s1", func(c *conductor.ServerConfig) {
		all(c)
		c.Tx, c.Stores = &slowly{net: n, by: 10 * time.Millisecond}, n.db
	})
	flood := n.client("flood", func(c *conductor.Config) { c.Timeout = 500 * time.Millisecond })
	hosts := make([]*client, manyHosts)
	for i := range hosts {
		hosts[i] = n.client(fmt.Sprint("h", i), nil)
	}
	p99 := func() time.Duration {
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		for i, c := range hosts {
			wg.Go(func() { // ten reads a second each: 50 of 64 workers
				time.Sleep(time.Duration(i) * 100 * time.Millisecond / manyHosts)
				for range 10 {
					began := time.Now()
					if err := c.glance(context.Background()); err != nil {
						n.Errorf("h%d: %v", i, err)
					}
					d := time.Since(began)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
					time.Sleep(100*time.Millisecond - d%(100*time.Millisecond))
				}
			})
		}
		wg.Wait()
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	calm := p99()
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var done, busy atomic.Int64
	for range 100 {
		wg.Go(func() {
			for ctx.Err() == nil {
				switch err := flood.glance(ctx); {
				case err == nil:
					done.Add(1)
				case errors.Is(err, bus.ErrBusy):
					busy.Add(1)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	loaded := p99()
	stop()
	wg.Wait()
	n.Logf("p99 %v, with a flood %v; of the flood %d done, %d refused", calm, loaded, done.Load(), busy.Load())
	if loaded > calm*12/10 {
		n.Errorf("p99 of the others: %v, was %v", loaded, calm)
	}
	if done.Load() == 0 || busy.Load() < done.Load() {
		n.Errorf("of the flood %d were done, %d refused", done.Load(), busy.Load())
	}
}

// stuckSaves is a store whose writes of the tracker never end, and hold its lock, while it is on.
type stuckSaves struct {
	tracker.Store
	on atomic.Bool
}

func (s *stuckSaves) wait(ctx context.Context) error {
	if !s.on.Load() {
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s *stuckSaves) SaveHost(ctx context.Context, tx store.Tx, r tracker.Record) (tracker.Record, error) {
	if err := s.wait(ctx); err != nil {
		return r, err
	}
	return s.Store.SaveHost(ctx, tx, r)
}

func (s *stuckSaves) PutClaim(ctx context.Context, tx store.Tx, p tracker.Put) (tracker.Row, tracker.Record, error) {
	if err := s.wait(ctx); err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return s.Store.PutClaim(ctx, tx, p)
}

func blocked(n *net) {
	stuck := &stuckSaves{Store: n.db.Tracker()}
	n.server("s1", func(c *conductor.ServerConfig) { c.Stores = onlyTracker{stuck} })
	c := n.client("h1", nil)
	driver := &grown{} // each audit has something to save
	tr, err := tracker.New(tracker.Config{Env: n.env("h1"), Tx: c.Client, Store: c.Tracker(), AuditTimeout: 3 * time.Second,
		Hosts: func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h1", Driver: driver}}, nil }})
	if err != nil {
		n.Fatal(err)
	}
	within := func(what string, d time.Duration, wants error, f func(ctx context.Context) error) {
		n.Helper()
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		if err := f(ctx); (err == nil) != (wants == nil) || time.Since(began) > d {
			n.Errorf("%s: %v after %v", what, err, time.Since(began))
		}
	}
	errAny := errors.New("any")
	claim := func(id string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			_, err := tr.Claim(ctx, tracker.Request{ID: id, Host: "h1", Workload: id, Amount: tracker.Amount{MemoryMiB: 1}, Epoch: 1})
			return err
		}
	}
	audit := func(ctx context.Context) error {
		_, err := tr.Audit(ctx, "h1")
		return err
	}
	within("an audit", time.Minute, nil, audit)
	for i := range 3 {
		stuck.on.Store(true)
		within("a claim", time.Second, errAny, claim(fmt.Sprint("no", i)))
		time.Sleep(time.Second)
		began := time.Now() // a lock does not outlive who waits for it by more than 1 s
		n.in(n.db, func(context.Context, store.Tx) error { return nil })
		n.same("the store's lock was waited for", time.Since(began), time.Duration(0))
		began = time.Now()
		if _, err := tr.Audit(context.Background(), "h1"); err == nil || time.Since(began) > 3*time.Second {
			n.Errorf("an audit: %v after %v", err, time.Since(began))
		}
		stuck.on.Store(false)
		within("the next claim", time.Second, nil, claim(fmt.Sprint("yes", i)))
		within("the next audit", 3*time.Second, nil, audit)
	}
}

// stuckFor is a store that never answers some hosts.
type stuckFor struct{ *memory.Store }

func (s stuckFor) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	if p, _ := bus.PeerFrom(ctx); strings.HasPrefix(p.Node, "stuck") {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return s.Store.InTx(ctx, fn)
}

func stuckWorkers(n *net) {
	n.server("s1", func(c *conductor.ServerConfig) { c.Tx = stuckFor{n.db} })
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var sessions []*lease.Session
	var hosts []*client
	for i := range manyHosts {
		name := fmt.Sprint("h", i)
		c := n.client(name, nil)
		group, err := servicegroup.New(servicegroup.Config{Env: n.env(name), Driver: c.Members(), BeatOnly: true})
		if err != nil {
			n.Fatal(err)
		}
		s, err := lease.New(lease.Config{Env: n.env(name), Tx: c.Client, Store: c.Leases()})
		if err != nil {
			n.Fatal(err)
		}
		n.run(group)
		n.run(s)
		sessions, hosts = append(sessions, s), append(hosts, c)
	}
	time.Sleep(time.Minute) // all have begun
	for i := range 8 {      // 8 calls each are 64 workers; 8 more wait
		c := n.client(fmt.Sprint("stuck", i), func(c *conductor.Config) { c.Timeout = 10 * time.Minute })
		for range 16 {
			wg.Go(func() { _ = c.glance(ctx) })
		}
	}
	watch, err := servicegroup.New(servicegroup.Config{Env: n.env("s1"), Driver: n.db.Members()})
	if err != nil {
		n.Fatal(err)
	}
	n.run(watch)
	time.Sleep(30 * time.Second)
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := hosts[0].glance(short); err == nil {
		n.Error("the workers are not stuck")
	}
	for range 24 {
		time.Sleep(5 * time.Second)
		all, err := n.db.Members().Members(ctx, "drover")
		if err != nil || len(all) != manyHosts+1 {
			n.Fatalf("%d members, %v", len(all), err)
		}
		for _, m := range all {
			if m.Age > 10*time.Second+100*time.Millisecond {
				n.Errorf("%s has beaten %v ago", m.ID, m.Age)
			}
		}
	}
	for i, s := range sessions {
		if h := s.Health(); h.State != "ready" || !watch.IsUp(fmt.Sprint("h", i)) {
			n.Errorf("session of h%d: %+v", i, h)
		}
	}
	n.same("disconnected", n.log.count("msg=disconnected"), 0)
}
