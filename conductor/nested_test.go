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

func TestOld(t *testing.T) {
	bubble(t, "conductor-12 an old client saves", func(n *net) {
		b := n.node("s1")
		srv := n.newServer(b, "s1", all)
		srv.Speak("tracker", "1.10", map[string]conductor.Back{
			"load-host": {Since: map[string]int{"Record.Seen": 7, "Record.Used.Extra": 4},
				Values: map[string]map[string]conductor.Older{"Record.Reason": {"draining": {Since: 9, As: "off"}}}},
			"save-host": {Since: map[string]int{"Seen": 7, "Used.Extra": 4},
				Values: map[string]map[string]conductor.Older{"Reason": {"draining": {Since: 9, As: "off"}}}},
		})
		n.run(srv)
		n.served(b, "conductor")
		stored := tracker.Record{Host: "h1", Reason: "draining", Seen: []string{"a"}, Used: tracker.Amount{VCPUs: 1, Extra: map[string]int64{"gpu": 2}}}
		n.in(n.db, func(ctx context.Context, tx store.Tx) (err error) {
			stored, err = n.db.Tracker().SaveHost(ctx, tx, stored)
			return err
		})
		speaks := func(c *conductor.Config) { c.Versions = map[string]string{"tracker": "1.2"} }
		c := n.client("h1", speaks)
		var rec tracker.Record
		n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
			rec, _, err = c.Tracker().LoadHost(ctx, tx, "h1")
			return err
		})
		n.same("as it is told", []any{rec.Reason, rec.Seen, rec.Used}, []any{"off", []string(nil), tracker.Amount{VCPUs: 1}})
		save := func(c *client) {
			n.Helper()
			rec.Used.VCPUs++
			rec.Running++
			n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
				rec, err = c.Tracker().SaveHost(ctx, tx, rec)
				return err
			})
			n.same("answered", []any{rec.Reason, rec.Seen, rec.Used.Extra}, []any{"off", []string(nil), map[string]int64(nil)})
			stored.Used.VCPUs++
			stored.Running++
			stored.Generation++
			n.in(n.db, func(ctx context.Context, tx store.Tx) error {
				at, _, err := n.db.Tracker().LoadHost(ctx, tx, "h1")
				stored.At = at.At
				n.same("stored", at, stored)
				return err
			})
		}
		save(c)
		save(c)
		save(n.client("h2", speaks)) // has no copy: the whole row is sent
		rec.Reason, stored.Reason = "off again", "off again"
		save2 := rec
		n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
			save2, err = c.Tracker().SaveHost(ctx, tx, rec)
			return err
		})
		n.same("a field that it has changed", save2.Reason, "off again")
	})
}
