package conductor_test

import (
	"context"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// grown is a host that reports more memory each time.
type grown struct {
	hypervisor.Driver
	n int64
}

func (g *grown) Resources(context.Context) (hypervisor.Resources, error) {
	g.n++
	return hypervisor.Resources{VCPUs: 8, MemoryMiB: 8192 + g.n, DiskMiB: 1 << 20}, nil
}

func TestTrackerTrips(t *testing.T) {
	bubble(t, "trk-52 a claim is one call, an audit at most three", func(n *net) {
		n.server("s1", nil)
		c := n.client("h1", nil)
		tr, err := tracker.New(tracker.Config{Env: n.env("h1"), Tx: c.Client, Store: c.Tracker(),
			Hosts: func(context.Context) ([]tracker.Host, error) {
				return []tracker.Host{{ID: "h1", Driver: &grown{}}}, nil
			}})
		if err != nil {
			n.Fatal(err)
		}
		ctx := context.Background()
		for range 3 {
			c.wire.sent()
			if _, err := tr.Audit(ctx, "h1"); err != nil {
				n.Fatal(err)
			}
			if calls := c.wire.sent(); len(calls) > 3 || len(calls) == 0 {
				n.Errorf("an audit took %v", calls)
			}
		}
		if _, err := tr.Claim(ctx, tracker.Request{ID: "a", Host: "h1", Workload: "vm", Amount: tracker.Amount{MemoryMiB: 128}, Epoch: 1}); err != nil {
			n.Fatal(err)
		}
		if calls := c.wire.sent(); len(calls) != 1 {
			n.Errorf("a claim took %v", calls)
		}
		if err := tr.Commit(ctx, "a", 1); err != nil {
			n.Fatal(err)
		}
		if calls := c.wire.sent(); len(calls) != 1 {
			n.Errorf("a commit took %v", calls)
		}
	})
}
