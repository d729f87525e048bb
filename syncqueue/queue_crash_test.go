package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestQueueCrash(t *testing.T) {
	onEach(t, "queue-42 a killed node's turns", func(c *cluster) {
		a := c.node("a")
		var held, waiting []*job.Job
		for i := range 10 {
			k := syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i)}
			held = append(held, c.submit(a, k, "hold", i, i)...)
			waiting = append(waiting, c.submit(a, k, "hold", 100+i, 100+i)...)
		}
		c.until("10 run", func() bool { return len(c.order()) == 10 }, func() any { return c.order() })
		a.kill()
		b := c.node("b")
		again := func() int { return len(c.order()) - 10 }
		for round := 0; again() < 10; round++ { // before the sweep and in it no turn is dropped or doubled
			if round == 20 {
				c.same("runs again while its session may live", again(), 0)
				a.bury()
			}
			for i := range held {
				items, err := b.c.q.List(c.t.Context(), syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i)})
				if err != nil {
					c.t.Fatal(err)
				}
				if len(items) != 2 || items[0].Content != held[i].ID || items[0].Since.IsZero() || !items[1].Since.IsZero() {
					c.t.Fatalf("line of %d: %+v", i, items)
				}
			}
			<-time.After(10 * time.Millisecond)
		}
		for i := range held {
			c.letGo(i, 100+i)
		}
		c.done(b, append(held, waiting...)...)
		order := c.order()
		for i := range held {
			same := slices.DeleteFunc(slices.Clone(order), func(n int) bool { return n%100 != i })
			c.same("starts on a key", same, []int{i, i, 100 + i})
		}
		for _, j := range held {
			got, err := b.Get(c.t.Context(), j.ID)
			if err != nil || got.Lost != 1 || got.Attempt != 0 || got.Session != "b" {
				c.t.Fatalf("swept job: %+v, %v", got, err)
			}
		}
	})

	onEach(t, "queue-48 the whole cluster restarts", func(c *cluster) {
		a, b := c.node("a"), c.node("b")
		js := append(c.submit(a, vm, "hold", 1, 3), c.submit(b, vm, "hold", 4, 6)...)
		c.runs(1)
		a.kill()
		b.kill()
		a.bury()
		b.bury()
		d := c.node("d") // the rest of the old processes counts for nothing
		c.until("the first runs again", func() bool { return len(c.order()) == 2 }, func() any { return c.order() })
		c.letGo(1, 2, 3, 4, 5, 6)
		c.done(d, js...)
		c.same("order", c.order(), []int{1, 1, 2, 3, 4, 5, 6})
	})

	onEach(t, "queue-44 listing", func(c *cluster) {
		items, err := c.q.List(c.t.Context(), syncqueue.Key{Kind: "never", ID: "used"})
		c.same("unknown key", len(items), 0)
		a := c.node("a")
		js := c.submit(a, vm, "hold", 1, 1)
		c.runs(1)
		var rs []job.Request
		for i := range 3000 {
			rs = append(rs, job.Request{Kind: "task", Args: task{2 + i, "hold"}, Sync: vm})
		}
		more, err2 := a.SubmitMany(c.t.Context(), rs)
		js = append(js, more...)
		items, err3 := c.q.List(c.t.Context(), vm)
		if err := errors.Join(err, err2, err3); err != nil {
			c.t.Fatal(err)
		}
		first, _ := a.Get(c.t.Context(), js[0].ID)
		h := items[0]
		if h.Content != first.ID || h.Holder != "a" || h.Epoch != first.Epoch || h.Since.IsZero() || h.Seq != first.Seq {
			c.t.Fatalf("holder %+v", h)
		}
		got := make([]string, len(items))
		for i, it := range items {
			if got[i] = it.Content; i > 0 && (it.Holder != "" || !it.Since.IsZero() || it.Enqueued.IsZero()) {
				c.t.Fatalf("waiter %+v", it)
			}
		}
		want := make([]string, len(js))
		for i, j := range js {
			want[i] = j.ID
		}
		c.same("the whole line", slices.Equal(got, want), true)
		var paged []string
		f := syncqueue.Filter{Key: vm}
		for {
			page, err := c.q.Page(c.t.Context(), f)
			if err != nil {
				c.t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			if len(page) > 1000 {
				c.t.Fatalf("page of %d", len(page))
			}
			for _, it := range page {
				paged = append(paged, it.Content)
			}
			f.After = page[len(page)-1].Cursor(false)
		}
		c.same("pages without gap", slices.Equal(paged, want), true)
		keys, err := c.q.Keys(c.t.Context(), syncqueue.Filter{})
		if err != nil || len(keys) != 1 || keys[0].Key != vm || keys[0].Level != 1 || keys[0].Running != 1 || keys[0].Pending != 3000 || keys[0].Oldest <= 0 {
			c.t.Fatalf("keys %+v, %v", keys, err)
		}
		late, err := c.q.Blocked(c.t.Context(), time.Microsecond)
		if err != nil || len(late) != 1000 || late[0].Content != js[0].ID || late[1].Content != js[1].ID {
			c.t.Fatalf("blocked: %d, %v", len(late), err)
		}
		none, err := c.q.Blocked(c.t.Context(), time.Hour)
		c.same("not so long", fmt.Sprint(len(none), err), "0 <nil>")
		_, err = c.q.Blocked(c.t.Context(), 0)
		c.same("bad age", errors.Is(err, syncqueue.ErrInvalid), true)
	})
}

// bare is the store without managers: rows go in and out by hand.
type bare struct {
	*cluster
	token lease.Token
}

func (c *cluster) bare() *bare { return c.bareNode("bare") }

func (c *cluster) bareNode(name string) *bare {
	b := &bare{cluster: c}
	b.in(func(ctx context.Context, tx store.Tx) (err error) {
		b.token, err = c.db.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, "p", time.Hour)
		return err
	})
	return b
}

func (b *bare) in(f func(ctx context.Context, tx store.Tx) error) {
	b.t.Helper()
	if err := b.db.InTx(context.WithoutCancel(b.t.Context()), f); err != nil {
		b.t.Error(err)
	}
}

func row(n int, k syncqueue.Key) job.Row {
	id := fmt.Sprintf("00000000-0000-7000-8000-%012d", n)
	return job.Row{Job: job.Job{ID: id, Root: id, Kind: "k", Queue: "q", Sync: k}}
}

func (b *bare) insert(rows ...job.Row) {
	b.t.Helper()
	b.in(func(ctx context.Context, tx store.Tx) error {
		_, err := b.db.Jobs().Insert(ctx, tx, rows)
		return err
	})
}

func (b *bare) claim(most int) []job.Row { b.t.Helper(); return b.claimed(most).Rows }

func (b *bare) claimed(most int) (got job.Claimed) {
	b.t.Helper()
	b.in(func(ctx context.Context, tx store.Tx) (err error) {
		got, err = b.db.Jobs().Claim(ctx, tx, b.start(most))
		return err
	})
	return got
}

func (b *bare) start(most int) job.Claim {
	return job.Claim{Session: b.token, Kinds: []string{"k"}, Free: map[string]int{"q": most}, Max: most}
}

func (b *bare) finish(rows []job.Row, start int) (out job.Finished) {
	b.t.Helper()
	f := job.Finish{Start: b.start(start)}
	for _, r := range rows {
		f.Moves = append(f.Moves, job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch})
	}
	b.in(func(ctx context.Context, tx store.Tx) (err error) {
		out, err = b.db.Jobs().(job.Finisher).Finish(ctx, tx, f)
		return err
	})
	for i, ok := range out.Done {
		if !ok {
			b.t.Errorf("finish of %s was refused", rows[i].ID)
		}
	}
	return out
}
