package conductor_test

import (
	"context"
	"testing"

	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

// resetting is a tracker store that changes more of a record than it is told to.
type resetting struct{ tracker.Store }

func (r resetting) SaveHost(ctx context.Context, tx store.Tx, rec tracker.Record) (tracker.Record, error) {
	rec.Used = tracker.Amount{VCPUs: rec.Used.VCPUs, MemoryMiB: 77, Extra: map[string]int64{"gpu": 2}}
	rec.Seen, rec.Reason = nil, "computed"
	return r.Store.SaveHost(ctx, tx, rec)
}

type onlyTracker struct{ tracker.Store }

func (o onlyTracker) Tracker() tracker.Store { return o.Store }

func TestNested(t *testing.T) {
	bubble(t, "conductor-09 what the operation changes comes back", func(n *net) {
		n.server("s1", func(c *conductor.ServerConfig) { all(c); c.Stores = onlyTracker{resetting{n.db.Tracker()}} })
		c := n.client("h1", nil)
		rec := tracker.Record{Host: "h1", Enabled: true}
		for i := range 3 {
			rec.Used.VCPUs, rec.Seen = int64(i), []string{"a"}
			n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
				rec, err = c.Tracker().SaveHost(ctx, tx, rec)
				return err
			})
			n.in(n.db, func(ctx context.Context, tx store.Tx) error {
				at, _, err := n.db.Tracker().LoadHost(ctx, tx, "h1")
				n.same("the client's object", rec, at)
				return err
			})
			n.same("nested", []any{rec.Used.VCPUs, rec.Used.MemoryMiB, rec.Used.Extra, rec.Seen, rec.Reason, rec.Generation},
				[]any{i, 77, map[string]int64{"gpu": 2}, []string(nil), "computed", i + 1})
		}
	})
}
