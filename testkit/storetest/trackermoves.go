package storetest

import (
	"context"
	"strings"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

var trackerMoves = []trackerCase{
	{"trk-04 one side of a move", trkOneSide},
	{"trk-05 over capacity", trkOver},
	{"trk-21 resize", trkResize},
	{"trk-22 move", trkMove},
	{"trk-23 two moves to one host", trkTwoMoves},
	{"trk-26 move of what is gone", trkMoveGone},
	{"trk-35 disabled host and moves", trkDisabledMoves},
	{"settle 1: epochs and what is no move", trkSettle},
}

var f2 = tracker.Amount{VCPUs: 2, MemoryMiB: 256, DiskMiB: 5 << 10}

// pair gives the tracker a second host of the same size, h2.
func (k *trk) pair() *fakeHost {
	k.Helper()
	h2 := node()
	k.configure(func(c *tracker.Config) {
		c.Hosts = func(context.Context) ([]tracker.Host, error) {
			return []tracker.Host{{ID: "h1", Driver: k.host}, {ID: "h2", Driver: h2}}, nil
		}
	})
	_, err := k.tr.Step(k.Context())
	k.ok(err)
	return h2
}

// placed claims and commits.
func (k *trk) placed(id string, a tracker.Amount, epoch int64) {
	k.Helper()
	k.ok(k.claim(id, a, epoch))
	k.ok(k.tr.Commit(k.Context(), id, epoch))
}

func (k *trk) move(id, vm, from, to string, a tracker.Amount, epoch int64) error {
	_, err := k.tr.ClaimMove(k.Context(), tracker.MoveRequest{ID: id, Workload: vm, From: from, To: to, Amount: a, Epoch: epoch,
		Limits: map[string]int64{tracker.Disk: tracker.Unlimited}})
	return err
}

func (k *trk) confirm(id string, epoch int64, keep bool) error {
	return k.tr.Confirm(k.Context(), id, epoch, tracker.ConfirmOptions{KeepSource: keep})
}

func (k *trk) counts(r tracker.Record, running, inFlight int) {
	k.Helper()
	if r.Running != running || r.InFlight != inFlight {
		k.Fatalf("%s: %d running, %d in flight; want %d, %d", r.Host, r.Running, r.InFlight, running, inFlight)
	}
}

func trkOneSide(k *trk) {
	k.pair()
	k.placed("a", f1, 1)
	k.ok(k.move("m", "vm-a", "h1", "h2", f1, 2))
	k.ok(k.confirm("m", 2, true))
	k.counts(k.used(f1), 0, 1)
	k.counts(k.usedOn("h2", f1), 1, 0)
	k.ok(k.tr.Release(k.Context(), "h1", "vm-a", 2))
	k.used(tracker.Amount{})
	k.ok(k.move("back", "vm-a", "h2", "h1", f2, 3))
	k.counts(k.used(f2), 0, 1)
	if u, _ := k.tr.Usage("h1"); u.Free.MemoryMiB != 256 || u.Free.DiskMiB != 1<<10 {
		k.Fatalf("%+v", u)
	}
}

func trkOver(k *trk) {
	k.placed("a", f1, 1)
	k.placed("b", f1, 1)
	k.ok(k.move("bigger", "vm-b", "h1", "h1", f2, 2))
	k.ok(k.confirm("bigger", 2, true))
	k.counts(k.used(f1.Plus(f1).Plus(f2)), 2, 1)
	if u, _ := k.tr.Usage("h1"); u.Used.VCPUs != 4 || u.Used.MemoryMiB != 512 || u.Used.DiskMiB != 7<<10 || u.Free.MemoryMiB != 0 || u.Free.DiskMiB != -1<<10 {
		k.Fatalf("%+v", u)
	}
}

func trkResize(k *trk) {
	k.placed("a", f1, 1)
	k.is(k.move("same", "vm-a", "h1", "h1", f1, 2), tracker.ErrInvalid)
	k.is(k.move("nobody", "vm-x", "h1", "h1", f2, 2), tracker.ErrNotFound)
	k.ok(k.move("m", "vm-a", "h1", "h1", f2, 2))
	k.counts(k.used(f1.Plus(f2)), 1, 1)
	k.ok(k.confirm("m", 2, false))
	k.counts(k.used(f2), 1, 0)
	k.ok(k.confirm("m", 2, false))
	k.ok(k.move("m", "vm-a", "h1", "h1", f2, 2)) // the job again
	k.is(k.tr.Revert(k.Context(), "m", 2), tracker.ErrNotFound)
	k.counts(k.used(f2), 1, 0)

	k.ok(k.move("n", "vm-a", "h1", "h1", f1, 3))
	k.counts(k.used(f1.Plus(f2)), 1, 1)
	k.ok(k.tr.Revert(k.Context(), "n", 3))
	k.ok(k.tr.Revert(k.Context(), "n", 3))
	k.counts(k.used(f2), 1, 0)
	k.is(k.confirm("n", 3, false), tracker.ErrNotFound)

	k.ok(k.move("o", "vm-a", "h1", "h1", f1, 4))
	k.ok(k.confirm("o", 4, true))
	k.ok(k.confirm("o", 4, true))
	k.counts(k.used(f1.Plus(f2)), 1, 1)
	k.ok(k.tr.Revert(k.Context(), "o", 4))
	k.counts(k.used(f2), 1, 0)
	k.ok(k.move("p", "vm-a", "h1", "h1", f1, 5))
	k.ok(k.confirm("p", 5, true))
	k.ok(k.confirm("p", 5, false)) // the way back is given up
	k.counts(k.used(f1), 1, 0)
	k.is(k.tr.Revert(k.Context(), "p", 5), tracker.ErrNotFound)
	k.ok(k.tr.Release(k.Context(), "h1", "vm-a", 6))
	k.used(tracker.Amount{})
}

func trkMove(k *trk) {
	k.pair()
	k.placed("a", f1, 1)
	stop, seen := make(chan struct{}), make(chan error, 1)
	go func() { seen <- k.watchPlaces(stop) }()
	from, to := "h1", "h2"
	for i := range int64(8) {
		id := string(rune('a'+i)) + "-move"
		k.ok(k.move(id, "vm-a", from, to, f1, 2+i))
		k.usedOn("h1", f1)
		k.usedOn("h2", f1)
		if i%2 == 0 {
			k.ok(k.confirm(id, 2+i, false))
			from, to = to, from
		} else {
			k.ok(k.tr.Revert(k.Context(), id, 2+i))
		}
		k.usedOn(from, f1)
		k.usedOn(to, tracker.Amount{})
	}
	close(stop)
	k.ok(<-seen)
	k.ok(k.move("last", "vm-a", from, to, f1, 20))
	k.ok(k.confirm("last", 20, true))
	k.ok(k.tr.Revert(k.Context(), "last", 20))
	k.counts(k.usedOn(from, f1), 1, 0)
	k.counts(k.usedOn(to, tracker.Amount{}), 0, 0)
}

// watchPlaces reads both hosts until stop and finds an instant at which vm-a has not exactly one place. A reading counts if neither
// host changed meanwhile.
func (k *trk) watchPlaces(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		var recs []tracker.Record
		places := 0
		err := k.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
			recs, places = nil, 0
			for _, h := range []string{"h1", "h2", "h1", "h2"} {
				rec, rows, err := k.d.LoadHost(ctx, tx, h)
				if err != nil {
					return err
				}
				if recs = append(recs, rec); len(recs) > 2 {
					continue
				}
				for _, r := range rows {
					if r.Role == tracker.Current && r.Counted() {
						places++
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if places != 1 && recs[0].Generation == recs[2].Generation && recs[1].Generation == recs[3].Generation {
			return &tracker.FieldError{Field: "vm-a", Reason: "has " + strings.Repeat("|", places) + " places"}
		}
	}
}

func trkTwoMoves(k *trk) {
	k.pair()
	k.placed("a", f1, 1)
	k.ok(k.move("m", "vm-a", "h1", "h2", f1, 2))
	k.ok(k.move("m", "vm-a", "h1", "h2", f1, 2))
	k.usedOn("h2", f1)
	err := k.move("n", "vm-a", "h1", "h2", f1, 2)
	k.is(err, tracker.ErrMismatch)
	if !strings.Contains(err.Error(), "m holds vm-a") {
		k.Fatal(err)
	}
	k.ok(k.move("n", "vm-a", "h1", "h2", f2, 3))
	k.usedOn("h2", f2)
	k.is(k.confirm("m", 2, false), tracker.ErrNotFound)
	k.ok(k.confirm("n", 3, false))
	k.used(tracker.Amount{})
	k.usedOn("h2", f2)
}

func trkMoveGone(k *trk) {
	k.pair()
	k.placed("a", f1, 1)
	k.ok(k.move("m", "vm-a", "h1", "h2", f1, 2))
	k.ok(k.tr.Release(k.Context(), "h1", "vm-a", 3))
	advance(k, k.Stores, 11*time.Minute)
	k.is(k.confirm("m", 2, false), tracker.ErrExpired)
	for range 2 {
		_, err := k.tr.Audit(k.Context(), "h2")
		k.ok(err)
	}
	k.usedOn("h2", tracker.Amount{})
	k.used(tracker.Amount{})
}

func trkDisabledMoves(k *trk) {
	k.pair()
	for _, id := range []string{"a", "b", "c"} {
		k.ok(k.claim(id, f1, 1))
	}
	k.ok(k.tr.Commit(k.Context(), "b", 1))
	k.ok(k.tr.Disable(k.Context(), "h1", "rack 7 burns"))
	k.ok(k.tr.Commit(k.Context(), "a", 1))
	k.ok(k.tr.Abort(k.Context(), "c", 1))
	k.ok(k.tr.Release(k.Context(), "h1", "vm-b", 1))
	k.ok(k.move("away", "vm-a", "h1", "h2", f1, 2))
	k.ok(k.confirm("away", 2, false))
	k.used(tracker.Amount{})
	k.is(k.move("back", "vm-a", "h2", "h1", f1, 3), tracker.ErrDisabled)
	k.is(k.claim("d", f1, 3), tracker.ErrDisabled)
	k.usedOn("h2", f1)
}

func trkSettle(k *trk) {
	k.pair()
	k.placed("a", f1, 5)
	k.is(k.confirm("a", 5, false), tracker.ErrMismatch)
	k.ok(k.move("m", "vm-a", "h1", "h2", f1, 6))
	k.is(k.confirm("m", 4, false), tracker.ErrStaleEpoch)
	k.is(k.tr.Revert(k.Context(), "m", 4), tracker.ErrStaleEpoch)
	k.ok(k.confirm("m", 7, true))
	k.is(k.confirm("m", 6, true), tracker.ErrStaleEpoch)
	k.is(k.confirm("m", 6, false), tracker.ErrStaleEpoch)
	k.ok(k.tr.Revert(k.Context(), "unknown", 1))
	k.is(k.confirm("unknown", 1, false), tracker.ErrNotFound)
	k.usedOn("h2", f1)
	k.used(f1)
}
