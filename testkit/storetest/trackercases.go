package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

func trkLimits(k *trk) {
	try := func(id string, a tracker.Amount, limits map[string]int64) error {
		_, err := k.tr.Claim(k.Context(), tracker.Request{ID: id, Host: "h1", Workload: id, Amount: a, Limits: limits})
		return err
	}
	big := map[string]int64{tracker.VCPUs: tracker.Unlimited, tracker.Memory: tracker.Unlimited, tracker.Disk: tracker.Unlimited}
	k.ok(try("any", tracker.Amount{VCPUs: 1000, MemoryMiB: 1 << 30, DiskMiB: 1 << 30}, big))
	k.ok(k.tr.Abort(k.Context(), "any", 0))
	mem := map[string]int64{tracker.Memory: 2048}
	k.ok(try("a", tracker.Amount{MemoryMiB: 2040}, mem))
	k.is(try("b", tracker.Amount{MemoryMiB: 9}, mem), tracker.ErrNoRoom)
	k.ok(try("b", tracker.Amount{MemoryMiB: 8}, mem))
	err := try("c", tracker.Amount{MemoryMiB: 1, DiskMiB: 7 << 10}, mem)
	k.is(err, tracker.ErrNoRoom)
	if want := "memory: free 0 MiB < requested 1 MiB; disk: free 6144 MiB < requested 7168 MiB"; !strings.HasSuffix(err.Error(), want) {
		k.Fatal(err)
	}
}

func trkSame(k *trk) {
	k.ok(k.claim("a", f1, 5))
	k.ok(k.claim("a", f1, 5))
	k.used(f1)
	k.is(k.claim("a", times(2, f1), 5), tracker.ErrMismatch)
	k.ok(k.claim("a", f1, 6))
	k.is(k.claim("a", f1, 5), tracker.ErrStaleEpoch)
	k.is(k.tr.Abort(k.Context(), "a", 5), tracker.ErrStaleEpoch)
	k.used(f1)
}

func trkCommit(k *trk) {
	k.ok(k.claim("a", f1, 5))
	k.ok(k.claim("a", f1, 6))
	k.is(k.tr.Commit(k.Context(), "a", 5), tracker.ErrStaleEpoch)
	k.ok(k.tr.Commit(k.Context(), "a", 6))
	k.ok(k.tr.Commit(k.Context(), "a", 6))
	k.is(k.tr.Abort(k.Context(), "a", 6), tracker.ErrMismatch)
	k.is(k.tr.Commit(k.Context(), "nobody", 6), tracker.ErrNotFound)
	k.is(k.tr.Release(k.Context(), "h1", "vm-a", 5), tracker.ErrStaleEpoch)
	if r := k.used(f1); r.Running != 1 || r.InFlight != 0 {
		k.Fatalf("%+v", r)
	}
}

func trkExpiry(k *trk) {
	all := tracker.Amount{MemoryMiB: 512}
	k.ok(k.claim("a", all, 1))
	advance(k, k.Stores, 9*time.Minute)
	k.ok(k.tr.Renew(k.Context(), "a", 1))
	advance(k, k.Stores, 9*time.Minute)
	k.is(k.claim("b", all, 1), tracker.ErrNoRoom)
	advance(k, k.Stores, time.Minute+time.Second)
	k.ok(k.claim("b", all, 1))
	k.used(all)
	k.is(k.tr.Commit(k.Context(), "a", 1), tracker.ErrExpired)
	k.is(k.tr.Renew(k.Context(), "a", 1), tracker.ErrExpired)
	k.is(k.claim("a", all, 1), tracker.ErrNoRoom)
	k.ok(k.tr.Abort(k.Context(), "b", 1))
	k.ok(k.claim("a", all, 1))
	k.used(all)
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
	if len(r.Notes) != 1 || r.Notes[0].Kind != tracker.Adopt {
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

func trkForty(k *trk) {
	k.host.res = hypervisor.Resources{VCPUs: 100, MemoryMiB: 16 * 128, DiskMiB: 1 << 20}
	k.audit()
	errs := make(chan error, 40)
	for i := range 40 {
		go func() { errs <- k.claim(fmt.Sprint(i), f1, 1) }()
	}
	got, full := 0, 0
	for range 40 {
		switch err := <-errs; {
		case err == nil:
			got++
		case errors.Is(err, tracker.ErrNoRoom):
			full++
		default:
			k.Error(err)
		}
	}
	if got != 16 || full != 24 {
		k.Fatalf("%d claims, %d refused", got, full)
	}
	k.used(times(16, f1))
}

func trkInvalid(k *trk) {
	good := tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1}
	for field, bad := range map[string]func(r *tracker.Request){
		"ID":       func(r *tracker.Request) { r.ID = "" },
		"Host":     func(r *tracker.Request) { r.Host = "" },
		"Workload": func(r *tracker.Request) { r.Workload = "" },
		"Amount":   func(r *tracker.Request) { r.Amount.MemoryMiB = -1 },
		"Epoch":    func(r *tracker.Request) { r.Epoch = -1 },
		"TTL":      func(r *tracker.Request) { r.TTL = -1 },
	} {
		r := good
		bad(&r)
		_, err := k.tr.Claim(k.Context(), r)
		var f *tracker.FieldError
		if !errors.Is(err, tracker.ErrInvalid) || !errors.As(err, &f) || f.Field != field {
			k.Errorf("%s: %v", field, err)
		}
	}
	huge := good
	huge.Amount.DiskMiB = 1<<63 - 1
	_, err := k.tr.Claim(k.Context(), huge)
	k.is(err, tracker.ErrInvalid)
	_, err = tracker.New(tracker.Config{Tx: k.Stores, Store: k.d, Ratios: map[string]float64{tracker.Disk: 0}})
	k.is(err, tracker.ErrInvalid)
	k.used(tracker.Amount{})
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

func trkEnded(k *trk) {
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	_, claim := k.tr.Claim(ctx, tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1})
	_, audit := k.tr.Audit(ctx, "h1")
	for i, err := range []error{claim, audit, k.tr.Commit(ctx, "a", 1), k.tr.Abort(ctx, "a", 1), k.tr.Renew(ctx, "a", 1),
		k.tr.Release(ctx, "h1", "w", 1), k.tr.Disable(ctx, "h1", "x"), k.tr.Refresh(ctx)} {
		if !errors.Is(err, context.Canceled) {
			k.Errorf("%d: %v", i, err)
		}
	}
	k.used(tracker.Amount{})
}

func trkTx(k *trk) {
	boom := errors.New("boom")
	err := k.InTx(k.Context(), func(ctx context.Context, tx store.Tx) error {
		if _, err := k.tr.ClaimTx(ctx, tx, tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1}); err != nil {
			return err
		}
		return boom
	})
	k.is(err, boom)
	k.used(tracker.Amount{})
	in(k, k, func(ctx context.Context, tx store.Tx) error {
		_, err := k.tr.ClaimTx(ctx, tx, tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1})
		return err
	})
	k.used(f1)
}

func trkSave(k *trk) {
	rec := k.used(tracker.Amount{})
	for _, generation := range []int64{0, rec.Generation - 1, rec.Generation + 1} {
		bad := rec
		bad.Generation = generation
		err := failing(k, k, func(ctx context.Context, tx store.Tx) error {
			_, err := k.d.SaveHost(ctx, tx, bad)
			return err
		})
		k.is(err, store.ErrConflict)
	}
	rec.Seen, rec.Reason = []string{"a", "b"}, "x"
	rec.Capacity.Extra = map[string]int64{"gpu": 2}
	in(k, k, func(ctx context.Context, tx store.Tx) error {
		_, err := k.d.SaveHost(ctx, tx, rec)
		return err
	})
	var all []tracker.Record
	in(k, k, func(ctx context.Context, tx store.Tx) (err error) {
		all, err = k.d.Hosts(ctx, tx)
		return err
	})
	if len(all) != 1 || !all[0].Capacity.Equal(rec.Capacity) || len(all[0].Seen) != 2 || all[0].Reason != "x" || all[0].Generation != rec.Generation+1 {
		k.Fatalf("%+v", all)
	}
}

func trkReplace(k *trk) {
	again := func(epoch int64) error {
		_, err := k.tr.Claim(k.Context(), tracker.Request{ID: "again", Host: "h1", Workload: "vm-a", Amount: f1, Epoch: epoch})
		return err
	}
	k.ok(k.claim("a", f1, 5))
	err := again(5)
	k.is(err, tracker.ErrMismatch)
	if !strings.Contains(err.Error(), "a holds vm-a") {
		k.Fatal(err)
	}
	k.ok(again(6))
	k.used(f1)
	k.is(k.tr.Commit(k.Context(), "a", 5), tracker.ErrNotFound)
}

func trkForeign(k *trk) {
	_, err := k.d.Hosts(k.Context(), foreignTx{})
	k.is(err, store.ErrForeign)
}
