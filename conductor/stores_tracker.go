package conductor

import (
	"context"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

type (
	hostRows struct {
		Record tracker.Record
		Rows   []tracker.Row
	}
	deleteArgs struct {
		Host       string
		Generation int64
	}
	settledRows struct {
		Row     tracker.Row
		Records []tracker.Record
	}
	claimedRow struct {
		Row    tracker.Row
		Record tracker.Record
	}
)

var trackerMethods = tableOf("tracker",
	on("hosts", R, func(ctx context.Context, s tracker.Store, tx store.Tx, _ none) ([]tracker.Record, error) {
		return s.Hosts(ctx, tx)
	}),
	on("load-host", R, func(ctx context.Context, s tracker.Store, tx store.Tx, host string) (hostRows, error) {
		rec, rows, err := s.LoadHost(ctx, tx, host)
		return hostRows{rec, rows}, err
	}, rows(hostRow), stamp(func(_ string, r hostRows) string { return fmt.Sprint(r.Record.Generation) }), allow(mayHost),
		keeps(func(r hostRows) string { return r.Record.Host }, func(r hostRows) tracker.Record { return r.Record })),
	on("save-host", X, func(ctx context.Context, s tracker.Store, tx store.Tx, r tracker.Record) (tracker.Record, error) {
		return s.SaveHost(ctx, tx, r)
	}, rows(func(r tracker.Record) []string { return hostRow(r.Host) }), allow(func(g *grant, r tracker.Record) error { return mayHost(g, r.Host) }),
		saves(func(r tracker.Record) string { return r.Host }, func(r tracker.Record) int64 { return r.Generation }, loadRecord),
		keeps(func(r tracker.Record) string { return r.Host }, func(r tracker.Record) tracker.Record { return r })),
	on("delete-host", X, func(ctx context.Context, s tracker.Store, tx store.Tx, a deleteArgs) (none, error) {
		return none{}, s.DeleteHost(ctx, tx, a.Host, a.Generation)
	}, rows(func(a deleteArgs) []string { return hostRow(a.Host) }), allow(func(g *grant, a deleteArgs) error { return mayHost(g, a.Host) })),
	on("put-claim", X, func(ctx context.Context, s tracker.Store, tx store.Tx, p tracker.Put) (claimedRow, error) {
		row, rec, err := s.PutClaim(ctx, tx, p)
		return claimedRow{row, rec}, err
	}, rows(func(p tracker.Put) []string { return hostRow(p.Row.Host) }), allow(func(g *grant, p tracker.Put) error { return mayHost(g, p.Row.Host) })),
	on("set-claim", X, func(ctx context.Context, s tracker.Store, tx store.Tx, c tracker.Change) (claimedRow, error) {
		row, rec, err := s.SetClaim(ctx, tx, c)
		return claimedRow{row, rec}, err
	}, rows(func(c tracker.Change) []string { return hostRow(c.Host) }),
		check(func(g *grant, _ tracker.Change, r claimedRow) error { return mayHost(g, r.Row.Host) }), allow(func(*grant, tracker.Change) error { return nil })),
	on("settle", X, func(ctx context.Context, s tracker.Store, tx store.Tx, a tracker.Settlement) (settledRows, error) {
		row, recs, err := s.Settle(ctx, tx, a)
		return settledRows{row, recs}, err
	}, allow(func(*grant, tracker.Settlement) error { return nil }),
		check(func(g *grant, _ tracker.Settlement, r settledRows) error { // either end of a move
			if r.Row.ID == "" || r.Row.From == g.host {
				return nil
			}
			return mayHost(g, r.Row.Host)
		})),
)

func hostRow(host string) []string { return []string{"host/" + host} }

func loadRecord(ctx context.Context, s tracker.Store, tx store.Tx, host string) (tracker.Record, error) {
	rec, _, err := s.LoadHost(ctx, tx, host)
	if errors.Is(err, tracker.ErrNotFound) {
		return tracker.Record{}, store.ErrConflict // it was there when the host read it
	}
	return rec, err
}

type trackers struct{ f face }

var _ tracker.Store = trackers{}

func (k trackers) Hosts(ctx context.Context, tx store.Tx) ([]tracker.Record, error) {
	return do[[]tracker.Record](ctx, k.f, tx, trackerMethods["hosts"], none{})
}

func (k trackers) LoadHost(ctx context.Context, tx store.Tx, host string) (tracker.Record, []tracker.Row, error) {
	got, err := do[hostRows](ctx, k.f, tx, trackerMethods["load-host"], host)
	return got.Record, got.Rows, err
}

func (k trackers) SaveHost(ctx context.Context, tx store.Tx, r tracker.Record) (tracker.Record, error) {
	return do[tracker.Record](ctx, k.f, tx, trackerMethods["save-host"], r)
}

func (k trackers) DeleteHost(ctx context.Context, tx store.Tx, host string, generation int64) error {
	return act(ctx, k.f, tx, trackerMethods["delete-host"], deleteArgs{host, generation})
}

func (k trackers) PutClaim(ctx context.Context, tx store.Tx, p tracker.Put) (tracker.Row, tracker.Record, error) {
	got, err := do[claimedRow](ctx, k.f, tx, trackerMethods["put-claim"], p)
	return got.Row, got.Record, err
}

func (k trackers) SetClaim(ctx context.Context, tx store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	got, err := do[claimedRow](ctx, k.f, tx, trackerMethods["set-claim"], c)
	return got.Row, got.Record, err
}

func (k trackers) Settle(ctx context.Context, tx store.Tx, s tracker.Settlement) (tracker.Row, []tracker.Record, error) {
	got, err := do[settledRows](ctx, k.f, tx, trackerMethods["settle"], s)
	return got.Row, got.Records, err
}
