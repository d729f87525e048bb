package testkit

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

func (s *stores) Tracker() tracker.Store { return trackers{s, s.life.node.w.db.Tracker()} }

type trackers struct {
	s *stores
	d tracker.Store
}

// kept is a row with its host's record.
type kept struct {
	row tracker.Row
	rec tracker.Record
}

func (k kept) note() string {
	return fmt.Sprintf("%s on %s generation=%d", k.row.State, k.rec.Host, k.rec.Generation)
}

func (k trackers) Hosts(ctx context.Context, x store.Tx) ([]tracker.Record, error) {
	return call(k.s, x, "store.tracker.hosts", "", func(in store.Tx) ([]tracker.Record, error) { return k.d.Hosts(ctx, in) },
		func(r []tracker.Record) string { return fmt.Sprintf("hosts=%d", len(r)) })
}

func (k trackers) LoadHost(ctx context.Context, x store.Tx, host string) (tracker.Record, []tracker.Row, error) {
	type loaded struct {
		rec  tracker.Record
		rows []tracker.Row
	}
	r, err := call(k.s, x, "store.tracker.loadhost", host, func(in store.Tx) (loaded, error) {
		rec, rows, err := k.d.LoadHost(ctx, in, host)
		return loaded{rec, rows}, err
	}, func(r loaded) string { return fmt.Sprintf("generation=%d rows=%d", r.rec.Generation, len(r.rows)) })
	return r.rec, r.rows, err
}

func (k trackers) SaveHost(ctx context.Context, x store.Tx, r tracker.Record) (tracker.Record, error) {
	return call(k.s, x, "store.tracker.savehost", r.Host, func(in store.Tx) (tracker.Record, error) { return k.d.SaveHost(ctx, in, r) },
		func(r tracker.Record) string { return fmt.Sprintf("generation=%d", r.Generation) })
}

func (k trackers) PutClaim(ctx context.Context, x store.Tx, r tracker.Row, bound tracker.Amount, ttl time.Duration,
) (tracker.Row, tracker.Record, error) {
	out, err := call(k.s, x, "store.tracker.putclaim", r.ID, func(in store.Tx) (kept, error) {
		row, rec, err := k.d.PutClaim(ctx, in, r, bound, ttl)
		return kept{row, rec}, err
	}, kept.note)
	return out.row, out.rec, err
}

func (k trackers) SetClaim(ctx context.Context, x store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	out, err := call(k.s, x, "store.tracker.setclaim", c.ID+c.Workload, func(in store.Tx) (kept, error) {
		row, rec, err := k.d.SetClaim(ctx, in, c)
		return kept{row, rec}, err
	}, kept.note)
	return out.row, out.rec, err
}
