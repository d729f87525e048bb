package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

var trackerHosts = []trackerCase{
	{"trk-33 host that is gone, and removed", trkGone},
	{"trk-34 who disabled a host", trkWho},
	{"capacity that no driver tells", trkBlind},
	{"save: guard", trkSave},
	{"delete: guard", trkDelete},
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

func trkGone(k *trk) {
	k.placed("a", f1, 1)
	k.host.err = &hypervisor.Error{Class: hypervisor.ErrGone, Op: "resources"}
	before := k.used(f1).Generation
	r, err := k.tr.Audit(k.Context(), "h1")
	k.is(err, hypervisor.ErrGone)
	if len(r.Notes) != 1 || r.Notes[0].Kind != tracker.Unread {
		k.Fatalf("%+v", r)
	}
	if u, _ := k.tr.Usage("h1"); !u.Stale || u.Capacity.MemoryMiB != 512 || k.used(f1).Generation != before {
		k.Fatalf("%+v", u)
	}
	k.ok(k.claim("b", f1, 1))
	k.is(k.claim("c", times(3, f1), 1), tracker.ErrNoRoom)
	k.is(k.tr.Remove(k.Context(), "h1"), tracker.ErrInUse)
	k.ok(k.tr.Abort(k.Context(), "b", 1))
	k.ok(k.tr.Release(k.Context(), "h1", "vm-a", 1))
	k.ok(k.tr.Remove(k.Context(), "h1"))
	k.is(k.tr.Remove(k.Context(), "h1"), tracker.ErrNotFound)
	if _, ok := k.tr.Usage("h1"); ok {
		k.Fatal("still known")
	}
	k.host.err = nil
	for i := range 10 { // one of a removal and a claim fails
		k.audit()
		errs := make(chan error, 1)
		go func() { errs <- k.tr.Remove(k.Context(), "h1") }()
		claim, remove := k.claim(fmt.Sprint(i), f1, 1), <-errs
		switch {
		case claim == nil && errors.Is(remove, tracker.ErrInUse):
			k.ok(k.tr.Abort(k.Context(), fmt.Sprint(i), 1))
			k.ok(k.tr.Remove(k.Context(), "h1"))
		case remove != nil || !errors.Is(claim, tracker.ErrNotFound):
			k.Fatalf("claim: %v, remove: %v", claim, remove)
		}
	}
}

func trkWho(k *trk) {
	ctx := k.Context()
	is := func(enabled bool, reason string) {
		k.Helper()
		if r := k.used(tracker.Amount{}); r.Enabled != enabled || r.Reason != reason {
			k.Fatalf("enabled %v, reason %q", r.Enabled, r.Reason)
		}
	}
	k.ok(k.tr.AutoDisable(ctx, "h1", "connection lost: x"))
	is(false, "AUTO: connection lost: x")
	k.is(k.claim("a", f1, 1), tracker.ErrDisabled)
	k.ok(k.tr.AutoDisable(ctx, "h1", "AUTO: again"))
	is(false, "AUTO: connection lost: x")
	k.ok(k.tr.AutoEnable(ctx, "h1"))
	is(true, "")
	k.ok(k.tr.Disable(ctx, "h1", "maintenance"))
	k.ok(k.tr.AutoDisable(ctx, "h1", "connection lost: y"))
	k.ok(k.tr.AutoEnable(ctx, "h1"))
	is(false, "maintenance")
	err := k.tr.Disable(ctx, "h1", "AUTO: mine")
	k.is(err, tracker.ErrInvalid)
	if !strings.Contains(err.Error(), "reason") {
		k.Fatal(err)
	}
	k.ok(k.tr.Enable(ctx, "h1"))
	is(true, "")
	k.is(k.tr.Disable(ctx, "h9", "x"), tracker.ErrNotFound)
}

// blind is a driver that cannot tell capacity.
type blind struct {
	hypervisor.Driver
	vms []hypervisor.VM
}

func (b *blind) List(context.Context, hypervisor.Filter) ([]hypervisor.VM, error) { return b.vms, nil }

func trkBlind(k *trk) {
	b := &blind{vms: []hypervisor.VM{{ID: "stranger"}, {ID: "off", Incarnation: -1}}}
	k.configure(func(c *tracker.Config) {
		c.Hosts = func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h2", Driver: b}}, nil }
	})
	_, err := k.tr.Audit(k.Context(), "h2")
	k.is(err, hypervisor.ErrUnsupported)
	k.ok(k.tr.SetCapacity(k.Context(), "h2", tracker.Amount{VCPUs: 2, MemoryMiB: 256, DiskMiB: 1 << 10, Extra: map[string]int64{"ip": 5}}))
	for range 3 {
		r, err := k.tr.Audit(k.Context(), "h2")
		k.ok(err)
		if !r.Usage.Orphans.Equal(tracker.Amount{}) || r.Usage.Free.MemoryMiB != 256 || r.Usage.Free.Get("ip") != 5 || len(r.Notes) != 0 {
			k.Fatalf("%+v", r)
		}
	}
	claim := func(id string) error {
		_, err := k.tr.Claim(k.Context(), tracker.Request{ID: id, Host: "h2", Workload: id, Amount: tracker.Amount{Extra: map[string]int64{"ip": 3}}})
		return err
	}
	k.ok(claim("a"))
	err = claim("b")
	k.is(err, tracker.ErrNoRoom)
	if !strings.HasSuffix(err.Error(), "ip: free 2 < requested 3") {
		k.Fatal(err)
	}
}

func trkDelete(k *trk) {
	rec, _ := k.load("h1")
	del := func(host string, generation int64) error {
		return k.InTx(k.Context(), func(ctx context.Context, tx store.Tx) error { return k.d.DeleteHost(ctx, tx, host, generation) })
	}
	k.is(del("h9", 1), tracker.ErrNotFound)
	k.is(del("h1", rec.Generation+1), store.ErrConflict)
	k.ok(k.claim("a", f1, 1))
	rec, _ = k.load("h1")
	k.is(del("h1", rec.Generation), tracker.ErrInUse)
	k.ok(k.tr.Abort(k.Context(), "a", 1))
	rec, _ = k.load("h1")
	k.ok(del("h1", rec.Generation))
	k.is(del("h1", rec.Generation), tracker.ErrNotFound)
}
