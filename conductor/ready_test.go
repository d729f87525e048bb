package conductor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func TestReady(t *testing.T) {
	bubble(t, "conductor-13 silent for 15 pings", func(n *net) {
		silent := n.node("s0")
		ep := &bus.Endpoint{Namespace: "store.tx", Unbound: true}
		pings := 0
		bus.HandleFunc(ep, "now", func(ctx context.Context, _ *bus.Message) ([]byte, error) {
			if pings++; pings > 15 {
				return []byte("{}"), nil
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		silent.Serve("conductor", ep)
		if err := silent.Ready(context.Background()); err != nil {
			n.Fatal(err)
		}
		c := n.client("h1", nil)
		began := time.Now()
		if err := c.Client.Ready(context.Background()); err != nil {
			n.Fatal(err)
		}
		if took := time.Since(began); pings != 16 || took > 151*time.Second || took < 149*time.Second {
			n.Errorf("%d pings in %v", pings, took)
		}
		n.same("INFO", n.log.count("level=INFO", "conductor found after"), 1)
		if w := n.log.count("level=WARN", "no conductor answers"); w < 4 || w > 6 {
			n.Errorf("%d warnings in 150 s", w)
		}
	})
	bubble(t, "conductor-13 nobody serves", func(n *net) {
		c := n.client("h1", nil)
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.Client.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			n.Errorf("got %v, want the end of ctx", err)
		}
		if took := time.Since(began); took != 60*time.Second {
			n.Errorf("ended after %v", took)
		}
		if calls := len(c.wire.sent()); calls < 7 || calls > 10 { // after 1, 2, 4, 8, 10, 10, 10 … ± 20 %
			n.Errorf("%d pings", calls)
		}
	})
	bubble(t, "conductor-14 the server goes and comes back", func(n *net) {
		b := n.node("s1")
		s := n.serverOn(b, "s1", all)
		c := n.client("h1", nil)
		read := func() error {
			return c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
				_, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}})
				return err
			})
		}
		if err := read(); err != nil {
			n.Fatal(err)
		}
		s.stop()
		began := time.Now()
		if err := read(); !errors.Is(err, conductor.ErrNoConductor) || time.Since(began) > 10*time.Second {
			n.Fatalf("%v after %v", err, time.Since(began))
		}
		if c.Client.Status().Lost.IsZero() {
			n.Error("not noticed")
		}
		n.serverOn(b, "s1", all)
		if err := read(); err != nil {
			n.Fatal(err)
		}
		n.same("INFO", n.log.count("level=INFO", "conductor found after"), 1)
	})
}
