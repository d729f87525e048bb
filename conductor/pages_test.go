package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

func TestPages(t *testing.T) {
	bubble(t, "a list has at most 500 rows", func(n *net) {
		n.server("s1", all)
		c := n.client("h1", nil)
		var ids []string
		for i := range 600 {
			ids = append(ids, fmt.Sprint("j", i))
			n.insert(row(ids[i], "q"))
		}
		list := func(f job.Find) (found job.Found, err error) {
			err = c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) (err error) {
				found, err = c.Jobs().List(ctx, tx, f)
				return err
			})
			return found, err
		}
		for _, limit := range []int{0, 501, 100_000} {
			found, err := list(job.Find{Query: &job.Query{}, Limit: limit})
			if err != nil || len(found.Rows) > 500 {
				n.Errorf("limit %d: %d rows, %v", limit, len(found.Rows), err)
			}
		}
		if found, err := list(job.Find{IDs: ids[:500]}); err != nil || len(found.Rows) != 500 {
			n.Errorf("500 by name: %d, %v", len(found.Rows), err)
		}
		if _, err := list(job.Find{IDs: ids}); !errors.Is(err, bus.ErrInvalid) {
			n.Errorf("600 by name: %v", err)
		}
	})
	bubble(t, "conductor-17 sealed args are for who runs the job", func(n *net) {
		n.server("s1", func(c *conductor.ServerConfig) { c.Policy.Submit = func(string) bool { return true } })
		a, b := n.client("h1", nil), n.client("h2", nil)
		tok := n.session(a, "h1")
		secret := row("secret", "h1")
		secret.Args = []byte(`{"Password":{"$sealed":"c2VjcmV0"}}`)
		n.insert(secret, row("plain", "h1"))
		args := func(c *client, id string) (args string) {
			n.in(c, func(ctx context.Context, tx store.Tx) error {
				found, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{id}})
				for _, r := range found.Rows {
					args = string(r.Args)
				}
				return err
			})
			return args
		}
		n.same("before it runs", args(a, "secret"), "")
		n.same("claimed", len(n.claim(a, tok, "h1", 2)), 2)
		n.same("who runs it", args(a, "secret"), string(secret.Args))
		n.same("another", args(b, "secret"), "")
		n.same("what is no secret", args(b, "plain"), `{"n":1}`)
		n.same("stored", string(n.get("secret").Args), string(secret.Args))
	})
}

type baseMeter = noop.Meter

// gauges are meters that keep what a callback observes.
type gauges struct {
	metric.MeterProvider
	baseMeter
	of map[string]metric.Callback
}

func (g *gauges) Meter(string, ...metric.MeterOption) metric.Meter { return g }

type named struct {
	noop.Int64ObservableGauge
	name string
}

func (g *gauges) Int64ObservableGauge(name string, _ ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return named{name: name}, nil
}

func (g *gauges) RegisterCallback(f metric.Callback, of ...metric.Observable) (metric.Registration, error) {
	for _, o := range of {
		g.of[o.(named).name] = f
	}
	return noop.Registration{}, nil
}

// look is one collection, by name and host.
type look struct {
	noop.Observer
	seen map[string]int64
}

func (l look) ObserveInt64(o metric.Int64Observable, v int64, opts ...metric.ObserveOption) {
	attrs := metric.NewObserveConfig(opts).Attributes()
	host, _ := attrs.Value("host")
	l.seen[o.(named).name+" "+host.AsString()] += v
}

func TestGauges(t *testing.T) {
	bubble(t, "calls under way and waiting are measured", func(n *net) {
		g := &gauges{MeterProvider: noop.NewMeterProvider(), of: map[string]metric.Callback{}}
		n.server("s1", func(c *conductor.ServerConfig) {
			all(c)
			c.Env.Meter = g
			c.Tx, c.Stores = &slowly{net: n, by: time.Second}, n.db
		})
		c := n.client("h1", nil)
		done := make(chan error)
		for range 20 {
			go func() { done <- c.glance(context.Background()) }()
		}
		seen := func(name string) int64 {
			l := look{seen: map[string]int64{}}
			if err := g.of["drover.conductor.queue"](context.Background(), l); err != nil {
				n.Fatal(err)
			}
			return l.seen["drover.conductor."+name]
		}
		time.Sleep(500 * time.Millisecond)
		n.same("in flight", seen("inflight h1"), 8)
		n.same("waiting", seen("queue "), 12)
		for range 20 {
			if err := <-done; err != nil {
				n.Error(err)
			}
		}
		n.same("in flight", seen("inflight h1"), 0)
		n.same("waiting", seen("queue "), 0)
	})
}
