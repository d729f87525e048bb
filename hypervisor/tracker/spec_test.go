package tracker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/servicegroup"
	members "github.com/drover-cloud/drover/servicegroup/memory"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// fixed is a host that reports one thing, and after hang nothing any more until resume.
type fixed struct {
	hypervisor.Driver
	res  hypervisor.Resources
	mu   sync.Mutex
	hung bool
}

func (f *fixed) Resources(ctx context.Context) (hypervisor.Resources, error) {
	f.mu.Lock()
	hung := f.hung
	f.mu.Unlock()
	if hung {
		<-ctx.Done()
		return hypervisor.Resources{}, context.Cause(ctx)
	}
	return f.res, nil
}

func (f *fixed) hang(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hung = on
}

func host() *fixed {
	return &fixed{res: hypervisor.Resources{VCPUs: 16, MemoryMiB: 16 << 10, DiskMiB: 100 << 10}}
}

// build gives a tracker on a memory store and hosts h1, h2, …, audited once.
func build(t *testing.T, set func(*tracker.Config), hosts ...hypervisor.Driver) (*tracker.Tracker, *memory.Store) {
	t.Helper()
	db := &memory.Store{}
	cfg := tracker.Config{Env: quiet(), Tx: db, Store: db.Tracker(), Reserved: &tracker.Amount{},
		Hosts: func(context.Context) (all []tracker.Host, _ error) {
			for i, h := range hosts {
				all = append(all, tracker.Host{ID: fmt.Sprint("h", i+1), Driver: h})
			}
			return all, nil
		}}
	if set != nil {
		set(&cfg)
	}
	tr, err := tracker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tr, db
}

func take(ctx context.Context, tr *tracker.Tracker, id, host string) error {
	_, err := tr.Claim(ctx, tracker.Request{ID: id, Host: host, Workload: id, Amount: tracker.Amount{MemoryMiB: 16}})
	return err
}

func TestRows(t *testing.T) {
	t.Parallel()
	t.Run("trk-24 usage depends on rows only", func(t *testing.T) {
		f1 := tracker.Amount{VCPUs: 1, MemoryMiB: 128, DiskMiB: 1 << 10}
		rows := []tracker.Row{
			{ID: "1", Host: "h", Workload: "a", Role: tracker.Current, Amount: f1, State: tracker.Committed},
			{ID: "2", Host: "h", Workload: "a", Role: tracker.Incoming, From: "h", Amount: f1, State: tracker.Held, Expires: time.Unix(100, 0)},
		}
		in := tracker.Inputs{Record: tracker.Record{Host: "h"}, Rows: rows, Now: time.Unix(10, 0), Known: true, Workloads: []string{"a"},
			Resources: hypervisor.Resources{VCPUs: 4, MemoryMiB: 512, DiskMiB: 6 << 10}}
		want, _ := tracker.Compute(in)
		for vm, use := range map[string]*hypervisor.Resources{ // by what the host tells of it
			"active": {VCPUsUsed: 1, MemoryMiBUsed: 128}, "stopped": nil, "suspended": {VCPUsUsed: 1, MemoryMiBUsed: 1}, "resized": {VCPUsUsed: 2, MemoryMiBUsed: 256},
		} {
			for _, task := range []string{"none", "preparing", "migrating", "migrated", "finishing"} { // of which the tracker knows nothing
				in.Resources.PerVM = nil
				if use != nil {
					in.Resources.PerVM = map[string]hypervisor.Resources{"a": *use}
				}
				if got, _ := tracker.Compute(in); !got.Used.Equal(want.Used) || !got.Free.Equal(want.Free) || got.Running != 1 || got.InFlight != 1 {
					t.Errorf("%s, %s: %+v", vm, task, got)
				}
			}
		}
	})
	t.Run("trk-37 Fits is what Claim does", func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		h := host()
		h.res = hypervisor.Resources{VCPUs: 64, MemoryMiB: 1 << 20, DiskMiB: 1 << 30}
		tr, _ := build(t, func(c *tracker.Config) {
			c.Reserved = &tracker.Amount{MemoryMiB: 512, DiskMiB: 7}
			c.Ratios = map[string]float64{tracker.VCPUs: 1.5, tracker.Disk: 0.3}
			c.Overhead = func(a tracker.Amount) tracker.Amount { return tracker.Amount{MemoryMiB: a.MemoryMiB / 50} }
		}, h)
		yes := 0
		var claims []string
		for i := range 10_000 {
			a := tracker.Amount{VCPUs: r.Int64N(30), MemoryMiB: r.Int64N(1 << 18), DiskMiB: r.Int64N(1 << 27)}
			var limits map[string]int64
			switch r.IntN(5) {
			case 0:
				limits = map[string]int64{tracker.Memory: r.Int64N(1 << 21)}
			case 1:
				limits = map[string]int64{tracker.Disk: tracker.Unlimited, tracker.VCPUs: r.Int64N(200)}
			}
			fits, why := tr.Fits("h1", a, limits)
			id := fmt.Sprint(i)
			_, err := tr.Claim(t.Context(), tracker.Request{ID: id, Host: "h1", Workload: id, Amount: a, Limits: limits})
			var full *tracker.NoRoom
			if fits != (err == nil) || err != nil && (!errors.As(err, &full) || fmt.Sprint(full.Reasons) != fmt.Sprint(why)) {
				t.Fatalf("%+v %v: fits %v %v, claim %v", a, limits, fits, why, err)
			}
			if err == nil {
				yes++
				claims = append(claims, id)
			}
			if len(claims) > 0 && r.IntN(2) == 0 {
				if err := tr.Abort(t.Context(), claims[0], 0); err != nil {
					t.Fatal(err)
				}
				claims = claims[1:]
			}
		}
		if yes < 1000 || yes > 9000 {
			t.Fatalf("%d of 10000 fitted", yes)
		}
	})
}

func TestFitsAllocatesNothing(t *testing.T) {
	tr, _ := build(t, nil, host())
	if n := testing.AllocsPerRun(100, func() { tr.Fits("h1", tracker.Amount{VCPUs: 1, MemoryMiB: 1, DiskMiB: 1}, nil) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	t.Run("trk-38 each publish once, a slow one coalesces", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, _ := build(t, nil, host())
			var seen []int64
			stop := tr.Watch(func(u tracker.Usage) { seen = append(seen, u.Generation) })
			for i := range 5 {
				if err := take(t.Context(), tr, fmt.Sprint(i), "h1"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if fmt.Sprint(seen) != "[2 3 4 5 6]" {
				t.Fatal(seen)
			}
			stop()
			var slow []int64
			tr.Watch(func(u tracker.Usage) {
				slow = append(slow, u.Generation)
				time.Sleep(time.Minute)
			})
			at := time.Now()
			for i := range 5 {
				if err := take(t.Context(), tr, fmt.Sprint("s", i), "h1"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if time.Since(at) != 0 {
				t.Error("claims waited for a watcher")
			}
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if fmt.Sprint(slow, len(seen)) != "[7 11] 5" {
				t.Fatal(slow, seen)
			}
		})
	})
	t.Run("trk-34 a lost connection disables its host until it is back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := &talking{fixed: host(), events: make(chan hypervisor.Event)}
			tr, _ := build(t, nil, d)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- tr.Run(ctx) }()
			tell := func(k hypervisor.EventKind, enabled bool, reason string) {
				t.Helper()
				d.events <- hypervisor.Event{Kind: k, Detail: "reset by peer"}
				synctest.Wait()
				if u, _ := tr.Usage("h1"); u.Enabled != enabled || u.Reason != reason {
					t.Errorf("after %s: %+v", k, u)
				}
			}
			tell(hypervisor.EventSynced, true, "")
			tell(hypervisor.EventLost, false, "AUTO: connection lost: reset by peer")
			tell(hypervisor.EventBack, true, "")
			if err := tr.Disable(ctx, "h1", "maintenance"); err != nil {
				t.Fatal(err)
			}
			tell(hypervisor.EventLost, false, "maintenance")
			tell(hypervisor.EventBack, false, "maintenance")
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	})
}

// talking is a host with events.
type talking struct {
	*fixed
	events chan hypervisor.Event
}

func (d *talking) Events(ctx context.Context, f func(hypervisor.Event)) error {
	for {
		select {
		case e := <-d.events:
			f(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// away is a store that does not answer while it is down, and of which a host's claims can hang.
type away struct {
	*memory.Store
	mu   sync.Mutex
	down bool
	hang string // host
}

func (a *away) set(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

func (a *away) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	if down {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return a.Store.InTx(ctx, f)
}

func (a *away) Tracker() tracker.Store { return hanging{a.Store.Tracker(), a} }

type hanging struct {
	tracker.Store
	a *away
}

func (h hanging) SaveHost(ctx context.Context, tx store.Tx, r tracker.Record) (tracker.Record, error) {
	h.a.mu.Lock()
	hang := h.a.hang == r.Host
	h.a.mu.Unlock()
	if hang {
		<-ctx.Done()
		return tracker.Record{}, context.Cause(ctx)
	}
	return h.Store.SaveHost(ctx, tx, r)
}

func TestStuck(t *testing.T) {
	t.Parallel()
	t.Run("trk-40 the store blocks for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := &away{Store: &memory.Store{}}
			tr, _ := build(t, func(c *tracker.Config) { c.Tx, c.Store = db, db.Tracker() }, host(), host())
			db.set(true)
			at := time.Now()
			errs := make(chan error, 101)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go func() { _, err := tr.Audit(t.Context(), "h1"); errs <- err }()
			synctest.Wait()
			for i := range 100 {
				go func() { errs <- take(ctx, tr, fmt.Sprint(i), "h1") }()
			}
			synctest.Wait()
			if u, ok := tr.Usage("h1"); !ok || u.Free.MemoryMiB != 16<<10 {
				t.Errorf("%+v", u)
			}
			if ok, why := tr.Fits("h2", tracker.Amount{VCPUs: 1}, nil); !ok {
				t.Error(why)
			}
			db.set(false) // for who comes now
			if err := take(t.Context(), tr, "other", "h2"); err != nil || time.Since(at) != 0 {
				t.Errorf("after %v: %v", time.Since(at), err)
			}
			for range 100 {
				if err := <-errs; !errors.Is(err, context.DeadlineExceeded) || time.Since(at) != time.Second {
					t.Fatalf("after %v: %v", time.Since(at), err)
				}
			}
			if err := <-errs; err == nil || time.Since(at) != 50*time.Second {
				t.Errorf("the audit after %v: %v", time.Since(at), err)
			}
		})
	})
	t.Run("a save that blocks for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := host()
			db := &away{Store: &memory.Store{}}
			tr, _ := build(t, func(c *tracker.Config) { c.Tx, c.Store = db, db.Tracker() }, h)
			h.res.MemoryMiB++
			db.hang = "h1"
			done := make(chan error, 1)
			go func() { _, err := tr.Audit(t.Context(), "h1"); done <- err }()
			synctest.Wait() // it holds the store, which has one transaction at a time
			for i := range 100 {
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					at := time.Now()
					if err := take(ctx, tr, fmt.Sprint(i), "h1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(at) != time.Second {
						t.Errorf("after %v: %v", time.Since(at), err)
					}
				}()
			}
			if err := <-done; err == nil {
				t.Error("the audit succeeded")
			}
			db.hang = ""
			if err := take(t.Context(), tr, "after", "h1"); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("trk-44 the store is gone for two minutes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := &away{Store: &memory.Store{}}
			h := host()
			tr, _ := build(t, func(c *tracker.Config) { c.Tx, c.Store = db, db.Tracker() }, h)
			audit := make(chan error, 1)
			at := time.Now()
			db.set(true)
			go func() { _, err := tr.Audit(t.Context(), "h1"); audit <- err }()
			for i := range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				begun := time.Now()
				if err := take(ctx, tr, fmt.Sprint(i), "h1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > time.Second {
					t.Fatalf("after %v: %v", time.Since(begun), err)
				}
				cancel()
				time.Sleep(time.Second)
			}
			if err := <-audit; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the audit: %v", err)
			}
			if d := time.Since(at); d < 120*time.Second || d > 121*time.Second {
				t.Fatalf("after %v", d)
			}
			db.set(false)
			if err := take(t.Context(), tr, "a", "h1"); err != nil {
				t.Error(err)
			}
			if _, err := tr.Audit(t.Context(), "h1"); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("trk-46 health follows progress", testHealth)
	t.Run("trk-53 nobody starves", testFair)
}

func testHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := host()
		tr, _ := build(t, nil, h)
		group, err := servicegroup.New(servicegroup.Config{Env: drover.Env{Node: "n1", Logger: slog.New(slog.DiscardHandler)}, Driver: members.New(),
			Health: func() drover.Health { return tr.Health() }})
		if err != nil {
			t.Fatal(err)
		}
		h.hang(true)
		start := time.Now() // of the last success
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- tr.Run(ctx) }()
		go func() { ended <- group.Run(ctx) }()
		state := func(at time.Duration, want string) {
			t.Helper()
			time.Sleep(time.Until(start.Add(at)))
			got := tr.Health()
			if got.State != want || want != "ready" && (!strings.Contains(got.Err.Error(), "host h1") || !strings.Contains(got.Err.Error(), "stalled")) {
				t.Errorf("at %v: %+v", at, got)
			}
		}
		state(179*time.Second, "ready")
		state(180*time.Second, "degraded")
		if err := tr.Health().Err; !strings.Contains(err.Error(), "reading the host") {
			t.Error(err)
		}
		state(3*time.Minute+40*time.Second, "degraded") // a beat and a read of it
		m, ok := group.View().Member("n1")
		if !ok || m.Health.State != "degraded" || m.State != servicegroup.Up {
			t.Errorf("a peer sees %+v", m)
		}
		beat := m.Beat
		state(599*time.Second, "degraded")
		state(600*time.Second, "failing")
		if m, _ = group.View().Member("n1"); m.Beat < beat+30 {
			t.Errorf("%d beats in six minutes", m.Beat-beat)
		}
		h.hang(false)
		state(11*time.Minute+30*time.Second, "ready")
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// slowly is a store whose transactions take a millisecond.
type slowly struct{ *memory.Store }

func (s slowly) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	return s.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		time.Sleep(time.Millisecond)
		return f(ctx, tx)
	})
}

func testFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, db := build(t, func(c *tracker.Config) { c.Tx = slowly{c.Tx.(*memory.Store)} }, host())
		counts := make([]int, 50)
		var wg sync.WaitGroup
		end := time.Now().Add(10 * time.Second)
		for i := range counts {
			wg.Go(func() {
				for time.Now().Before(end) {
					id := fmt.Sprint(i)
					if err := take(t.Context(), tr, id, "h1"); err != nil {
						t.Error(err)
					}
					if err := tr.Abort(t.Context(), id, 0); err != nil {
						t.Error(err)
					}
					counts[i]++
				}
			})
		}
		wg.Wait()
		least, sum := counts[0], 0
		for _, n := range counts {
			least, sum = min(least, n), sum+n
		}
		if mean := sum / 50; mean < 50 || least*10 < mean {
			t.Errorf("least %d of a mean of %d", least, mean)
		}
		err := db.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			rec, rows, err := db.Tracker().LoadHost(ctx, tx, "h1")
			if !rec.Used.Equal(tracker.Amount{}) || len(rows) != 0 {
				t.Errorf("%+v, %d rows", rec.Used, len(rows))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// seeds is how many worlds a run has.
func seeds(n int) int {
	if os.Getenv("DROVER_LONG") != "" {
		return 1000
	}
	return n
}
