package testkit

import (
	"context"
	"fmt"

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
	return call(k.s, x, "store.tracker.savehost", r.Host, func(in store.Tx) (tracker.Record, error) {
		out, err := k.d.SaveHost(ctx, in, r)
		if err == nil {
			x.(*tx).saw(touched{hosts: []string{r.Host}})
		}
		return out, err
	},
		func(r tracker.Record) string { return fmt.Sprintf("generation=%d", r.Generation) })
}

func (k trackers) DeleteHost(ctx context.Context, x store.Tx, host string, generation int64) error {
	_, err := call(k.s, x, "store.tracker.deletehost", host, func(in store.Tx) (struct{}, error) {
		return struct{}{}, k.d.DeleteHost(ctx, in, host, generation)
	}, nil)
	return err
}

func (k trackers) PutClaim(ctx context.Context, x store.Tx, p tracker.Put) (tracker.Row, tracker.Record, error) {
	out, err := call(k.s, x, "store.tracker.putclaim", p.Row.ID, func(in store.Tx) (kept, error) {
		row, rec, err := k.d.PutClaim(ctx, in, p)
		if err == nil {
			t := touched{hosts: []string{p.Row.Host}}
			if row.State == tracker.Held && row.Created.Equal(in.Now()) {
				t.put = &p
			}
			x.(*tx).saw(t)
		}
		return kept{row, rec}, err
	}, kept.note)
	return out.row, out.rec, err
}

func (k trackers) SetClaim(ctx context.Context, x store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	out, err := call(k.s, x, "store.tracker.setclaim", c.ID+c.Workload, func(in store.Tx) (kept, error) {
		row, rec, err := k.d.SetClaim(ctx, in, c)
		if err == nil {
			x.(*tx).saw(touched{hosts: []string{rec.Host}})
		}
		return kept{row, rec}, err
	}, kept.note)
	return out.row, out.rec, err
}

func (k trackers) Settle(ctx context.Context, x store.Tx, s tracker.Settlement) (tracker.Row, []tracker.Record, error) {
	type settled struct {
		row  tracker.Row
		recs []tracker.Record
	}
	out, err := call(k.s, x, "store.tracker.settle", s.ID, func(in store.Tx) (settled, error) {
		row, recs, err := k.d.Settle(ctx, in, s)
		if err == nil {
			t := touched{}
			for _, r := range recs {
				t.hosts = append(t.hosts, r.Host)
			}
			x.(*tx).saw(t)
		}
		return settled{row, recs}, err
	}, func(out settled) string { return fmt.Sprintf("%s hosts=%d", s.End, len(out.recs)) })
	return out.row, out.recs, err
}
