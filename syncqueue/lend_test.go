package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// family submits two children on the job's own key, N*10+1 and +2, that hold. Then it parks on them, waits for them, or holds.
func (c *cluster) family(ctx context.Context, n *node, j *job.Job, a task) error {
	var ids []string
	for i := 1; i <= 2; i++ {
		child, err := n.Submit(ctx, job.Request{Kind: "task", Args: task{10*a.N + i, "hold"}, Name: fmt.Sprint(i), Sync: j.Sync})
		if err != nil {
			return err
		}
		ids = append(ids, child.ID)
	}
	switch {
	case a.Mode == "leaves":
		return c.wait(ctx, a.N)
	case a.Mode == "parks" && j.Runs == 1:
		return job.Park(job.OnChildren())
	case a.Mode == "waits":
		for _, id := range ids {
			if _, err := n.Wait(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestQueueLend(t *testing.T) {
	onEach(t, "queue-52, 53 the parent parks", func(c *cluster) {
		a := c.node("a")
		parent := c.submit(a, vm, "parks", 1, 1)[0]
		c.runs(11)
		outsider := c.submit(a, vm, "hold", 2, 2)[0]
		c.lineIs(vm, []*job.Job{parent, outsider}, "[1]", "2")
		items, err := c.q.List(t.Context(), vm)
		if err != nil || items[0].LentTo == "" {
			c.t.Fatal(items, err)
		}
		c.letGo(11)
		c.runs(12)
		c.letGo(12)
		c.runs(2)
		c.done(a, parent)
		c.letGo(2)
		c.done(a, outsider)
		c.same("order", c.order(), []int{1, 11, 12, 1, 2})
	})

	onEach(t, "queue-53 the parent waits", func(c *cluster) {
		a := c.node("a")
		parent := c.submit(a, vm, "waits", 1, 1)[0]
		c.runs(1, 11)
		outsider := c.submit(a, vm, "hold", 2, 2)[0]
		c.letGo(11)
		c.runs(1, 12)
		c.letGo(12)
		c.runs(2)
		c.done(a, parent)
		c.letGo(2)
		c.done(a, outsider)
	})

	onEach(t, "queue-53 the parent does neither", func(c *cluster) {
		a := c.node("a")
		parent := c.submit(a, vm, "leaves", 1, 1)[0]
		c.runs(1)
		outsider := c.submit(a, vm, "hold", 2, 2)[0]
		c.letGo(1)
		c.runs(11)
		c.done(a, parent)
		c.letGo(11)
		c.runs(12)
		c.letGo(12)
		c.runs(2)
		c.letGo(2)
		c.done(a, outsider)
	})

	onEach(t, "queue-54 cancelled while a borrower runs", func(c *cluster) {
		a := c.node("a")
		parent := c.submit(a, vm, "parks", 1, 1)[0]
		c.runs(11)
		outsider := c.submit(a, vm, "hold", 2, 2)[0]
		if ok, err := a.Cancel(t.Context(), parent.ID); !ok || err != nil {
			c.t.Fatal(ok, err)
		}
		c.runs(2) // the borrower's handler obeys, and the other one never runs
		c.state(a, parent, job.Cancelled)
		c.letGo(2)
		c.done(a, outsider)
		c.same("order", c.order(), []int{1, 11, 2})
	})

	onEach(t, "queue-54 the lender's node dies while a borrower runs", func(c *cluster) {
		a := c.node("a", workers(1))
		parent := c.submit(a, vm, "waits", 1, 1)[0]
		c.runs(1, 11)
		b := c.node("b")
		outsider := c.submit(b, vm, "hold", 2, 2)[0]
		a.kill()
		a.bury() // both are swept: the parent's handler starts anew when its child has ended
		c.until("the child runs again", func() bool {
			got, err := b.Get(t.Context(), parent.ID)
			return err == nil && (got.State == job.Waiting || got.State == job.Running) && len(c.order()) > 2
		}, func() any { return c.order() })
		c.letGo(11, 12)
		c.done(b, parent)
		c.until("the outsider runs", func() bool { o := c.order(); return o[len(o)-1] == 2 }, func() any { return c.order() })
		c.letGo(2)
		c.done(b, outsider)
	})

	onEach(t, "queue-55 waiting for the key one holds", func(c *cluster) {
		a := c.node("a")
		c.done(a, c.submit(a, vm, "reenters", 1, 1)...)
		c.until("the other one runs then", func() bool { return len(c.order()) == 2 }, func() any { return c.order() })
	})
}

func TestQueueSteer(t *testing.T) {
	onEach(t, "queue-45 moved waiters", func(c *cluster) {
		a := c.node("a")
		js := c.submit(a, vm, "hold", 1, 5)
		c.runs(1)
		ctx := t.Context()
		for _, err := range []error{
			c.q.MoveFirst(ctx, js[3].Seq), c.q.Move(ctx, js[1].Seq, 0), c.q.Move(ctx, js[4].Seq, js[2].Seq), c.q.Move(ctx, js[2].Seq, js[2].Seq),
		} {
			if err != nil {
				c.t.Fatal(err)
			}
		}
		c.lineIs(vm, js, "[1]", "4", "5", "3", "2")
		for _, bad := range []struct{ err, want error }{
			{c.q.MoveFirst(ctx, js[0].Seq), store.ErrConflict},
			{c.q.Move(ctx, js[1].Seq, js[0].Seq), store.ErrNotFound},
			{c.q.MoveFirst(ctx, 1<<40), store.ErrNotFound},
			{c.q.Move(ctx, 0, 0), syncqueue.ErrInvalid},
			{c.q.Move(ctx, 1, -1), syncqueue.ErrInvalid},
		} {
			if !errors.Is(bad.err, bad.want) {
				c.t.Errorf("%v, want %v", bad.err, bad.want)
			}
		}
		c.letGo(1, 2, 3, 4, 5)
		c.done(a, js...)
		c.same("order", c.order(), []int{1, 4, 5, 3, 2})
		moved := false
		for e, err := range a.Journal(ctx, js[3].ID) {
			if moved = moved || e.Text == "moved in line"; err != nil {
				c.t.Fatal(err)
			}
		}
		if !moved {
			c.t.Error("not in the journal")
		}
	})

	onEach(t, "queue-46 paused keys and kinds", func(c *cluster) {
		a := c.node("a")
		other := syncqueue.Key{Kind: "vm", ID: "43"}
		js := c.submit(a, vm, "hold", 1, 3)
		c.runs(1)
		ctx := t.Context()
		if err := errors.Join(c.q.Pause(ctx, vm), c.q.Pause(ctx, vm)); err != nil {
			c.t.Fatal(err)
		}
		c.letGo(1)
		c.done(a, js[0])
		c.lineIs(vm, js, "2", "3")
		js = append(js, c.submit(a, other, "", 4, 4)...)
		c.done(a, js[3])
		again := c.queue(nil) // as after a restart
		rows, err := again.Policies(ctx)
		if err != nil || len(rows) != 1 || !rows[0].Paused || rows[0].ID != "42" {
			c.t.Fatal(rows, err)
		}
		if err := again.Resume(ctx, vm); err != nil {
			c.t.Fatal(err)
		}
		c.runs(2)
		if err := c.q.PauseKind(ctx, "vm"); err != nil {
			c.t.Fatal(err)
		}
		js = append(js, c.submit(a, other, "", 5, 5)...)
		c.letGo(2)
		c.done(a, js[1])
		c.lineIs(other, js, "5")
		if err := errors.Join(c.q.ResumeKind(ctx, "vm"), c.q.ResumeKind(ctx, "vm"), c.q.Resume(ctx, vm)); err != nil {
			c.t.Fatal(err)
		}
		c.runs(3)
		c.letGo(3)
		c.done(a, js...)
		for _, err := range []error{c.q.Pause(ctx, syncqueue.Key{}), c.q.Pause(ctx, syncqueue.Key{Kind: "vm"}), c.q.PauseKind(ctx, "")} {
			if !errors.Is(err, syncqueue.ErrInvalid) {
				c.t.Error(err)
			}
		}
	})

	onEach(t, "queue-47 blocked behind a holder", func(c *cluster) {
		a := c.node("a")
		js := c.submit(a, vm, "hold", 1, 2)
		c.runs(1)
		ctx := t.Context()
		none, err := c.q.Blocked(ctx, time.Hour)
		if err != nil || len(none) != 0 {
			c.t.Fatal(none, err)
		}
		var items []syncqueue.Item
		c.until("it is blocked", func() bool {
			items, err = c.q.Blocked(ctx, 10*time.Millisecond)
			return err == nil && len(items) == 2
		}, func() any { return fmt.Sprint(items, err) })
		h, w := items[0], items[1]
		if h.Content != js[0].ID || h.Holder != "a" || h.Since.IsZero() || w.Content != js[1].ID || !w.Since.IsZero() || w.Key != vm {
			c.t.Fatalf("%+v", items)
		}
		c.letGo(1, 2)
		c.done(a, js...)
	})

	onEach(t, "queue-61 items of a host", hostItems)
}

func hostItems(c *cluster) {
	ctx := c.t.Context()
	do := func(f func(ctx context.Context, tx store.Tx) error) {
		c.t.Helper()
		if err := c.db.InTx(ctx, f); err != nil {
			c.t.Fatal(err)
		}
	}
	var all []syncqueue.Item
	do(func(ctx context.Context, tx store.Tx) error {
		all = nil
		for i := range 10 {
			it, err := c.q.Enter(ctx, tx, vm, fmt.Sprint("item ", i))
			if err != nil {
				return err
			}
			all = append(all, it)
		}
		return nil
	})
	take := func(holder string) (got []syncqueue.Item) {
		c.t.Helper()
		do(func(ctx context.Context, tx store.Tx) (err error) {
			got, err = c.q.Take(ctx, tx, holder, 1)
			return err
		})
		return got
	}
	var order []string
	for i := 0; ; i++ {
		got := take("h1")
		if len(got) == 0 {
			break
		}
		c.same("one at a time", len(take("h2")), 0)
		switch i {
		case 2: // back to the head
			do(func(ctx context.Context, tx store.Tx) error { return c.q.Return(ctx, tx, got[0]) })
			continue
		case 4: // its holder dies
			do(func(ctx context.Context, tx store.Tx) (err error) {
				if got, err = c.q.Orphans(ctx, tx, []string{"h1"}); err != nil || len(got) != 1 {
					return fmt.Errorf("%v: %w", got, err)
				}
				again, err := c.q.Orphans(ctx, tx, []string{"h1"})
				if len(again) > 0 {
					return fmt.Errorf("again: %v", again)
				}
				return err
			})
		case 5: // a waiter is released, and a gone one
			do(func(ctx context.Context, tx store.Tx) error {
				return errors.Join(c.q.Release(ctx, tx, all[9]), c.q.Release(ctx, tx, all[9]), c.q.Release(ctx, tx, all[0]))
			})
			c.same("still one", len(take("h2")), 0)
		}
		order = append(order, got[0].Content)
		do(func(ctx context.Context, tx store.Tx) error { return c.q.Release(ctx, tx, got[0]) })
	}
	want := []string{}
	for i := range 9 {
		want = append(want, fmt.Sprint("item ", i))
	}
	c.same("order", order, want)
	for what, err := range map[string]error{
		"key": c.db.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			_, err := c.q.Enter(ctx, tx, syncqueue.Key{}, "x")
			return err
		}),
		"content": c.db.InTx(ctx, func(ctx context.Context, tx store.Tx) error { _, err := c.q.Enter(ctx, tx, vm, ""); return err }),
		"holder":  c.db.InTx(ctx, func(ctx context.Context, tx store.Tx) error { _, err := c.q.Take(ctx, tx, "", 1); return err }),
	} {
		if !errors.Is(err, syncqueue.ErrInvalid) {
			c.t.Errorf("%s: %v", what, err)
		}
	}
}
