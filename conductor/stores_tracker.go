package conductor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

type (
	hostRows struct {
		Record tracker.Record
		Rows   []tracker.Row
	}
	claimArgs struct {
		Row   tracker.Row
		Bound tracker.Amount
		TTL   time.Duration
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
	on("put-claim", X, func(ctx context.Context, s tracker.Store, tx store.Tx, a claimArgs) (claimedRow, error) {
		row, rec, err := s.PutClaim(ctx, tx, a.Row, a.Bound, a.TTL)
		return claimedRow{row, rec}, err
	}, rows(func(a claimArgs) []string { return hostRow(a.Row.Host) }), allow(func(g *grant, a claimArgs) error { return mayHost(g, a.Row.Host) })),
	on("set-claim", X, func(ctx context.Context, s tracker.Store, tx store.Tx, c tracker.Change) (claimedRow, error) {
		row, rec, err := s.SetClaim(ctx, tx, c)
		return claimedRow{row, rec}, err
	}, rows(func(c tracker.Change) []string { return hostRow(c.Host) }),
		check(func(g *grant, _ tracker.Change, r claimedRow) error { return mayHost(g, r.Row.Host) }), allow(func(*grant, tracker.Change) error { return nil })),
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

func (k trackers) PutClaim(ctx context.Context, tx store.Tx, r tracker.Row, bound tracker.Amount, ttl time.Duration) (tracker.Row, tracker.Record, error) {
	got, err := do[claimedRow](ctx, k.f, tx, trackerMethods["put-claim"], claimArgs{r, bound, ttl})
	return got.Row, got.Record, err
}

func (k trackers) SetClaim(ctx context.Context, tx store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	got, err := do[claimedRow](ctx, k.f, tx, trackerMethods["set-claim"], c)
	return got.Row, got.Record, err
}
