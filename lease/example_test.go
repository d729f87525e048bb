package lease_test

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/memory"
)

// A leader hands its token on with every write; what it writes to refuses a lower one.
func ExampleLead() {
	var db memory.Store
	node, err := lease.New(lease.Config{
		Env: drover.Env{Node: "n1"}, Tx: &db, Store: db.Leases(), Notify: db.Notifier(),
		TTL: 10 * time.Second, // a session of its own, for faster leaders
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var seen lease.Token // kept by the receiver
	write := func(t lease.Token, what string) error {
		if t.Less(seen) {
			return lease.ErrLost
		}
		seen = t
		fmt.Println(what)
		return nil
	}

	var g drover.Group
	g.Add("node", node)
	g.Add("leader", drover.Func(func(ctx context.Context) error {
		return lease.Lead(ctx, node, "zone-1/planner", func(_ context.Context, t lease.Token) error {
			return write(t, "planned")
		})
	}))
	fmt.Println(g.Run(context.Background()))
	// Output:
	// planned
	// <nil>
}
