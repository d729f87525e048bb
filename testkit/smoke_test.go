package testkit_test

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/testkit"
)

func TestSmoke(t *testing.T) {
	testkit.Explore(t, 20, func(w *testkit.World) {
		build := func(n *testkit.Node) drover.Component {
			s, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier()})
			if err != nil {
				w.T.Fatal(err)
			}
			g := new(drover.Group)
			g.Add("node", s)
			g.Add("lead", drover.Func(func(ctx context.Context) error {
				return lease.Lead(ctx, s, "boss", func(ctx context.Context, tok lease.Token) error {
					<-ctx.Done()
					return nil
				})
			}))
			return g
		}
		a := w.Node("a", build)
		w.Node("b", build)
		w.Node("c", build)
		w.Advance(5 * time.Second)
		a.Crash()
		w.Advance(2 * time.Minute)
		a.Restart()
		w.Advance(time.Minute)
	})
}
