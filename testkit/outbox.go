package testkit

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

func (s *stores) Outbox() bus.Outbox { return outbox{s, s.life.node.w.db.Outbox()} }

type outbox struct {
	s *stores
	d bus.Outbox
}

func outboxID(r bus.Row) string { return r.ID }

// act is an operation that answers nothing.
func (k outbox) act(x store.Tx, op, key string, f func(in store.Tx) error) error {
	_, err := call(k.s, x, op, key, func(in store.Tx) (struct{}, error) { return struct{}{}, f(in) }, nil)
	return err
}

func (k outbox) Add(ctx context.Context, x store.Tx, rows []bus.Row) error {
	return k.act(x, "store.outbox.add", group(rows, outboxID), func(in store.Tx) error { return k.d.Add(ctx, in, rows) })
}

func (k outbox) Claim(ctx context.Context, x store.Tx, c bus.OutboxClaim) (bus.OutboxClaimed, error) {
	return call(k.s, x, "store.outbox.claim", c.Relay, func(in store.Tx) (bus.OutboxClaimed, error) { return k.d.Claim(ctx, in, c) },
		func(r bus.OutboxClaimed) string { return fmt.Sprintf("epoch=%d rows=%d", r.Epoch, len(r.Rows)) })
}

func (k outbox) Done(ctx context.Context, x store.Tx, epoch int64, ids []string) error {
	return k.act(x, "store.outbox.done", group(ids, own), func(in store.Tx) error { return k.d.Done(ctx, in, epoch, ids) })
}

func (k outbox) Fail(ctx context.Context, x store.Tx, epoch int64, fs []bus.OutboxFailure) error {
	return k.act(x, "store.outbox.fail", group(fs, func(f bus.OutboxFailure) string { return f.ID }),
		func(in store.Tx) error { return k.d.Fail(ctx, in, epoch, fs) })
}

func (k outbox) List(ctx context.Context, x store.Tx, dead bool, after int64, limit int) ([]bus.Row, error) {
	return call(k.s, x, "store.outbox.list", "", func(in store.Tx) ([]bus.Row, error) { return k.d.List(ctx, in, dead, after, limit) }, nil)
}
