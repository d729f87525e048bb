package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func outboxes(t *testing.T, open func(t testing.TB) testkit.Stores) {
	for _, c := range []struct {
		name  string
		check func(b *box)
	}{
		{"st-60 committed and rolled back", boxCommit},
		{"st-61 order and batches", boxOrder},
		{"st-62 one relay", boxRelay},
		{"st-63 a stale relay", boxStale},
		{"st-64 failures hold back their key", boxFail},
		{"st-65 dead rows", boxDead},
		{"st-66 paging", boxPages},
		{"st-67 foreign transaction", boxForeign},
		{"st-68 nothing to send writes nothing", boxIdle},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(&box{t, open(t), open}) })
	}
}

// box wraps each method of an outbox in a transaction of its own.
type box struct {
	*testing.T
	testkit.Stores
	open func(t testing.TB) testkit.Stores
}

func (b *box) add(ids ...string) {
	b.Helper()
	in(b, b, func(ctx context.Context, tx store.Tx) error { return b.Outbox().Add(ctx, tx, boxRows(ids...)) })
}

// boxRows are rows named order/number.
func boxRows(ids ...string) (rows []bus.Row) {
	for _, id := range ids {
		order, _, _ := strings.Cut(id, "/")
		rows = append(rows, bus.Row{ID: id, Order: order, Data: []byte("data\x00\xff of " + id)})
	}
	return rows
}

func (b *box) claim(relay string, most int) (c bus.OutboxClaimed) {
	b.Helper()
	in(b, b, func(ctx context.Context, tx store.Tx) (err error) {
		c, err = b.Outbox().Claim(ctx, tx, bus.OutboxClaim{Relay: relay, TTL: 10 * time.Second, Max: most})
		return err
	})
	return c
}

// gives claims, and wants these rows.
func (b *box) gives(relay string, want ...string) bus.OutboxClaimed {
	b.Helper()
	c := b.claim(relay, 100)
	var got []string
	for _, r := range c.Rows {
		got = append(got, r.ID)
		if string(r.Data) != "data\x00\xff of "+r.ID || r.Added.IsZero() {
			b.Errorf("row %+v", r)
		}
	}
	if !slices.Equal(got, want) {
		b.Fatalf("claimed %v, want %v", got, want)
	}
	return c
}

func (b *box) done(epoch int64, ids ...string) error {
	return b.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error { return b.Outbox().Done(ctx, tx, epoch, ids) })
}

func (b *box) fail(epoch int64, fs ...bus.OutboxFailure) error {
	return b.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error { return b.Outbox().Fail(ctx, tx, epoch, fs) })
}

func (b *box) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) list(dead bool) (ids []string) {
	b.Helper()
	in(b, b, func(ctx context.Context, tx store.Tx) error {
		rows, err := b.Outbox().List(ctx, tx, dead, 0, 100)
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		return err
	})
	return ids
}

func boxCommit(b *box) {
	b.add("a/1")
	stop := errors.New("stop")
	err := failing(b, b, func(ctx context.Context, tx store.Tx) error {
		if err := b.Outbox().Add(ctx, tx, boxRows("a/2")); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		b.Fatal(err)
	}
	b.add("a/1") // known
	c := b.gives("r", "a/1")
	b.ok(b.done(c.Epoch, "a/1", "never"))
	b.gives("r")
}

func boxOrder(b *box) {
	b.add("a/1", "b/1")
	b.add("a/2", "c/1", "a/3")
	if c := b.claim("r", 2); len(c.Rows) != 2 || c.Rows[0].ID != "a/1" || c.Rows[1].ID != "b/1" || c.Pending != 5 {
		b.Fatalf("%+v", c)
	}
	c := b.gives("r", "a/1", "b/1", "a/2", "c/1", "a/3")
	b.ok(b.done(c.Epoch, "b/1", "a/1"))
	b.gives("r", "a/2", "c/1", "a/3")
}

func boxRelay(b *box) {
	b.add("a/1")
	first := b.gives("r1", "a/1")
	if c := b.gives("r2"); c.Wait <= 0 || c.Wait > 10*time.Second {
		b.Fatalf("another relay is to wait %v", c.Wait)
	}
	if c := b.gives("r1", "a/1"); c.Epoch != first.Epoch || c.Epoch <= 0 {
		b.Fatalf("renewed with epoch %d after %d", c.Epoch, first.Epoch)
	}
	advance(b, b.Stores, 6*time.Second)
	b.gives("r1", "a/1") // renews
	advance(b, b.Stores, 6*time.Second)
	b.gives("r2")
	advance(b, b.Stores, 5*time.Second)
	if c := b.gives("r2", "a/1"); c.Epoch <= first.Epoch {
		b.Fatalf("a new relay has epoch %d after %d", c.Epoch, first.Epoch)
	}
}

func boxStale(b *box) {
	b.add("a/1")
	first := b.gives("r1", "a/1")
	if err := b.done(first.Epoch-1, "a/1"); !errors.Is(err, store.ErrConflict) {
		b.Fatalf("an old epoch: %v", err)
	}
	if err := b.fail(first.Epoch+1, bus.OutboxFailure{ID: "a/1", Dead: true}); !errors.Is(err, store.ErrConflict) {
		b.Fatalf("an epoch that was not given out: %v", err)
	}
	b.gives("r1", "a/1")
}

func boxFail(b *box) {
	b.add("a/1", "b/1", "a/2")
	c := b.gives("r", "a/1", "b/1", "a/2")
	b.ok(b.fail(c.Epoch, bus.OutboxFailure{ID: "a/1", Text: "no route", Wait: time.Minute}))
	b.gives("r", "b/1")
	b.ok(b.done(c.Epoch, "b/1"))
	if c := b.gives("r"); c.Wait <= 0 || c.Wait > time.Minute {
		b.Fatalf("nothing to do for %v, want at most a minute", c.Wait)
	}
	in(b, b, func(ctx context.Context, tx store.Tx) error {
		rows, err := b.Outbox().List(ctx, tx, false, 0, 1)
		if err == nil && (len(rows) != 1 || rows[0].Tries != 1 || rows[0].Text != "no route" || rows[0].Due.Before(tx.Now())) {
			b.Errorf("%+v", rows)
		}
		return err
	})
	advance(b, b.Stores, time.Minute+time.Second)
	b.gives("r", "a/1", "a/2")
}

func boxDead(b *box) {
	b.add("a/1", "a/2")
	c := b.gives("r", "a/1", "a/2")
	b.ok(b.fail(c.Epoch, bus.OutboxFailure{ID: "a/1", Text: "never", Dead: true}))
	b.gives("r", "a/2") // a dead row holds nothing back
	if d, l := b.list(true), b.list(false); !slices.Equal(d, []string{"a/1"}) || !slices.Equal(l, []string{"a/2"}) {
		b.Fatalf("dead %v, others %v", d, l)
	}
	if err := b.fail(0, bus.OutboxFailure{ID: "a/2"}); !errors.Is(err, store.ErrNotFound) {
		b.Fatalf("revived a row that lives: %v", err)
	}
	b.ok(b.fail(0, bus.OutboxFailure{ID: "a/1"}))
	c = b.gives("r", "a/1", "a/2")
	if c.Rows[0].Tries != 0 || c.Dead != 0 {
		b.Fatalf("%+v", c)
	}
	b.ok(b.fail(c.Epoch, bus.OutboxFailure{ID: "a/1", Dead: true}))
	advance(b, b.Stores, bus.DeadFor+time.Minute)
	b.claim("r", 1)
	if d := b.list(true); len(d) != 0 {
		b.Fatalf("dead rows after 7 days: %v", d)
	}
}

func boxPages(b *box) {
	var ids []string
	for i := range 25 {
		ids = append(ids, fmt.Sprintf("a/%02d", i))
	}
	b.add(ids...)
	var got []string
	after := int64(0)
	for {
		var rows []bus.Row
		in(b, b, func(ctx context.Context, tx store.Tx) (err error) {
			rows, err = b.Outbox().List(ctx, tx, false, after, 10)
			return err
		})
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			got = append(got, r.ID)
			after = r.Seq
		}
	}
	if !slices.Equal(got, ids) {
		b.Fatalf("paged %v", got)
	}
}

func boxForeign(b *box) {
	other := b.open(b.T)
	in(b, other, func(ctx context.Context, tx store.Tx) error {
		o := b.Outbox()
		_, err := o.Claim(ctx, tx, bus.OutboxClaim{Relay: "r", TTL: time.Second, Max: 1})
		_, err2 := o.List(ctx, tx, false, 0, 1)
		for i, err := range []error{o.Add(ctx, tx, boxRows("a/1")), err, o.Done(ctx, tx, 1, nil), o.Fail(ctx, tx, 1, nil), err2} {
			if !errors.Is(err, store.ErrForeign) {
				b.Errorf("method %d: %v", i, err)
			}
		}
		return nil
	})
}

func boxIdle(b *box) {
	if c := b.claim("r1", 10); c.Epoch != 0 || len(c.Rows) != 0 || c.Wait != 0 {
		b.Fatalf("%+v", c)
	}
	b.add("a/1")
	b.gives("r2", "a/1") // r1 holds nothing
}
