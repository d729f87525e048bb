package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

type trackerCase struct {
	name  string
	check func(t *trk)
}

func trackers(t *testing.T, open func(t testing.TB) testkit.Stores) {
	for _, c := range slices.Concat(trackerClaims, trackerMoves, trackerAudits, trackerHosts) {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.check(newTrk(t, s, s.Tracker()))
		})
	}
}

var trackerClaims = []trackerCase{
	{"trk-01 empty host", trkEmpty},
	{"trk-03 commit and release", trkRelease},
	{"trk-07 ratios", trkRatios},
	{"trk-08 disabled or unknown host", trkDisabled},
	{"trk-09 overhead", trkOverhead},
	{"trk-10 audit after claims", trkTwice},
	{"trk-11 abort twice", trkAbort},
	{"trk-12 limits", trkLimits},
	{"trk-13 same ID", trkSame},
	{"trk-14 commit by epoch", trkCommit},
	{"trk-15 expiry", trkExpiry},
	{"trk-17 devices", trkDevices},
	{"trk-30 forty claims", trkForty},
	{"trk-36 bad input", trkInvalid},
	{"trk-48 ended context", trkEnded},
	{"trk-49 in the caller's transaction", trkTx},
	{"trk-51 late acknowledgement", trkLate},
	{"put 4: one row per workload", trkReplace},
	{"put 5: a sum that wraps", trkWraps},
	{"foreign transaction", trkForeign},
}

// trk is a tracker on one host of 4 VCPUs, 512 MiB and 6 GiB of disk, reserved 0, ratios 1.
type trk struct {
	*testing.T
	testkit.Stores
	d    tracker.Store
	host *fakeHost // h1
	tr   *tracker.Tracker
	log  *strings.Builder
}

// fakeHost reports what the test sets.
type fakeHost struct {
	hypervisor.Driver
	mu  sync.Mutex
	res hypervisor.Resources
	err error
}

func (h *fakeHost) Resources(context.Context) (hypervisor.Resources, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.res, h.err
}

// runs sets who has a process on the host.
func (h *fakeHost) runs(vms ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.res.PerVM = map[string]hypervisor.Resources{}
	for _, vm := range vms {
		h.res.PerVM[vm] = hypervisor.Resources{VCPUsUsed: 1, MemoryMiBUsed: 128}
	}
}

func node() *fakeHost {
	return &fakeHost{res: hypervisor.Resources{VCPUs: 4, MemoryMiB: 512, DiskMiB: 6 << 10}}
}

func newTrk(t *testing.T, s testkit.Stores, d tracker.Store) *trk {
	k := &trk{T: t, Stores: s, d: d, host: node(), log: &strings.Builder{}}
	k.configure(nil)
	k.audit()
	return k
}

func (k *trk) configure(set func(*tracker.Config)) {
	k.Helper()
	cfg := tracker.Config{
		Env: drover.Env{Logger: slog.New(slog.NewTextHandler(k.log, nil))}, Tx: k.Stores, Store: k.d, Reserved: &tracker.Amount{}, Ratios: map[string]float64{tracker.VCPUs: 1},
		Hosts: func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h1", Driver: k.host}}, nil },
	}
	if set != nil {
		set(&cfg)
	}
	var err error
	k.tr, err = tracker.New(cfg)
	k.ok(err)
}

func (k *trk) ok(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *trk) is(err, want error) {
	k.Helper()
	if !errors.Is(err, want) {
		k.Fatalf("got %v, want %v", err, want)
	}
}

func (k *trk) audit() tracker.Report {
	k.Helper()
	r, err := k.tr.Audit(k.Context(), "h1")
	k.ok(err)
	return r
}

var f1 = tracker.Amount{VCPUs: 1, MemoryMiB: 128, DiskMiB: 1 << 10}

func (k *trk) claim(id string, a tracker.Amount, epoch int64) error {
	_, err := k.tr.Claim(k.Context(), tracker.Request{ID: id, Host: "h1", Workload: "vm-" + id, Amount: a, Epoch: epoch})
	return err
}

// used checks the sum as stored, and that it is that of the rows.
func (k *trk) used(want tracker.Amount) tracker.Record {
	k.Helper()
	return k.usedOn("h1", want)
}

func (k *trk) load(host string) (rec tracker.Record, rows []tracker.Row) {
	k.Helper()
	in(k, k, func(ctx context.Context, tx store.Tx) (err error) {
		rec, rows, err = k.d.LoadHost(ctx, tx, host)
		return err
	})
	return rec, rows
}

func (k *trk) usedOn(host string, want tracker.Amount) tracker.Record {
	k.Helper()
	rec, rows := k.load(host)
	var sum tracker.Amount
	for _, r := range rows {
		if r.Counted() {
			sum = sum.Plus(r.Amount)
		}
	}
	if !rec.Used.Equal(want) || !sum.Equal(want) {
		k.Fatalf("used %+v, rows %+v; want %+v", rec.Used, sum, want)
	}
	return rec
}

func times(n int64, a tracker.Amount) (sum tracker.Amount) {
	for range n {
		sum = sum.Plus(a)
	}
	return sum
}

func trkEmpty(k *trk) {
	u, ok := k.tr.Usage("h1")
	if !ok || !u.Free.Equal(tracker.Amount{VCPUs: 4, MemoryMiB: 512, DiskMiB: 6 << 10}) || !u.Used.Equal(tracker.Amount{}) || u.Running != 0 {
		k.Fatalf("%v %+v", ok, u)
	}
}

func trkRelease(k *trk) {
	k.ok(k.claim("a", f1, 1))
	k.ok(k.claim("b", f1, 2))
	k.ok(k.tr.Commit(k.Context(), "a", 1))
	k.ok(k.tr.Commit(k.Context(), "b", 2))
	k.ok(k.tr.Release(k.Context(), "h1", "vm-b", 3))
	if r := k.used(f1); r.Running != 1 || r.InFlight != 0 {
		k.Fatalf("%+v", r)
	}
	if u, _ := k.tr.Usage("h1"); u.Free.MemoryMiB != 384 || u.Free.DiskMiB != 5<<10 {
		k.Fatalf("%+v", u)
	}
	k.ok(k.tr.Release(k.Context(), "h1", "vm-b", 3))
	k.ok(k.tr.Release(k.Context(), "h1", "never", 3))
}

func trkRatios(k *trk) {
	k.configure(func(c *tracker.Config) {
		c.Ratios = map[string]float64{tracker.VCPUs: 2, tracker.Memory: 2, tracker.Disk: 2}
	})
	for i := range 8 {
		k.ok(k.claim(fmt.Sprint(i), f1, 1))
	}
	k.used(times(8, f1))
	err := k.claim("9", f1, 1)
	var full *tracker.NoRoom
	if !errors.As(err, &full) || len(full.Reasons) != 2 || full.Reasons[0].Resource != tracker.VCPUs || full.Reasons[1].Resource != tracker.Memory {
		k.Fatal(err)
	}
}

func trkDisabled(k *trk) {
	k.ok(k.tr.Disable(k.Context(), "h1", "rack 7 burns"))
	before := k.used(tracker.Amount{}).Generation
	err := k.claim("a", f1, 1)
	k.is(err, tracker.ErrDisabled)
	if !strings.Contains(err.Error(), "rack 7 burns") {
		k.Fatal(err)
	}
	if r := k.used(tracker.Amount{}); r.Generation != before {
		k.Fatal("generation moved")
	}
	k.ok(k.tr.Enable(k.Context(), "h1"))
	k.ok(k.claim("a", f1, 1))
	_, err = k.tr.Claim(k.Context(), tracker.Request{ID: "x", Host: "h2", Workload: "w", Amount: f1})
	k.is(err, tracker.ErrNotFound)
}

func trkOverhead(k *trk) {
	k.host.res = hypervisor.Resources{VCPUs: 1, MemoryMiB: 5, DiskMiB: 6}
	k.configure(func(c *tracker.Config) {
		c.Overhead = func(tracker.Amount) tracker.Amount { return tracker.Amount{MemoryMiB: 1} }
	})
	k.audit()
	k.ok(k.claim("a", tracker.Amount{MemoryMiB: 3, DiskMiB: 2}, 1))
	k.used(tracker.Amount{MemoryMiB: 4, DiskMiB: 2})
	if u, _ := k.tr.Usage("h1"); u.Free.MemoryMiB != 1 || u.Free.DiskMiB != 4 {
		k.Fatalf("%+v", u)
	}
	k.ok(k.tr.Abort(k.Context(), "a", 1))
	k.used(tracker.Amount{})
}

func trkTwice(k *trk) {
	k.ok(k.claim("a", f1, 1))
	k.ok(k.claim("b", f1, 1))
	k.used(times(2, f1))
	k.audit()
	k.used(times(2, f1))
}

func trkAbort(k *trk) {
	k.ok(k.claim("a", f1, 1))
	k.ok(k.tr.Abort(k.Context(), "a", 1))
	k.ok(k.tr.Abort(k.Context(), "a", 1))
	k.used(tracker.Amount{})
}
