package conductor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/nats"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// onNATS is a net whose nodes meet at a broker.
func onNATS(t *testing.T, broker *fixture.Server) *net {
	n := newNet(t)
	n.open = func(name string) bus.Transport {
		x, err := nats.New(nats.Config{Env: n.env(name), URL: "nats://" + broker.Addr})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	return n
}

// TestBroker is a host on a real broker, which dies and comes back while jobs run.
func TestBroker(t *testing.T) {
	t.Run("NATS is killed and restarted", func(t *testing.T) {
		broker := fixture.FreshNATS(t)
		n := onNATS(t, broker)
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
	t.Run("conductor-23 the broker dies within an audit", func(t *testing.T) {
		broker := fixture.FreshNATS(t)
		n := onNATS(t, broker)
		n.server("s1", func(c *conductor.ServerConfig) { c.Policy.TrustNames = true })
		c := n.client("h1", nil)
		dead := false
		driver := &deadly{kill: func() {
			if !dead {
				dead = true
				broker.Kill(t)
			}
		}}
		host := func(d hypervisor.Driver) func(context.Context) ([]tracker.Host, error) {
			return func(context.Context) ([]tracker.Host, error) { return []tracker.Host{{ID: "h1", Driver: d}}, nil }
		}
		open := func(cfg tracker.Config) *tracker.Tracker {
			tr, err := tracker.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return tr
		}
		local := open(tracker.Config{Env: n.env("s1"), Tx: n.db, Store: n.db.Tracker(), Hosts: host(fixed{})})
		far := open(tracker.Config{Env: n.env("h1"), Tx: c.Client, Store: c.Tracker(), Hosts: host(driver), AuditTimeout: 2 * time.Second})
		if _, err := local.Audit(context.Background(), "h1"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := far.Audit(context.Background(), "h1"); err == nil || time.Since(began) > 10*time.Second {
			t.Errorf("without a broker: %v after %v", err, time.Since(began))
		}
		n.in(n.db, func(ctx context.Context, tx store.Tx) error {
			_, _, err := n.db.Tracker().PutClaim(ctx, tx, tracker.Put{Row: tracker.Row{ID: "c", Host: "h1", Workload: "w"}, TTL: time.Minute})
			return err
		})
		broker.Restart(t)
		for try := 1; ; try++ {
			_, err := far.Audit(context.Background(), "h1")
			if err == nil {
				break
			}
			if try == 10 {
				t.Fatal(err)
			}
		}
	})
}

// deadly is a driver that is asked when the broker dies.
type deadly struct {
	fixed
	kill func()
}

func (d *deadly) Resources(ctx context.Context) (hypervisor.Resources, error) {
	d.kill()
	return d.fixed.Resources(ctx)
}
