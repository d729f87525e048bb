package syncqueue

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/store"
)

const (
	// ItemQueue is what stores call the queue, and the kind, of the jobs that items are to them; no job is in it.
	ItemQueue = "drover/items"
	// ItemID begins the ids of these.
	ItemID = "17e35000-"

	maxContent = 128
)

// Enter puts work of the host's that is no job into the line of k, in the host's transaction. Content is the host's own name for it,
// 1 to 128 printable bytes. Items and jobs of a key take turns with each other.
func (q *Queue) Enter(ctx context.Context, tx store.Tx, k Key, content string) (Item, error) {
	if err := checkKey(k); err != nil {
		return Item{}, err
	}
	if n := len(content); n == 0 || n > maxContent {
		return Item{}, fmt.Errorf("%w: content is %d bytes long, must be 1 to %d", ErrInvalid, n, maxContent)
	}
	if why := notText(content); why != "" {
		return Item{}, fmt.Errorf("%w: content %.64q %s", ErrInvalid, content, why)
	}
	id := q.cfg.Env.NewID()
	return q.cfg.Store.Enter(ctx, tx, ItemID+id[min(len(ItemID), len(id)):], Item{Key: k, Content: content})
}

// Take gives at most n items whose turn has come to holder, 1 to 128 bytes, in the order they were entered. Each is holder's until it is
// returned or released; who is dead is for the host to say, see Orphans.
func (q *Queue) Take(ctx context.Context, tx store.Tx, holder string, n int) ([]Item, error) {
	if holder == "" || len(holder) > maxContent {
		return nil, fmt.Errorf("%w: holder is %d bytes long, must be 1 to %d", ErrInvalid, len(holder), maxContent)
	}
	if why := notText(holder); why != "" {
		return nil, fmt.Errorf("%w: holder %.64q %s", ErrInvalid, holder, why)
	}
	if n <= 0 || n > maxPage {
		return nil, fmt.Errorf("%w: n is %d, must be 1 to %d", ErrInvalid, n, maxPage)
	}
	items, err := q.cfg.Store.Take(ctx, tx, Take{Holder: holder, Max: n})
	for _, i := range items {
		q.Granted(i.Key.Kind)
	}
	return items, err
}

// Return puts a taken item back where it was in its line: it is the next of its key, before all that were entered later. An item
// that is gone, or that was given to somebody else since, is left alone.
func (q *Queue) Return(ctx context.Context, tx store.Tx, i Item) error {
	_, err := q.cfg.Store.Release(ctx, tx, i, true)
	return err
}

// Release ends an item, waiting or taken, and hands its turn on if it had one. An item that is gone, or that was given to somebody
// else since, is left alone.
func (q *Queue) Release(ctx context.Context, tx store.Tx, i Item) error {
	_, err := q.cfg.Store.Release(ctx, tx, i, false)
	return err
}

// Orphans takes what dead holders had, once: the items are this node's (Env.Node) from then on, and what the dead do to them later
// has no effect. Return or release them.
func (q *Queue) Orphans(ctx context.Context, tx store.Tx, dead []string) ([]Item, error) {
	if len(dead) == 0 {
		return nil, nil
	}
	for _, d := range dead {
		if why := notText(d); why != "" {
			return nil, fmt.Errorf("%w: dead: %.64q %s", ErrInvalid, d, why)
		}
		if d == q.cfg.Env.Node {
			return nil, fmt.Errorf("%w: dead: %q is this node", ErrInvalid, d)
		}
	}
	return q.cfg.Store.Take(ctx, tx, Take{Holder: q.cfg.Env.Node, Max: maxPage, Dead: dead})
}
