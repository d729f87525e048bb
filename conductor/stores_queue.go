package conductor

import (
	"context"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

type (
	enterArgs struct {
		ID   string
		Item syncqueue.Item
	}
	releaseArgs struct {
		Item syncqueue.Item
		Back bool
	}
)

// queueMethods: none is a host's by OwnRows; what finishing its jobs does to a line is within job.finish.
var queueMethods = tableOf("queue",
	on("list", R, func(ctx context.Context, s syncqueue.Store, tx store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
		return s.List(ctx, tx, f)
	}),
	on("enter", X, func(ctx context.Context, s syncqueue.Store, tx store.Tx, a enterArgs) (syncqueue.Item, error) {
		return s.Enter(ctx, tx, a.ID, a.Item)
	}),
	on("take", X, func(ctx context.Context, s syncqueue.Store, tx store.Tx, a syncqueue.Take) ([]syncqueue.Item, error) {
		return s.Take(ctx, tx, a)
	}),
	on("release", X, func(ctx context.Context, s syncqueue.Store, tx store.Tx, a releaseArgs) (bool, error) {
		return s.Release(ctx, tx, a.Item, a.Back)
	}),
	on("move", X, func(ctx context.Context, s syncqueue.Store, tx store.Tx, m syncqueue.Move) (syncqueue.Item, error) {
		return s.Move(ctx, tx, m)
	}),
	on("policy", X, func(ctx context.Context, s syncqueue.Store, tx store.Tx, set []syncqueue.PolicyRow) ([]syncqueue.PolicyRow, error) {
		return s.Policy(ctx, tx, set)
	}, kindBy(func(set []syncqueue.PolicyRow) Kind { return pick(len(set) == 0, R, X) })),
	on("audit", X, func(ctx context.Context, s syncqueue.Store, tx store.Tx, most int) (int, error) {
		return s.Audit(ctx, tx, most)
	}),
)

type queues struct{ f face }

var _ syncqueue.Store = queues{}

func (q queues) List(ctx context.Context, tx store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	return do[[]syncqueue.Item](ctx, q.f, tx, queueMethods["list"], f)
}

func (q queues) Enter(ctx context.Context, tx store.Tx, id string, i syncqueue.Item) (syncqueue.Item, error) {
	return do[syncqueue.Item](ctx, q.f, tx, queueMethods["enter"], enterArgs{id, i})
}

func (q queues) Take(ctx context.Context, tx store.Tx, t syncqueue.Take) ([]syncqueue.Item, error) {
	return do[[]syncqueue.Item](ctx, q.f, tx, queueMethods["take"], t)
}

func (q queues) Release(ctx context.Context, tx store.Tx, i syncqueue.Item, back bool) (bool, error) {
	return do[bool](ctx, q.f, tx, queueMethods["release"], releaseArgs{i, back})
}

func (q queues) Move(ctx context.Context, tx store.Tx, m syncqueue.Move) (syncqueue.Item, error) {
	return do[syncqueue.Item](ctx, q.f, tx, queueMethods["move"], m)
}

func (q queues) Policy(ctx context.Context, tx store.Tx, set []syncqueue.PolicyRow) ([]syncqueue.PolicyRow, error) {
	return do[[]syncqueue.PolicyRow](ctx, q.f, tx, queueMethods["policy"], set)
}

func (q queues) Audit(ctx context.Context, tx store.Tx, most int) (int, error) {
	return do[int](ctx, q.f, tx, queueMethods["audit"], most)
}
