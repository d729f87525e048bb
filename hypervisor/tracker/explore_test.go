package tracker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// big is a host of 8 × 128 MiB.
type big struct{ hypervisor.Driver }

func (big) Resources(context.Context) (hypervisor.Resources, error) {
	return hypervisor.Resources{VCPUs: 64, MemoryMiB: 8 * 128, DiskMiB: 1 << 20}, nil
}

// Three nodes claim at once on two hosts of 8 places: whatever the order, 16 of 40 get one and the sums are right.
func TestExploreClaims(t *testing.T) {
	t.Run("trk-30 forty claims on two hosts", exploreClaims)
	t.Run("trk-31 any interleaving", exploreProperty)
	t.Run("trk-22 trk-43 moves and audits", exploreMoves)
	t.Run("trk-41 no call under a lock", exploreLocks)
	t.Run("trk-50 crash at each call", exploreCrashes)
}

func exploreClaims(t *testing.T) {
	testkit.Explore(t, seeds(100), func(w *testkit.World) {
		w.TrackerInvariants()
		hosts := []string{"h1", "h2"}
		got, full := 0, 0
		var last *testkit.Node
		for i := range 3 {
			name := fmt.Sprint("n", i)
			last = w.Node(name, func(n *testkit.Node) drover.Component {
				tr, err := tracker.New(tracker.Config{
					Env: n.Env, Tx: n.Store, Store: n.Store.Tracker(), Reserved: &tracker.Amount{},
					Hosts: func(context.Context) ([]tracker.Host, error) {
						return []tracker.Host{{ID: "h1", Driver: big{}}, {ID: "h2", Driver: big{}}}, nil
					},
				})
				if err != nil {
					w.T.Fatal(err)
				}
				return drover.Func(func(ctx context.Context) error {
					for _, h := range hosts { // the loser of a race for the record reads it again
						for ctx.Err() == nil {
							if _, err := tr.Audit(ctx, h); err == nil {
								break
							}
						}
					}
					for k := range 40 {
						if k%3 != i {
							continue
						}
						var err error
						for _, h := range []string{hosts[k%2], hosts[1-k%2]} {
							id := fmt.Sprint("c", k)
							_, err = tr.Claim(ctx, tracker.Request{ID: id + h, Host: h, Workload: id, Amount: tracker.Amount{MemoryMiB: 128}})
							if !errors.Is(err, tracker.ErrNoRoom) {
								break
							}
						}
						switch {
						case err == nil:
							got++
						case errors.Is(err, tracker.ErrNoRoom):
							full++
						case ctx.Err() == nil:
							w.T.Errorf("claim: %v", err)
						}
					}
					<-ctx.Done()
					return nil
				})
			})
		}
		w.Settle()
		if got != 16 || full != 24 {
			w.T.Errorf("trk-30: %d claims, %d refused", got, full)
		}
		err := last.Store.InTx(w.T.Context(), func(ctx context.Context, tx store.Tx) error {
			for _, h := range hosts {
				rec, rows, err := last.Store.Tracker().LoadHost(ctx, tx, h)
				if err != nil {
					return err
				}
				if rec.Used.MemoryMiB != 8*128 || len(rows) != 8 {
					w.T.Errorf("%s: %+v, %d rows", h, rec.Used, len(rows))
				}
			}
			return nil
		})
		if err != nil {
			w.T.Error(err)
		}
	})
}
