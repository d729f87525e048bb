package conductor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestPolicy(t *testing.T) {
	bubble(t, "conductor-17 own rows", ownRows)
	bubble(t, "conductor-17 a stale write is refused by the store", func(n *net) {
		n.server("s1", nil)
		c := n.client("h1", nil)
		tok := n.session(c, "h1")
		n.insert(row("a", "h1"))
		r := n.claim(c, tok, "h1", 1)[0]
		n.in(n.db, func(ctx context.Context, tx store.Tx) error { // taken away
			_, err := n.db.Jobs().Move(ctx, tx, []job.Move{{ID: "a", From: job.Running, To: job.Ready, Epoch: r.Epoch, Raise: true}})
			return err
		})
		other := n.session(n.db, "h2")
		n.same("taken over", len(n.claim(n.db, other, "h1", 1)), 1)
		var done []bool
		n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
			done, err = c.Jobs().Move(ctx, tx, []job.Move{{ID: "a", From: job.Running, To: job.Succeeded, Epoch: r.Epoch}})
			return err
		})
		n.same("done", done, []bool{false})
		n.same("state", n.get("a").State, job.Running)
	})
	t.Run("conductor-17 a sender that is not proven", func(t *testing.T) {
		n := newNet(t)
		n.server("s1", nil)
		s := &anonymous{n.hub.Open("s2")}
		sb := &node{Bus: bus.New(s, bus.Config{Env: n.env("s2")})}
		n.run(sb.Bus)
		srv := n.newServer(sb, "s2", func(c *conductor.ServerConfig) { c.Topic = "unsure" })
		n.run(srv)
		n.served(sb, "unsure")
		c := n.client("h1", func(c *conductor.Config) { c.Topic = "unsure" })
		err := c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
			_, err := c.Leases().Open(ctx, tx, lease.Info{Name: "h1", State: lease.Active}, "p", time.Hour)
			return err
		})
		if !errors.Is(err, conductor.ErrDenied) {
			t.Errorf("got %v, want ErrDenied", err)
		}
	})
}

// anonymous proves nobody.
type anonymous struct{ bus.Transport }

func ownRows(n *net) {
	n.server("s1", nil)
	c := n.client("h1", nil)
	tok := n.session(c, "h1")
	other := n.session(n.db, "h2")
	n.insert(row("mine", "h1"), row("theirs", "h2"), row("child", "h1"))
	n.same("claimed", len(n.claim(c, tok, "h1", 1)), 1)
	theirs := n.claim(n.db, other, "h2", 1)[0]
	mine := n.get("mine")
	n.in(n.db, func(ctx context.Context, tx store.Tx) error {
		_, err := n.db.Tracker().SaveHost(ctx, tx, tracker.Record{Host: "h2", Enabled: true})
		return err
	})
	denied := map[string]func(ctx context.Context, tx store.Tx) error{
		"a session of h2": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Leases().Open(ctx, tx, lease.Info{Name: "h2", State: lease.Active}, "p", time.Hour)
			return err
		},
		"renew h2": func(ctx context.Context, tx store.Tx) error {
			return c.Leases().Renew(ctx, tx, other, lease.Info{State: lease.Active}, time.Hour)
		},
		"close h2 by a false name": func(ctx context.Context, tx store.Tx) error {
			false_ := other
			false_.Node = "h1"
			return c.Leases().Close(ctx, tx, false_)
		},
		"acquire ha/zone-1": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Leases().Acquire(ctx, tx, tok, "ha/zone-1")
			return err
		},
		"claim of h2's queue": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Claim(ctx, tx, claimOf(tok, "h2", 1))
			return err
		},
		"claim for h2's session": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Claim(ctx, tx, claimOf(lease.Token{Node: "h1", Incarnation: 1, Store: other.Store, Epoch: other.Epoch}, "h1", 1))
			return err
		},
		"finish h2's job": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Move(ctx, tx, []job.Move{{ID: "theirs", From: job.Running, To: job.Succeeded, Epoch: theirs.Epoch}})
			return err
		},
		"both in one commit": func(ctx context.Context, tx store.Tx) error {
			if err := c.Jobs().Log(ctx, tx, []job.Entry{{JobID: "mine", Epoch: mine.Epoch, Text: "x"}}); err != nil {
				return err
			}
			return c.Jobs().Log(ctx, tx, []job.Entry{{JobID: "theirs", Epoch: theirs.Epoch, Text: "x"}})
		},
		"save h2": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Tracker().SaveHost(ctx, tx, tracker.Record{Host: "h2", Generation: 1})
			return err
		},
		"list all jobs": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().List(ctx, tx, job.Find{Query: &job.Query{}})
			return err
		},
		"read h2's job": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{"theirs"}})
			return err
		},
		"submit": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Insert(ctx, tx, []job.Row{row("new", "h1")})
			return err
		},
		"wake anybody": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Signal(ctx, tx, job.Signal{Topic: "x"})
			return err
		},
		"a policy": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Queues().Policy(ctx, tx, []syncqueue.PolicyRow{{Kind: "vm"}})
			return err
		},
		"maintenance": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Set(ctx, tx, []job.Setting{{Name: job.Maintenance, On: true}})
			return err
		},
		"another's event": func(ctx context.Context, tx store.Tx) error {
			return c.Outbox().Add(ctx, tx, []bus.Row{{ID: "e", Order: "host.h2.x", Data: []byte("{}")}})
		},
		"sweep": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Leases().Sweep(ctx, tx, 1)
			return err
		},
	}
	before := show(n.get("theirs")) + show(n.get("mine"))
	for name, f := range denied {
		if err := c.InTx(context.Background(), f); !errors.Is(err, conductor.ErrDenied) {
			n.Errorf("%s: %v, want ErrDenied", name, err)
		}
	}
	n.same("the jobs", show(n.get("theirs"))+show(n.get("mine")), before)
	if err := c.Members().Beat(context.Background(), servicegroup.Member{Group: "g", ID: "h2"}); !errors.Is(err, conductor.ErrDenied) {
		n.Errorf("a beat of h2: %v", err)
	}
	n.same("denials of one operation logged", n.log.count("level=WARN", "msg=denied", "op=job.insert"), 1)
	for name, f := range map[string]func(ctx context.Context, tx store.Tx) error{
		"renew": func(ctx context.Context, tx store.Tx) error {
			return c.Leases().Renew(ctx, tx, tok, lease.Info{State: lease.Active}, time.Hour)
		},
		"acquire": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Leases().Acquire(ctx, tx, tok, "host/h1/pool")
			return err
		},
		"log": func(ctx context.Context, tx store.Tx) error {
			return c.Jobs().Log(ctx, tx, []job.Entry{{JobID: "mine", Epoch: mine.Epoch, Text: "x"}})
		},
		"record": func(ctx context.Context, tx store.Tx) error {
			_, err := c.Tracker().SaveHost(ctx, tx, tracker.Record{Host: "h1", Enabled: true})
			return err
		},
		"finish": func(ctx context.Context, tx store.Tx) error {
			done, err := c.Jobs().Move(ctx, tx, []job.Move{{ID: "mine", From: job.Running, To: job.Succeeded, Epoch: mine.Epoch}})
			if err == nil && !done[0] {
				err = errors.New("refused")
			}
			return err
		},
	} {
		if name == "finish" {
			defer func() {
				if err := c.InTx(context.Background(), f); err != nil {
					n.Errorf("%s: %v", name, err)
				}
			}()
			continue
		}
		if err := c.InTx(context.Background(), f); err != nil {
			n.Errorf("%s: %v", name, err)
		}
	}
	who, err := c.Members().Join(context.Background(), servicegroup.Member{Group: "g", ID: "h1", Instance: "i"})
	if err == nil {
		err = c.Members().Beat(context.Background(), who)
	}
	all, err2 := c.Members().Members(context.Background(), "g")
	if err != nil || err2 != nil || len(all) != 1 || all[0].Beat != 2 {
		n.Errorf("membership: %v %v %+v", err, err2, all)
	}
}
