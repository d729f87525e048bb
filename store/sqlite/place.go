package sqlite

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/places"
	"github.com/drover-cloud/drover/syncqueue"
)

// Move gives a waiter another place; see syncqueue.Store.
func (q queues) Move(ctx context.Context, x store.Tx, m syncqueue.Move) (i syncqueue.Item, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return i, err
	}
	if i, err = t.waiter(ctx, m.Seq); err != nil {
		return i, err
	}
	if m.First {
		if err := t.row(ctx, `SELECT seq FROM drover_job WHERE key_kind = ? AND key_id = ? AND line = 0 ORDER BY place, seq LIMIT 1`,
			[]any{i.Key.Kind, i.Key.ID}, &m.Before); err != nil {
			return i, err
		}
	}
	if m.Before == m.Seq {
		return i, nil
	}
	if i.Place, err = t.placeFor(ctx, i, m); err != nil {
		return i, err
	}
	if err := t.place(ctx, i.Seq, i.Place); err != nil {
		return i, err
	}
	if err := t.note(ctx, i.Seq, job.Entry{Epoch: i.Epoch, Node: m.Node, Text: "moved in line"}); err != nil {
		return i, err
	}
	return i, t.arrive(ctx, i.Key) // whoever is first now
}

// waiter is the item with this seq, if it waits.
func (t *tx) waiter(ctx context.Context, seq int64) (syncqueue.Item, error) {
	is, err := t.items(ctx, `WHERE seq = ?`+` AND line IS NOT NULL`, seq)
	if err != nil {
		return syncqueue.Item{}, err
	}
	gone := fmt.Errorf("sqlite: move: nobody waits as %d: %w", seq, store.ErrNotFound)
	if len(is) == 0 {
		return syncqueue.Item{}, gone
	}
	if is[0].Since.IsZero() {
		return is[0], nil
	}
	p, err := t.policy(ctx, is[0].Key)
	if err != nil {
		return is[0], err
	}
	holder, err := t.has(ctx, `SELECT 1 FROM drover_job WHERE seq = ?1 AND (line IN (1, 5) OR ?2 = 0 AND state IN ('ready', 'running', 'parked'))`, seq, p.Limit)
	if err == nil && holder {
		err = fmt.Errorf("sqlite: move: %d holds a turn of %s: %w", seq, is[0].Key, store.ErrConflict)
	} else if err == nil {
		err = gone
	}
	return is[0], err
}

func (t *tx) place(ctx context.Context, seq, place int64) error {
	_, err := t.exec(ctx, `UPDATE drover_job SET place = ?, rev = rev + 1, updated = ? WHERE seq = ?`, place, t.now.UnixMicro(), seq)
	return err
}

// placeFor finds a place, and makes room for it.
func (t *tx) placeFor(ctx context.Context, i syncqueue.Item, m syncqueue.Move) (int64, error) {
	if m.Before == 0 {
		seq, err := t.nextSeqs(ctx, 1)
		return seq * syncqueue.Gap, err
	}
	b, err := t.items(ctx, `WHERE seq = ? AND line = 0 AND key_kind = ? AND key_id = ?`, m.Before, i.Key.Kind, i.Key.ID)
	if err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, fmt.Errorf("sqlite: move: %d does not wait for %s: %w", m.Before, i.Key, store.ErrNotFound)
	}
	place, moved, err := places.Before(b[0].Place, func(n int) (rows []places.Row, err error) {
		err = t.each(ctx, `SELECT seq, place FROM drover_job WHERE key_kind = ? AND key_id = ? AND line = 0 AND place < ? AND seq <> ?
			ORDER BY place DESC LIMIT ?+0`, []any{i.Key.Kind, i.Key.ID, b[0].Place, i.Seq, n}, func(scan func(...any) error) error {
			var r places.Row
			err := scan(&r.Seq, &r.Place)
			rows = append(rows, r)
			return err
		})
		return rows, err
	})
	for _, r := range moved {
		if err == nil {
			err = t.place(ctx, r.Seq, r.Place)
		}
	}
	return place, err
}
