package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

func TestCommit(t *testing.T) {
	bubble(t, "conductor-06 an answer is lost", func(n *net) {
		s1, s2 := n.server("s1", all), n.server("s2", all)
		c := n.client("h1", nil)
		lost := 0
		drop := func(m *bus.Message) bool {
			if m.Wire.Kind == bus.KindReply && m.Method == "commit" && lost == 0 {
				lost++
				return true
			}
			return false
		}
		s1.wire.bend(drop)
		s2.wire.bend(drop)
		var got []job.Row
		n.in(c, func(ctx context.Context, tx store.Tx) (err error) {
			got, err = c.Jobs().Insert(ctx, tx, []job.Row{row("a", "q")})
			return err
		})
		stored := n.get("a")
		if lost != 1 || got[0].Seq != stored.Seq || got[0].Met != "" {
			n.Fatalf("lost %d answers; got %+v, stored %+v", lost, got, stored)
		}
		n.same("repeats", len(c.wire.sent()), 2)
	})
	bubble(t, "conductor-10 errors come as they are", errorsAreKept)
	bubble(t, "conductor-26 the answer of a claim is lost", func(n *net) {
		s := n.server("s1", all)
		c := n.client("h1", nil)
		tok := n.session(c, "h1")
		big := row("big", "q")
		big.Args = []byte(`"` + fmt.Sprintf("%0100000d", 7) + `"`)
		n.insert(row("a", "q"), big)
		lost := false
		s.wire.bend(func(m *bus.Message) bool {
			drop := m.Wire.Kind == bus.KindReply && m.Method == "commit" && !lost
			lost = lost || drop
			return drop
		})
		rows := n.claim(c, tok, "q", 10)
		if !lost || len(rows) != 2 {
			n.Fatalf("lost %v, claimed %d", lost, len(rows))
		}
		for _, r := range rows {
			if at := n.get(r.ID); at.Epoch != r.Epoch || at.Runs != 1 || string(at.Args) != string(r.Args) {
				n.Errorf("%s: epoch %d, runs %d; answered epoch %d", r.ID, at.Epoch, at.Runs, r.Epoch)
			}
		}
	})
	bubble(t, "unknown outcome", func(n *net) {
		s := n.server("s1", all)
		c := n.client("h1", nil)
		s.wire.bend(func(m *bus.Message) bool { return m.Wire.Kind == bus.KindReply })
		began := time.Now()
		err := c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().Insert(ctx, tx, []job.Row{row("a", "q")})
			return err
		})
		if !errors.Is(err, conductor.ErrUnknown) || time.Since(began) > 10*time.Second {
			n.Fatalf("%v after %v", err, time.Since(began))
		}
		n.same("stored once", n.get("a").Rev, 1)
	})
}

func errorsAreKept(n *net) {
	n.server("s1", all)
	c := n.client("h1", nil)
	tok := n.session(c, "h1")
	n.session(n.db, "h2")
	n.in(n.db, func(ctx context.Context, tx store.Tx) error {
		_, err := n.db.Tracker().SaveHost(ctx, tx, tracker.Record{Host: "h1", Enabled: true, Capacity: tracker.Amount{VCPUs: 1}})
		return err
	})
	for name, x := range map[string]struct {
		f  func(ctx context.Context, tx store.Tx) error
		is error
		as any
	}{
		"missing row": {func(ctx context.Context, tx store.Tx) error {
			_, _, err := c.Tracker().LoadHost(ctx, tx, "nowhere")
			return err
		}, tracker.ErrNotFound, nil},
		"no room": {func(ctx context.Context, tx store.Tx) error {
			_, _, err := c.Tracker().PutClaim(ctx, tx, tracker.Put{Row: tracker.Row{ID: "x", Host: "h1", Workload: "w", Amount: tracker.Amount{VCPUs: 9}}, Bound: tracker.Amount{VCPUs: 1}, TTL: time.Minute})
			return err
		}, tracker.ErrNoRoom, new(*tracker.NoRoom)},
		"held": {func(ctx context.Context, tx store.Tx) error {
			old := tok
			old.Incarnation--
			return c.Leases().Renew(ctx, tx, old, lease.Info{State: lease.Active}, time.Hour)
		}, lease.ErrHeld, new(*lease.HeldError)},
		"conflict": {func(ctx context.Context, tx store.Tx) error {
			return c.Leases().Release(ctx, tx, tok, "nothing")
		}, store.ErrConflict, nil},
	} {
		err := c.InTx(context.Background(), x.f)
		if !errors.Is(err, x.is) {
			n.Errorf("%s: %v, want %v", name, err, x.is)
		}
		if x.as != nil && !errors.As(err, x.as) {
			n.Errorf("%s: %v is no %T", name, err, x.as)
		}
	}
	_, err := c.Bus.Call(context.Background(), &bus.Message{Topic: "conductor", Namespace: "store.job", Method: "drop-table", Body: []byte("{}")})
	if !errors.Is(err, bus.ErrUnsupported) {
		n.Errorf("a missing method: %v", err)
	}
	n.same("errors logged", n.log.count("level=ERROR"), 0)
	if n.log.count("level=DEBUG", "a call failed") == 0 {
		n.Error("nothing logged")
	}
}

func TestSave(t *testing.T) {
	bubble(t, "conductor-08 only what has changed is sent", func(n *net) {
		n.server("s1", all)
		c := n.client("h1", nil)
		rec := tracker.Record{Host: "h1", Enabled: true, Capacity: tracker.Amount{VCPUs: 8, MemoryMiB: 1 << 20, Extra: map[string]int64{"gpu": 4}},
			Seen: []string{"a", "b", "c", "d", "e", "f", "g", "h"}}
		save := func() error {
			return c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
				got, err := c.Tracker().SaveHost(ctx, tx, rec)
				if err == nil {
					rec = got
				}
				return err
			})
		}
		load := func() (at tracker.Record) {
			n.in(n.db, func(ctx context.Context, tx store.Tx) (err error) {
				at, _, err = n.db.Tracker().LoadHost(ctx, tx, "h1")
				return err
			})
			return at
		}
		if err := save(); err != nil {
			n.Fatal(err)
		}
		n.same("saved", load(), rec)
		c.wire.sent()
		if err := save(); err != nil {
			n.Fatal(err)
		}
		n.same("calls without a change", c.wire.sent(), []string(nil))
		rec.Running = 7
		if err := save(); err != nil {
			n.Fatal(err)
		}
		if size := c.wire.size(); size > 400 {
			n.Errorf("%d bytes for one number", size)
		}
		n.same("saved", load(), rec)
		n.same("generation", rec.Generation, 2)
		n.same("calls", c.wire.sent(), []string{"store.tx/commit"})

		rec.Running = 8
		c.wire.bend(func(m *bus.Message) bool { return m.Wire.Kind == bus.KindCall })
		if err := save(); !errors.Is(err, conductor.ErrUnknown) {
			n.Fatalf("no answer: %v", err)
		}
		c.wire.bend(nil)
		n.same("not saved", load().Running, 7)
		time.Sleep(5 * time.Second)
		if err := save(); err != nil {
			n.Fatal(err)
		}
		n.same("saved once", load(), rec)
		n.same("generation", rec.Generation, 3)
	})
	bubble(t, "conductor-11 two hosts change one row", func(n *net) {
		n.server("s1", all)
		a, b := n.client("h1", nil), n.client("h2", nil)
		n.in(n.db, func(ctx context.Context, tx store.Tx) error {
			_, err := n.db.Tracker().SaveHost(ctx, tx, tracker.Record{Host: "x", Enabled: true})
			return err
		})
		change := func(c *client, between func(), f func(r *tracker.Record)) {
			n.Helper()
			n.in(c, func(ctx context.Context, tx store.Tx) error {
				r, _, err := c.Tracker().LoadHost(ctx, tx, "x")
				if err != nil {
					return err
				}
				if between != nil {
					between()
					between = nil
				}
				f(&r)
				_, err = c.Tracker().SaveHost(ctx, tx, r)
				return err
			})
		}
		change(a, func() { change(b, nil, func(r *tracker.Record) { r.Running = 5 }) }, func(r *tracker.Record) { r.InFlight = 6 })
		n.in(n.db, func(ctx context.Context, tx store.Tx) error {
			r, _, err := n.db.Tracker().LoadHost(ctx, tx, "x")
			n.same("both", []int{r.Running, r.InFlight}, []int{5, 6})
			return err
		})
	})
	bubble(t, "conductor-15 the store's clock only", func(n *net) {
		n.server("s1", all)
		off := &skewed{by: time.Hour}
		c := n.client("h1", func(cfg *conductor.Config) { cfg.Env.Clock = off })
		tok := n.session(c, "h1")
		n.in(c, func(_ context.Context, tx store.Tx) error {
			if d := time.Since(tx.Now()).Abs(); d > time.Second {
				n.Errorf("now is %v off", d)
			}
			return nil
		})
		n.in(n.db, func(ctx context.Context, tx store.Tx) error {
			all, err := n.db.Leases().List(ctx, tx)
			if d := all[0].Until.Sub(tx.Now()); d <= 0 || d > time.Hour || all[0].Holder != tok {
				n.Errorf("the session ends in %v", d)
			}
			return err
		})
	})
}

// skewed is a clock that is off.
type skewed struct{ by time.Duration }

func (s *skewed) Now() time.Time                         { return time.Now().Add(s.by) }
func (s *skewed) After(d time.Duration) <-chan time.Time { return time.After(d) }
