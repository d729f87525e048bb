package conductor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

func TestShape(t *testing.T) {
	bubble(t, "conductor-03 calls of a transaction", func(n *net) {
		n.server("s1", all)
		c := n.client("h1", nil)
		n.insert(row("a", "q"), row("b", "q"))
		n.in(c, func(ctx context.Context, tx store.Tx) error {
			for _, id := range []string{"a", "b"} {
				if _, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{id}}); err != nil {
					return err
				}
			}
			for i := range 3 {
				if _, err := c.Jobs().Insert(ctx, tx, []job.Row{row(fmt.Sprint("n", i), "q")}); err != nil {
					return err
				}
			}
			return nil
		})
		n.same("two reads and three writes", c.wire.sent(), []string{"store.job/list", "store.job/list", "store.tx/commit"})
		n.same("stored", n.get("n2").State, job.Ready)
		n.in(c, func(ctx context.Context, tx store.Tx) error {
			_, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}})
			if err == nil { // the same again
				_, err = c.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}})
			}
			return err
		})
		n.same("read-only", c.wire.sent(), []string{"store.job/list"})
		n.in(c, func(context.Context, store.Tx) error { return nil })
		n.same("empty", c.wire.sent(), []string(nil))
	})
	bubble(t, "conductor-04 a body that fails sends nothing", func(n *net) {
		n.server("s1", all)
		c := n.client("h1", nil)
		three := func(ctx context.Context, tx store.Tx) {
			for i := range 3 {
				if _, err := c.Jobs().Insert(ctx, tx, []job.Row{row(fmt.Sprint("n", i), "q")}); err != nil {
					n.Error(err)
				}
			}
		}
		boom := errors.New("boom")
		if err := c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error { three(ctx, tx); return boom }); err != boom {
			n.Fatalf("got %v", err)
		}
		func() {
			defer func() { n.same("recovered", recover(), "boom") }()
			_ = c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error { three(ctx, tx); panic("boom") })
		}()
		n.same("calls", c.wire.sent(), []string(nil))
		n.same("stored", n.get("n0").ID, "")
	})
	bubble(t, "conductor-05 conflicts", conflicts)
	t.Run("conductor-07 shape", shapes)
	bubble(t, "conductor-18 limits and foreign transactions", limits)
}

func conflicts(n *net) {
	n.server("s1", all)
	c := n.client("h1", nil)
	n.insert(row("a", "q"))
	touch := func() { // another node changes the row
		n.in(n.db, func(ctx context.Context, tx store.Tx) error {
			p := n.get0(ctx, tx, "a").Priority + 1
			_, err := n.db.Jobs().Move(ctx, tx, []job.Move{{ID: "a", From: job.Ready, To: job.Ready, Priority: &p}})
			return err
		})
	}
	body := func(times int, runs *int) func(ctx context.Context, tx store.Tx) error {
		return func(ctx context.Context, tx store.Tx) error {
			if _, err := c.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}}); err != nil {
				return err
			}
			if *runs++; *runs <= times {
				touch()
			}
			_, err := c.Jobs().Insert(ctx, tx, []job.Row{row(fmt.Sprint("n", times), "q")})
			return err
		}
	}
	runs := 0
	n.in(c, body(1, &runs))
	if runs != 3 { // the conflict, the commit, and once more with what that has drawn
		n.Fatalf("%d runs, want 3", runs)
	}
	runs = 0
	if err := c.InTx(context.Background(), body(99, &runs)); !errors.Is(err, store.ErrConflict) || runs != 5 {
		n.Fatalf("%d runs of what always conflicts: %v", runs, err)
	}
	n.same("stored", n.get("n99").ID, "")
	runs = 0
	err := c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		runs++
		return c.Jobs().Log(ctx, tx, []job.Entry{{JobID: "a", Epoch: 7, Text: "x"}})
	})
	var op *conductor.OpError
	if !errors.Is(err, store.ErrConflict) || runs != 1 || !errors.As(err, &op) || op.Op != 1 {
		n.Fatalf("a single operation: %d runs, %v", runs, err)
	}
}

func (n *net) get0(ctx context.Context, tx store.Tx, id string) job.Row {
	found, err := n.db.Jobs().List(ctx, tx, job.Find{IDs: []string{id}})
	if err != nil || len(found.Rows) != 1 {
		n.Errorf("job %s: %v", id, err)
		return job.Row{}
	}
	return found.Rows[0]
}

// both runs f on a client and on a checked local store.
func both(t *testing.T, f func(t *testing.T, db job.DB)) {
	t.Run("client", func(t *testing.T) {
		n := newNet(t)
		n.server("s1", all)
		f(t, n.client("h1", nil).Client)
	})
	t.Run("checked", func(t *testing.T) { f(t, conductor.CheckShape(&memory.Store{})) })
}

func shapes(t *testing.T) {
	both(t, func(t *testing.T, db job.DB) {
		for name, c := range map[string]struct {
			f    func(ctx context.Context, tx store.Tx) error
			want []string
		}{
			"write after a commit": {func(ctx context.Context, tx store.Tx) error {
				if _, err := db.Leases().Open(ctx, tx, lease.Info{Name: "h1", State: lease.Active}, "p", time.Hour); err != nil {
					return err
				}
				_ = db.Jobs().Log(ctx, tx, []job.Entry{{JobID: "a"}})
				return nil // the body may not hide it
			}, []string{"lease.open", "job.log"}},
			"read after a commit": {func(ctx context.Context, tx store.Tx) error {
				if _, err := db.Leases().Open(ctx, tx, lease.Info{Name: "h1", State: lease.Active}, "p", time.Hour); err != nil {
					return err
				}
				_, err := db.Leases().List(ctx, tx)
				return err
			}, []string{"lease.open", "lease.list"}},
			"read after a write of the row": {func(ctx context.Context, tx store.Tx) error {
				if _, err := db.Jobs().Insert(ctx, tx, []job.Row{row("a", "q")}); err != nil {
					return err
				}
				_, err := db.Jobs().List(ctx, tx, job.Find{IDs: []string{"a"}})
				return err
			}, []string{"job.insert", "job.list", "job/a"}},
		} {
			err := db.InTx(context.Background(), c.f)
			if !errors.Is(err, conductor.ErrShape) {
				t.Errorf("%s: %v, want ErrShape", name, err)
				continue
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %q does not name %s", name, err, w)
				}
			}
		}
		err := db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
			if _, err := db.Jobs().Insert(ctx, tx, []job.Row{row("b", "q")}); err != nil {
				return err
			}
			_, err := db.Jobs().List(ctx, tx, job.Find{IDs: []string{"other"}})
			return err
		})
		if err != nil {
			t.Errorf("a read of another row: %v", err)
		}
	})
}

func limits(n *net) {
	n.server("s1", all)
	c := n.client("h1", nil)
	other := n.client("h2", nil)
	err := c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		for i := range 201 {
			if err := c.Jobs().Log(ctx, tx, []job.Entry{{JobID: fmt.Sprint(i), Text: "x"}}); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, bus.ErrInvalid) {
		n.Errorf("201 operations: %v", err)
	}
	err = c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		return c.Jobs().Log(ctx, tx, []job.Entry{{JobID: "a", Text: strings.Repeat("x", 512<<10)}})
	})
	if !errors.Is(err, bus.ErrInvalid) {
		n.Errorf("512 KiB and more: %v", err)
	}
	n.same("calls", c.wire.sent(), []string(nil))
	err = c.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		return other.Jobs().Log(ctx, tx, []job.Entry{{JobID: "a"}})
	})
	if !errors.Is(err, store.ErrForeign) {
		n.Errorf("another client's transaction: %v", err)
	}
	err = n.db.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		return c.Jobs().Log(ctx, tx, []job.Entry{{JobID: "a"}})
	})
	if !errors.Is(err, store.ErrForeign) {
		n.Errorf("a store's own transaction: %v", err)
	}
	if err := c.InTx(context.Background(), func(ctx context.Context, _ store.Tx) error {
		return c.InTx(ctx, func(context.Context, store.Tx) error { return nil })
	}); err == nil {
		n.Error("a transaction inside a transaction")
	}
}
