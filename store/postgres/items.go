package postgres

import (
	"context"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/items"
	"github.com/drover-cloud/drover/syncqueue"
)

func (q queues) items() items.Items { return items.Items{Jobs: jobs(q), Admit: q.admit} }

func (q queues) Enter(ctx context.Context, x store.Tx, id string, i syncqueue.Item) (syncqueue.Item, error) {
	return q.items().Enter(ctx, x, id, i)
}

func (q queues) Take(ctx context.Context, x store.Tx, t syncqueue.Take) ([]syncqueue.Item, error) {
	return q.items().Take(ctx, x, t)
}

func (q queues) Release(ctx context.Context, x store.Tx, i syncqueue.Item, back bool) (bool, error) {
	return q.items().Release(ctx, x, i, back)
}

// admit grants the free turns in front of items that have arrived, and in lines left to be looked at.
func (q queues) admit(ctx context.Context, x store.Tx) error {
	t, err := q.s.of(x)
	if err != nil {
		return err
	}
	var plain, special []string
	err = t.query(ctx, sqlItemsArrived, func(scan func(...any) error) error {
		var key string
		var slow bool
		err := scan(&key, &slow)
		if slow {
			special = append(special, key)
		} else {
			plain = append(plain, key)
		}
		return err
	}, items.Queue)
	if err != nil {
		return err
	}
	left, err := t.takeArrived(ctx, false)
	if err != nil {
		return err
	}
	leftSpecial, err := t.takeArrived(ctx, true)
	if err != nil {
		return err
	}
	settled, err := t.admit(ctx, sorted(append(plain, left...)))
	if err != nil {
		return err
	}
	if err := t.lookAt(ctx, sorted(append(special, leftSpecial...))); err != nil {
		return err
	}
	return t.keepOpen(ctx, left, settled)
}

// sqlItemsArrived: keys in whose line items have arrived; drover_pend_ready.
const sqlItemsArrived = `
SELECT DISTINCT key, split_part(key, chr(31), 1) = ` + special + ` FROM (
  SELECT key FROM @pend WHERE queue = $1 AND mode = 1 AND mode < 2 ORDER BY queue, priority, run_at, seq LIMIT 1000) a ORDER BY key`
