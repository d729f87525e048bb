package storetest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

var trackerAudits = []trackerCase{
	{"trk-16 adopted", trkAdopted},
	{"trk-18 idle audits write nothing", trkIdle},
	{"trk-19 a save fails", trkSaveFails},
	{"trk-20 two create the record", trkTwin},
	{"trk-25 leaked", trkLeaked},
	{"trk-27 orphans", trkOrphans},
	{"trk-28 no orphan at first sight", trkFirstSight},
	{"trk-29 states of a vm", trkStates},
	{"trk-39 drift", trkDrift},
	{"trk-43 changes between load and save", trkBetween},
	{"runs elsewhere", trkElsewhere},
	{"adoption of an earlier claim's VM", trkAdoptOnce},
}

func trkAdopted(k *trk) {
	k.ok(k.claim("a", f1, 1))
	k.host.mu.Lock()
	k.host.res.PerVM = map[string]hypervisor.Resources{"vm-a": {VCPUsUsed: 1, MemoryMiBUsed: 128}}
	k.host.mu.Unlock()
	k.audit()
	advance(k, k.Stores, 11*time.Minute)
	k.is(k.claim("b", tracker.Amount{MemoryMiB: 512}, 1), tracker.ErrNoRoom)
	r := k.audit()
	if len(r.Notes) != 1 || r.Notes[0].Kind != tracker.Adopted {
		k.Fatalf("%+v", r.Notes)
	}
	k.ok(k.tr.Commit(k.Context(), "a", 1))
	if r := k.used(f1); r.Running != 1 {
		k.Fatalf("%+v", r)
	}
}

func trkIdle(k *trk) {
	before := k.used(tracker.Amount{}).Generation
	k.audit()
	k.audit()
	if now := k.used(tracker.Amount{}).Generation; now != before {
		k.Fatalf("generation %d, then %d", before, now)
	}
	k.host.res.MemoryMiB++
	k.audit()
	if now := k.used(tracker.Amount{}).Generation; now != before+1 {
		k.Fatalf("generation %d, then %d", before, now)
	}
}

func trkOrphans(k *trk) {
	k.configure(func(c *tracker.Config) {
		c.Overhead = func(tracker.Amount) tracker.Amount { return tracker.Amount{MemoryMiB: 1} }
	})
	vm := hypervisor.Resources{VCPUsUsed: 1, MemoryMiBUsed: 5}
	k.host.res.PerVM = map[string]hypervisor.Resources{"x": vm, "y": vm}
	k.audit()
	if u, _ := k.tr.Usage("h1"); !u.Orphans.Equal(tracker.Amount{}) {
		k.Fatalf("counted at first sight: %+v", u.Orphans)
	}
	k.audit()
	if u, _ := k.tr.Usage("h1"); !u.Orphans.Equal(tracker.Amount{VCPUs: 2, MemoryMiB: 12}) {
		k.Fatalf("%+v", u.Orphans)
	}
	k.host.res.PerVM = nil
	k.audit()
	if u, _ := k.tr.Usage("h1"); !u.Orphans.Equal(tracker.Amount{}) {
		k.Fatalf("%+v", u.Orphans)
	}
}

func trkDrift(k *trk) {
	k.ok(k.claim("a", f1, 1))
	rec := k.used(f1)
	rec.Used = times(3, f1)
	in(k, k, func(ctx context.Context, tx store.Tx) error {
		_, err := k.d.SaveHost(ctx, tx, rec)
		return err
	})
	if r := k.audit(); len(r.Notes) != 1 || r.Notes[0].Kind != tracker.Drift {
		k.Fatalf("%+v", r.Notes)
	}
	k.used(f1)
}

// failing is a store whose next saves fail.
type failingSaves struct {
	tracker.Store
	left int
	err  error
}

func (f *failingSaves) SaveHost(ctx context.Context, tx store.Tx, r tracker.Record) (tracker.Record, error) {
	if f.left > 0 {
		f.left--
		return tracker.Record{}, f.err
	}
	return f.Store.SaveHost(ctx, tx, r)
}

func trkSaveFails(k *trk) {
	broken := &failingSaves{Store: k.d, err: errors.New("boom")}
	k.configure(func(c *tracker.Config) { c.Store = broken })
	k.audit()
	k.host.res.MemoryMiB++
	broken.left = 1
	_, err := k.tr.Audit(k.Context(), "h1")
	k.is(err, broken.err)
	k.ok(k.claim("a", f1, 1))
	if u, _ := k.tr.Usage("h1"); u.Capacity.MemoryMiB != 512 || !u.Used.Equal(f1) {
		k.Fatalf("%+v", u)
	}
	k.audit()
	if rec := k.used(f1); rec.Capacity.MemoryMiB != 513 {
		k.Fatalf("%+v", rec)
	}
	if u, _ := k.tr.Usage("h1"); u.Capacity.MemoryMiB != 513 || !u.Used.Equal(f1) {
		k.Fatalf("%+v", u)
	}
}

// hooked calls before ahead of the nth transaction.
type hooked struct {
	store.Runner
	n      atomic.Int64
	before func(n int64)
}

func (h *hooked) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	h.before(h.n.Add(1))
	return h.Runner.InTx(ctx, f)
}

func trkTwin(k *trk) {
	h2 := node()
	hosts := func(c *tracker.Config) {
		c.Hosts = func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h2", Driver: h2}}, nil }
	}
	k.configure(hosts)
	twin := k.tr
	tx := &hooked{Runner: k.Stores, before: func(n int64) {
		if n == 4 { // between the second try's load and save
			_, err := twin.Audit(k.Context(), "h2")
			k.ok(err)
		}
	}}
	k.configure(func(c *tracker.Config) {
		hosts(c)
		c.Tx, c.Store = tx, &failingSaves{Store: k.d, left: 1, err: errors.New("boom")}
	})
	if _, err := k.tr.Audit(k.Context(), "h2"); err == nil {
		k.Fatal("no error of the first try")
	}
	if _, ok := k.tr.Usage("h2"); ok {
		k.Fatal("a record that was not saved")
	}
	_, err := k.tr.Audit(k.Context(), "h2")
	k.ok(err)
	if rec := k.usedOn("h2", tracker.Amount{}); rec.Generation != 1 {
		k.Fatalf("%+v", rec)
	}
}

func trkLeaked(k *trk) {
	listed, fails := []string{"vm-a"}, false
	k.configure(func(c *tracker.Config) {
		c.Workloads = func(_ context.Context, host string) ([]string, error) {
			if fails {
				return nil, errors.New("boom")
			}
			return listed, nil
		}
	})
	k.placed("a", f1, 1)
	audit := func(after time.Duration) {
		k.Helper()
		advance(k, k.Stores, after)
		k.audit()
	}
	k.host.runs()
	audit(0)
	audit(2 * time.Minute) // listed
	k.used(f1)
	listed = nil
	k.host.runs("vm-a")
	audit(0)
	audit(2 * time.Minute) // runs
	k.used(f1)
	k.host.runs()
	audit(0)
	fails = true
	audit(2 * time.Minute) // one source did not answer
	fails = false
	audit(0)
	k.used(f1)
	audit(59 * time.Second)
	k.used(f1)
	audit(time.Second)
	k.used(tracker.Amount{})
	if n := strings.Count(k.log.String(), "tracker: leaked"); n != 1 {
		k.Fatalf("%d warnings:\n%s", n, k.log)
	}

	k.configure(nil) // nobody lists workloads
	k.placed("b", f1, 1)
	audit(0)
	audit(2 * time.Minute)
	audit(2 * time.Minute)
	k.used(f1)
}

func trkFirstSight(k *trk) {
	k.host.runs("vm-a")
	for _, n := range k.audit().Notes {
		if n.Kind == tracker.Orphan {
			k.Fatal("an orphan at first sight")
		}
	}
	k.placed("a", f1, 1)
	if r := k.audit(); len(r.Notes) != 0 || !r.Usage.Orphans.Equal(tracker.Amount{}) {
		k.Fatalf("%+v", r)
	}
}

func trkStates(k *trk) {
	k.placed("a", f1, 1)
	for range 2 {
		k.host.runs("vm-a")
		k.audit()
		k.used(f1)
		k.host.runs() // stopped
		k.audit()
		k.used(f1)
	}
	k.ok(k.tr.Release(k.Context(), "h1", "vm-a", 2))
	k.audit()
	k.used(tracker.Amount{})
}

func trkBetween(k *trk) {
	other := k.tr
	n, change := int64(0), func() {}
	tx := &hooked{Runner: k.Stores, before: func(i int64) {
		if i == n {
			change()
		}
	}}
	k.configure(func(c *tracker.Config) { c.Tx = tx })
	step := func(what string, f func() error) {
		k.Helper()
		k.host.res.MemoryMiB++ // something to save
		n, change = tx.n.Load()+2, func() { k.ok(f()) }
		k.audit()
		rec, rows := k.load("h1")
		var sum tracker.Amount
		for _, r := range rows {
			sum = sum.Plus(r.Amount)
		}
		u, _ := k.tr.Usage("h1")
		if !rec.Used.Equal(sum) || rec.Capacity.MemoryMiB != k.host.res.MemoryMiB || !u.Used.Equal(sum) || u.Generation != rec.Generation {
			k.Fatalf("after a %s: %+v, rows %+v, snapshot %+v", what, rec, sum, u)
		}
	}
	claim := tracker.Request{ID: "x", Host: "h1", Workload: "x", Amount: f1, Epoch: 1}
	step("claim", func() error { _, err := other.Claim(k.Context(), claim); return err })
	step("commit", func() error { return other.Commit(k.Context(), "x", 1) })
	step("release", func() error { return other.Release(k.Context(), "h1", "x", 1) })
	step("claim", func() error { _, err := other.Claim(k.Context(), claim); return err })
	step("abort", func() error { return other.Abort(k.Context(), "x", 1) })

	k.host.res.MemoryMiB++
	tx.before = func(i int64) {
		if (i-n)%2 == 0 {
			claim.Epoch++
			_, err := other.Claim(k.Context(), claim)
			k.ok(err)
			k.ok(other.Abort(k.Context(), "x", claim.Epoch))
		}
	}
	n = tx.n.Load() + 2
	k.log.Reset()
	_, err := k.tr.Audit(k.Context(), "h1")
	k.is(err, store.ErrConflict)
	if tx.n.Load() != n-2+8 || k.log.Len() > 0 {
		k.Fatalf("%d transactions, log %q", tx.n.Load()-n+2, k.log)
	}
	tx.before = func(int64) {}
	k.audit()
	if rec := k.used(tracker.Amount{}); rec.Capacity.MemoryMiB != k.host.res.MemoryMiB {
		k.Fatalf("%+v", rec)
	}
}

func trkElsewhere(k *trk) {
	h2 := k.pair()
	k.placed("a", f1, 1)
	h2.runs("vm-a")
	_, err := k.tr.Audit(k.Context(), "h2")
	k.ok(err)
	r := k.audit()
	if len(r.Notes) != 1 || r.Notes[0].Kind != tracker.Elsewhere || r.Notes[0].Detail != "runs on h2" {
		k.Fatalf("%+v", r.Notes)
	}
	k.used(f1)
}

// A VM that runs for a claim of today is no reason to adopt its claim of yesterday.
func trkAdoptOnce(k *trk) {
	k.ok(k.claim("old", f1, 1))
	advance(k, k.Stores, 11*time.Minute)
	k.audit()
	_, err := k.tr.Claim(k.Context(), tracker.Request{ID: "new", Host: "h1", Workload: "vm-old", Amount: f1, Epoch: 2})
	k.ok(err)
	k.host.runs("vm-old")
	k.audit()
	k.audit()
	k.used(f1)
	advance(k, k.Stores, 11*time.Minute)
	k.audit()
	k.used(f1)
	k.ok(k.tr.Commit(k.Context(), "new", 2))
	k.is(k.tr.Commit(k.Context(), "old", 1), tracker.ErrExpired)
}
