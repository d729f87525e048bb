package sqlite

import (
	"context"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/items"
	"github.com/drover-cloud/drover/syncqueue"
)

func (q queues) items() items.Items { return items.Items{Jobs: q.s.Jobs(), Admit: q.admit} }

func (q queues) Enter(ctx context.Context, x store.Tx, id string, i syncqueue.Item) (syncqueue.Item, error) {
	return q.items().Enter(ctx, x, id, i)
}

func (q queues) Take(ctx context.Context, x store.Tx, t syncqueue.Take) ([]syncqueue.Item, error) {
	return q.items().Take(ctx, x, t)
}

func (q queues) Release(ctx context.Context, x store.Tx, i syncqueue.Item, back bool) (bool, error) {
	return q.items().Release(ctx, x, i, back)
}

// admit grants the free turns in front of items that have arrived.
func (q queues) admit(ctx context.Context, x store.Tx) error {
	t, err := q.s.of(x)
	if err != nil {
		return err
	}
	return t.admit(ctx, admitted)
}
