package conductor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/nats"
	"github.com/drover-cloud/drover/conductor"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
)

// TestBroker is a host on a real broker, which dies and comes back while jobs run.
func TestBroker(t *testing.T) {
	t.Run("NATS is killed and restarted", func(t *testing.T) {
		broker := fixture.FreshNATS(t)
		n := newNet(t)
		n.open = func(name string) bus.Transport {
			x, err := nats.New(nats.Config{Env: n.env(name), URL: "nats://" + broker.Addr})
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		trust := func(c *conductor.ServerConfig) { c.Policy.TrustNames = true }
		n.server("s1", trust)
		n.server("s2", trust)
		ctl := n.controller()
		n.worker(n.client("h1", nil), func(_ context.Context, a startVM) (string, error) {
			time.Sleep(20 * time.Millisecond)
			return a.ID, nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		var ids []string
		for i := range 60 {
			j, err := ctl.Submit(ctx, job.Request{Kind: "vm.start", Queue: "h1", Args: startVM{fmt.Sprint(i)}})
			if err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, j.ID); i == 30 {
				if _, err := ctl.Wait(ctx, ids[0]); err != nil {
					t.Fatal(err)
				}
				broker.Kill(t)
				broker.Restart(t)
			}
		}
		for i, id := range ids {
			j, err := ctl.Wait(ctx, id)
			if err != nil {
				t.Fatalf("job %d: %v", i, err)
			}
			if j.State != job.Succeeded || j.Runs != 1 || string(j.Result) != fmt.Sprintf("%q", fmt.Sprint(i)) {
				t.Errorf("job %d: %s after %d runs, %s", i, j.State, j.Runs, j.Result)
			}
		}
	})
}
