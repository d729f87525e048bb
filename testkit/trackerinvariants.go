package testkit

import (
	"context"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

// TrackerInvariants watches every transaction on hosts and claims from now on and fails the world when a host's stored sums are not
// those of its rows, a claim goes over the bound it was made under, a device has two holders, a workload two rows in a role on a
// host or two current places, or a row's epoch falls.
func (w *World) TrackerInvariants() {
	w.use("World.TrackerInvariants")
	w.watch(&trackerEye{w: w, epochs: map[string]map[string]int64{}})
}

// touched is what a transaction did to hosts.
type touched struct {
	hosts []string
	put   *tracker.Put // the claim made
}

type trackerEye struct {
	w      *World
	epochs map[string]map[string]int64 // of the rows of each host
	broken string
}

func (e *trackerEye) breaks(format string, a ...any) {
	if e.broken == "" {
		e.broken = "tracker invariant broken: " + fmt.Sprintf(format, a...)
	}
}

func (e *trackerEye) look() string { return e.broken }

func (e *trackerEye) committed(t *tx) {
	for _, event := range t.events {
		v, ok := event.(touched)
		if !ok {
			continue
		}
		err := e.w.db.InTx(context.Background(), func(ctx context.Context, x store.Tx) error { return e.inspect(ctx, x, v) })
		if err != nil {
			e.breaks("%v", err)
		}
	}
}

func (e *trackerEye) inspect(ctx context.Context, x store.Tx, v touched) error {
	db := e.w.db.Tracker()
	for _, host := range v.hosts {
		rec, rows, err := db.LoadHost(ctx, x, host)
		if err != nil {
			return nil //nolint:nilerr // removed
		}
		e.sums(rec, rows)
		if v.put != nil && host == v.put.Row.Host {
			over := rec.Used.Minus(v.put.Row.Amount)
			for _, r := range v.put.Row.Amount.Over(over, v.put.Bound) {
				e.breaks("%s: claim %s went over its bound: %s", host, v.put.Row.ID, r)
			}
		}
	}
	return e.places(ctx, x, db)
}

// sums compares a record with its rows.
func (e *trackerEye) sums(rec tracker.Record, rows []tracker.Row) {
	var sum tracker.Amount
	running, others := 0, 0
	taken, epochs := map[string]string{}, map[string]int64{}
	for _, r := range rows {
		if was := e.epochs[rec.Host][r.ID]; was > r.Epoch {
			e.breaks("%s: epoch %d after %d", r.ID, r.Epoch, was)
		}
		epochs[r.ID] = r.Epoch
		if !r.Counted() {
			continue
		}
		sum = sum.Plus(r.Amount)
		if r.State == tracker.Committed && r.Role == tracker.Current {
			running++
		} else {
			others++
		}
		keys := []string{"role " + string(r.Role) + " of " + r.Workload}
		for pool, ids := range r.Devices {
			for _, id := range ids {
				keys = append(keys, "device "+pool+" "+id)
			}
		}
		for _, k := range keys {
			if taken[k] != "" {
				e.breaks("%s: %s is held by %s and %s", rec.Host, k, taken[k], r.ID)
			}
			taken[k] = r.ID
		}
	}
	e.epochs[rec.Host] = epochs
	if !rec.Used.Equal(sum) || rec.Running != running || rec.InFlight != others {
		e.breaks("%s: stored %+v, %d running, %d others; rows %+v, %d, %d", rec.Host, rec.Used, rec.Running, rec.InFlight, sum, running, others)
	}
}

// places finds workloads with a committed current row on two hosts that a move ties together.
func (e *trackerEye) places(ctx context.Context, x store.Tx, db tracker.Store) error {
	recs, err := db.Hosts(ctx, x)
	if err != nil {
		return err
	}
	var current []tracker.Row
	for _, rec := range recs {
		_, rows, err := db.LoadHost(ctx, x, rec.Host)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Role == tracker.Current && r.State == tracker.Committed {
				current = append(current, r)
			}
		}
	}
	for _, r := range current {
		if r.From != "" && r.From != r.Host && slices.ContainsFunc(current, func(o tracker.Row) bool {
			return o.Workload == r.Workload && o.Host == r.From && o.Created.Before(r.Created) && o.Epoch < r.Epoch
		}) {
			e.breaks("%s moved from %s to %s, and is at both", r.Workload, r.From, r.Host)
		}
	}
	return nil
}
