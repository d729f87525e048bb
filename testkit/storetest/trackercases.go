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
	_, err = k.tr.Claim(k.Context(), tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1, Devices: map[string]int{"gpu": -1}})
	k.is(err, tracker.ErrInvalid)
	for field, m := range map[string]tracker.MoveRequest{
		"From": {ID: "m", Workload: "w", To: "h1", Amount: f1},
		"To":   {ID: "m", Workload: "w", From: "h1", Amount: f1},
		"ID":   {Workload: "w", From: "h1", To: "h2", Amount: f1},
	} {
		_, err := k.tr.ClaimMove(k.Context(), m)
		var f *tracker.FieldError
		if !errors.As(err, &f) || f.Field != field {
			k.Errorf("move: %s: %v", field, err)
		}
	}
	for _, err := range []error{k.tr.Commit(k.Context(), "", 1), k.tr.Abort(k.Context(), "a", -1), k.tr.Release(k.Context(), "", "w", 1),
		k.tr.Release(k.Context(), "h1", "", 1), k.tr.Confirm(k.Context(), "", 1, tracker.ConfirmOptions{}), k.tr.Revert(k.Context(), "a", -1),
		k.tr.Disable(k.Context(), "h1", ""), k.tr.SetCapacity(k.Context(), "h1", tracker.Amount{VCPUs: -1})} {
		k.is(err, tracker.ErrInvalid)
	}
	k.used(tracker.Amount{})
}

func trkEnded(k *trk) {
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	_, claim := k.tr.Claim(ctx, tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1})
	_, audit := k.tr.Audit(ctx, "h1")
	_, move := k.tr.ClaimMove(ctx, tracker.MoveRequest{ID: "a", Workload: "w", From: "h1", To: "h2", Amount: f1})
	_, claims := k.tr.Claims(ctx, "h1")
	_, step := k.tr.Step(ctx)
	for i, err := range []error{claim, audit, k.tr.Commit(ctx, "a", 1), k.tr.Abort(ctx, "a", 1), k.tr.Renew(ctx, "a", 1),
		k.tr.Release(ctx, "h1", "w", 1), k.tr.Disable(ctx, "h1", "x"), k.tr.Refresh(ctx), k.tr.Enable(ctx, "h1"),
		k.tr.AutoDisable(ctx, "h1", "x"), k.tr.AutoEnable(ctx, "h1"), k.tr.SetCapacity(ctx, "h1", f1), k.tr.Remove(ctx, "h1"),
		k.tr.Confirm(ctx, "a", 1, tracker.ConfirmOptions{}), k.tr.Revert(ctx, "a", 1), move, claims, step} {
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

func trkDevices(k *trk) {
	k.host.res.Devices = map[string][]string{"gpu": {"g3", "g0", "g2", "g1"}}
	k.audit()
	claim := func(id string) (tracker.Claim, error) {
		return k.tr.Claim(k.Context(), tracker.Request{ID: id, Host: "h1", Workload: id, Devices: map[string]int{"gpu": 2}, Epoch: 1})
	}
	holds := func(id, want string) {
		k.Helper()
		c, err := claim(id)
		k.ok(err)
		if got := strings.Join(c.Devices["gpu"], " "); got != want {
			k.Fatalf("%s got %s, want %s", id, got, want)
		}
	}
	holds("a", "g0 g1")
	holds("b", "g2 g3")
	holds("a", "g0 g1") // again
	_, err := claim("c")
	k.is(err, tracker.ErrNoRoom)
	if !strings.HasSuffix(err.Error(), "device gpu: free 0 < requested 2") {
		k.Fatal(err)
	}
	_, err = k.tr.Claim(k.Context(), tracker.Request{ID: "a", Host: "h1", Workload: "a", Devices: map[string]int{"gpu": 1}, Epoch: 1})
	k.is(err, tracker.ErrMismatch)
	k.ok(k.tr.Commit(k.Context(), "b", 1))
	k.ok(k.tr.Abort(k.Context(), "a", 1))
	k.audit()
	holds("d", "g0 g1")
	_, rows := k.load("h1")
	if len(rows) != 2 || strings.Join(rows[0].Devices["gpu"], " ") != "g2 g3" {
		k.Fatalf("%+v", rows)
	}
}

// lateRunner commits, and says that the context had ended.
type lateRunner struct{ store.Runner }

func (r lateRunner) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	if err := r.Runner.InTx(ctx, f); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

func trkLate(k *trk) {
	sure := k.tr
	k.configure(func(c *tracker.Config) { c.Tx = lateRunner{k.Stores} })
	err := k.claim("a", f1, 1)
	k.is(err, hypervisor.ErrOutcomeUnknown)
	k.is(err, context.DeadlineExceeded)
	k.used(f1)
	k.tr = sure
	k.ok(k.claim("a", f1, 1))
	k.used(f1)
}

func trkWraps(k *trk) {
	any := map[string]int64{tracker.VCPUs: tracker.Unlimited, tracker.Memory: tracker.Unlimited, tracker.Disk: tracker.Unlimited}
	rec, _ := k.load("h1")
	rec.Used.MemoryMiB = 1<<63 - 100
	in(k, k, func(ctx context.Context, tx store.Tx) error {
		_, err := k.d.SaveHost(ctx, tx, rec)
		return err
	})
	_, err := k.tr.Claim(k.Context(), tracker.Request{ID: "a", Host: "h1", Workload: "w", Amount: f1, Limits: any})
	k.is(err, tracker.ErrInvalid)
}
