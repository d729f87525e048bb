package drover_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/servicegroup"
	members "github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

// peer is a Service with a session and a membership.
type peer struct {
	drover.Service
	session *lease.Session
	group   *servicegroup.Group
	end     func() error
}

func newPeer(t *testing.T, name string, db *memory.Store, driver servicegroup.Driver) *peer {
	t.Helper()
	p := &peer{}
	p.Env = quiet()
	p.Env.Node = name
	var err error
	if p.session, err = lease.New(lease.Config{Env: p.Env, Tx: db, Store: db.Leases()}); err != nil {
		t.Fatal(err)
	}
	p.group, err = servicegroup.New(servicegroup.Config{Env: p.Env, Driver: driver, Health: func() drover.Health { return p.Service.Health() }})
	if err != nil {
		t.Fatal(err)
	}
	p.Components.Add("session", p.session)
	p.Components.Add("members", p.group)
	return p
}

func TestSpecPeers(t *testing.T) {
	bubble(t, "service-14 a clean stop is a Leave", func(t *testing.T) {
		db, driver := &memory.Store{}, members.New()
		a, b := newPeer(t, "a", db, driver), newPeer(t, "b", db, driver)
		work := newInHand(drover.Inflight{Kind: "k", ID: "1"}) // b reads a's announcement, and 200 ms later may read again
		a.Components.Add("work", work)
		a.end, b.end = runs(t, &a.Service), runs(t, &b.Service)
		settled(15 * time.Second)
		time.AfterFunc(time.Second, work.finish)
		if !b.group.IsUp("a") {
			t.Fatalf("%+v", b.group.View())
		}
		if err := errors.Join(a.Shutdown(t.Context()), a.end()); err != nil {
			t.Fatal(err)
		}
		all, err := b.session.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			if i.Name == "a" && i.State != lease.Dead {
				t.Errorf("the session is %s", i.State)
			}
		}
		settled(100 * time.Millisecond)
		if s, why := b.group.State("a"); s != servicegroup.Down || why != servicegroup.Left {
			t.Errorf("100 ms after the end of a: %v, %v", s, why)
		}
		if err := errors.Join(b.Close(), b.end()); err != nil {
			t.Error(err)
		}
	})
	bubble(t, "service-41 an audit that hangs is seen by a peer", func(t *testing.T) {
		db, driver := &memory.Store{}, members.New()
		a, b := newPeer(t, "a", db, driver), newPeer(t, "b", db, driver)
		tasks := &periodic.Set{Env: a.Env}
		release, n := make(chan struct{}), 0
		_ = tasks.Every(20*time.Second, "audit", func(context.Context) error {
			if n++; n == 3 {
				<-release
			}
			return nil
		}, periodic.Stale(0), periodic.Spread(0))
		a.Components.Add("tasks", tasks, drover.AfterReady())
		a.end, b.end = runs(t, &a.Service), runs(t, &b.Service)
		settled(62 * time.Second) // the third has begun at 60 s; the last good one was at 40 s
		if h := a.Health(); h.State != "ready" {
			t.Fatalf("%+v", h)
		}
		settled(40 * time.Second)
		if h := a.Health(); h.State != "degraded" || h.Name != "tasks" {
			t.Errorf("3 spacings after the last success: %+v", h)
		}
		settled(20 * time.Second) // a beat and a read of it
		m, ok := b.group.View().Member("a")
		if !ok || m.Health.State != "degraded" || m.State != servicegroup.Up || m.Age > 10*time.Second {
			t.Errorf("seen by the peer: %+v", m)
		}
		was := m.Beat
		settled(time.Minute)
		if m, _ = b.group.View().Member("a"); m.Beat < was+5 || m.Beat > was+7 {
			t.Errorf("%d beats in a minute", m.Beat-was)
		}
		close(release)
		for _, p := range []*peer{a, b} {
			if err := errors.Join(p.Close(), p.end()); err != nil {
				t.Error(err)
			}
		}
	})
}

// hanging is a store of which a transaction hangs, within or before it begins.
type hanging struct {
	*memory.Store
	before, within atomic.Bool // for the next one
}

func (h *hanging) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	if h.before.CompareAndSwap(true, false) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return h.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if h.within.CompareAndSwap(true, false) {
			<-ctx.Done()
		}
		return f(ctx, tx)
	})
}

// telling is a host that tells when it is asked for its resources.
type telling struct {
	*sim.Driver
	asked func()
}

func (h telling) Resources(ctx context.Context) (hypervisor.Resources, error) {
	h.asked()
	return h.Driver.Resources(ctx)
}

const hostID = "33333333-0000-4000-8000-00000000000a"

func newTracker(t *testing.T, db *hanging, asked func()) *tracker.Tracker {
	t.Helper()
	host, err := sim.New(sim.Config{ID: hostID, VCPUs: 64, MemoryMiB: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tracker.New(tracker.Config{Env: quiet(), Tx: db, Store: db.Tracker(), AuditTimeout: 20 * time.Second,
		Hosts: func(context.Context) ([]tracker.Host, error) {
			return []tracker.Host{{ID: hostID, Driver: telling{host, asked}}}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestSpecLocks(t *testing.T) {
	claim := func(t *testing.T, tr *tracker.Tracker, id string) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		at := time.Now()
		_, err := tr.Claim(ctx, tracker.Request{ID: id, Host: hostID, Workload: id, Amount: tracker.Amount{VCPUs: 1, MemoryMiB: 16}})
		return time.Since(at), err
	}
	bubble(t, "service-42 another operation hangs in the store", func(t *testing.T) {
		db := &hanging{Store: &memory.Store{}}
		tr := newTracker(t, db, func() {})
		db.within.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		go db.InTx(ctx, func(context.Context, store.Tx) error { return nil }) // which has one transaction at a time
		synctest.Wait()
		if d, err := claim(t, tr, "a"); !errors.Is(err, context.DeadlineExceeded) || d != time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		cancel()
		synctest.Wait()
		if d, err := claim(t, tr, "a"); err != nil || d != 0 {
			t.Errorf("after %v: %v", d, err)
		}
	})
	bubble(t, "service-44 the store is lost to an audit in its midst", func(t *testing.T) {
		db := &hanging{Store: &memory.Store{}}
		lose := false
		tr := newTracker(t, db, func() { db.before.Store(lose) })
		lose = true
		audit, begun := make(chan error, 1), time.Now()
		go func() { _, err := tr.Audit(t.Context(), hostID); audit <- err }()
		synctest.Wait()
		for i := range 15 {
			if d, err := claim(t, tr, fmt.Sprint(i)); err != nil || d != 0 {
				t.Errorf("claim %d after %v: %v", i, d, err)
			}
			time.Sleep(time.Second)
		}
		if err := <-audit; err == nil || time.Since(begun) != 20*time.Second {
			t.Errorf("the audit ended after %v: %v", time.Since(begun), err)
		}
		lose = false
		if r, err := tr.Audit(t.Context(), hostID); err != nil {
			t.Errorf("the next one: %+v, %v", r, err)
		}
	})
	bubble(t, "service-43 a ctx that is done has no side effect", testDoneCtx)
}

// counting is a store that counts transactions.
type counting struct {
	*memory.Store
	n int
}

func (c *counting) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	c.n++
	return c.Store.InTx(ctx, f)
}

func testDoneCtx(t *testing.T) {
	db := &counting{Store: &memory.Store{}}
	e := quiet()
	session, err := lease.New(lease.Config{Env: e, Tx: db, Store: db.Leases()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs, err := job.New(job.Config{Env: e, DB: db, Session: session})
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	job.Handle(jobs, "k", func(context.Context, int) (int, error) { ran = true; return 0, nil })
	j, err := jobs.Submit(t.Context(), job.Request{Kind: "k", Args: 1})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tracker.New(tracker.Config{Env: e, Tx: db, Store: db.Tracker()})
	if err != nil {
		t.Fatal(err)
	}
	tasks := &periodic.Set{Env: e}
	local := &syncqueue.Local{}
	driver := members.New()
	peers, err := servicegroup.New(servicegroup.Config{Env: e, Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g, s := &drover.Group{Env: e}, &drover.Service{Env: e}
	before := db.n
	for name, f := range map[string]func() error{
		"drover.Env.Sleep": func() error { return e.Defaults().Sleep(ctx, time.Hour) },
		"drover.WaitFor": func() error {
			return drover.WaitFor(ctx, e, "x", func(context.Context) error { ran = true; return nil })
		},
		"drover.Group.Drain":    func() error { return g.Drain(ctx) },
		"drover.Service.Drain":  func() error { return s.Shutdown(ctx) },
		"drover.Service.Reload": func() error { return s.Reload(ctx) },
		"memory.InTx": func() error {
			return db.Store.InTx(ctx, func(context.Context, store.Tx) error { ran = true; return nil })
		},
		"lease.Acquire": func() error { _, err := session.Acquire(ctx, "x"); return err },
		"job.Submit":    func() error { _, err := jobs.Submit(ctx, job.Request{Kind: "k", Args: 2}); return err },
		"job.Wait":      func() error { _, err := jobs.Wait(ctx, j.ID); return err },
		"job.Cancel":    func() error { _, err := jobs.Cancel(ctx, j.ID); return err },
		"tracker.Claim": func() error { _, err := tr.Claim(ctx, tracker.Request{ID: "1", Host: "h", Workload: "w"}); return err },
		"syncqueue.Local.Do": func() error {
			return local.Do(ctx, syncqueue.Key{Kind: "k", ID: "1"}, func(context.Context) error { ran = true; return nil })
		},
		"periodic.RunOnce": func() error {
			_ = tasks.Every(time.Hour, "t", func(ctx context.Context) error { return ctx.Err() })
			return tasks.RunOnce(ctx, "t")
		},
		"servicegroup.Leave": func() error { return peers.Leave(ctx) },
	} {
		begun := time.Now()
		if err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if time.Since(begun) != 0 {
			t.Errorf("%s took %v", name, time.Since(begun))
		}
	}
	if got, err := jobs.Get(t.Context(), j.ID); err != nil || got.State != job.Ready || !got.CancelAt.IsZero() {
		t.Errorf("%+v %v", got, err)
	}
	if page, _, err := jobs.Page(t.Context(), job.Query{}); err != nil || len(page) != 1 {
		t.Errorf("%d jobs, %v", len(page), err)
	}
	if ran {
		t.Error("something ran")
	}
	t.Logf("%d transactions were begun, and none committed", db.n-before-2)
}

func TestSpecSoak(t *testing.T) {
	t.Run("service-46 start, drain and stop again and again", func(t *testing.T) {
		files := func() int {
			all, _ := os.ReadDir("/proc/self/fd")
			return len(all)
		}
		cycle := func(n int) {
			for range n {
				db := &memory.Store{}
				e := quiet()
				jobs, err := job.New(job.Config{Env: e, DB: db})
				if err != nil {
					t.Fatal(err)
				}
				s := &drover.Service{Env: e, Topic: "x", Record: db.Records()}
				s.Components.Add("jobs", jobs)
				s.Components.Add("tasks", &periodic.Set{Env: e}, drover.AfterReady())
				ready := make(chan struct{})
				s.Components.Add("ready", drover.Func(func(ctx context.Context) error { close(ready); <-ctx.Done(); return nil }), drover.AfterReady())
				end := runs(t, s)
				<-ready
				if err := errors.Join(s.Shutdown(t.Context()), end()); err != nil {
					t.Fatal(err)
				}
			}
		}
		use := func() (goroutines, fds int, heap uint64) {
			for range 100 { // what has ended may not be gone yet
				runtime.Gosched()
			}
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return runtime.NumGoroutine(), files(), m.HeapAlloc
		}
		cycle(100)
		g0, f0, h0 := use()
		cycle(900)
		g1, f1, h1 := use()
		if g1 > g0+2 || f1 > f0+2 || h1 > h0+2<<20 {
			t.Errorf("after 100 cycles %d goroutines, %d files, %d bytes; after 1000 %d, %d, %d", g0, f0, h0, g1, f1, h1)
		}
	})
}
