package postgres

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/places"
	"github.com/drover-cloud/drover/syncqueue"
)

const (
	// One lock per key, between moves alone and before any row lock: who claims or hands on does not know it.
	sqlMoveLock = `SELECT pg_advisory_xact_lock(hashtextextended('@pend' || $1, 0)) WHERE ` + underRegime

	sqlKeyOf = `SELECT coalesce((SELECT key FROM @pend WHERE seq = $1), '')`

	// sqlWaiter locks a waiter; who is granted in this moment is none.
	sqlWaiter = `SELECT 1 FROM @pend WHERE seq = $1 AND mode IN (1, 2) FOR UPDATE`

	// sqlHolds: the job holds a turn, or would if its key had a limit; by drover_pend_seq, and through what runs: for an error only.
	sqlHolds = `
SELECT EXISTS (SELECT 1 FROM @pend p WHERE seq = $1 AND key IS NOT NULL AND (mode = -1 OR EXISTS (SELECT 1 FROM @active a WHERE a.id = p.id AND a.slot IS NOT NULL)))
  OR EXISTS (SELECT 1 FROM @active WHERE session IS NOT NULL AND key IS NOT NULL AND seq = $1)`

	sqlFirst   = `SELECT seq FROM @pend WHERE key = $1 AND mode IN (1, 2) ORDER BY key, place LIMIT 1`
	sqlPlaceOf = `SELECT place FROM @pend WHERE seq = $1 AND key = $2 AND mode IN (1, 2)`
	sqlBelow   = `SELECT seq, place FROM @pend WHERE key = $1 AND mode IN (1, 2) AND place < $2 AND seq <> $3 ORDER BY key DESC, place DESC LIMIT $4`

	// sqlPlace: back, since their new places may be before the holder's. Who has left the line meanwhile keeps what it has.
	sqlPlace = `
UPDATE @pend p SET place = r.place, back = true, rev = rev + 1, updated = now()
FROM unnest($1::bigint[], $2::bigint[]) r(seq, place) WHERE p.seq = r.seq AND p.mode IN (1, 2)`
)

var sqlItemOf = `SELECT ` + sqlItem + `, 0, 0 FROM (` + of(sqlWaiters, "p.key") + ` AND p.seq = $1) i LEFT JOIN @session n ON n.epoch = i.session`

func (q queues) Move(ctx context.Context, x store.Tx, m syncqueue.Move) (i syncqueue.Item, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return i, err
	}
	if i, err = t.moveInLine(ctx, m); err != nil {
		return i, fmt.Errorf("postgres: move: %w", err)
	}
	return i, nil
}

func (t *tx) moveInLine(ctx context.Context, m syncqueue.Move) (i syncqueue.Item, err error) {
	var key string
	if err := t.query(ctx, sqlKeyOf, into(&key), m.Seq); err != nil {
		return i, err
	}
	if err := t.query(ctx, sqlMoveLock, nothing, key); err != nil {
		return i, err
	}
	waits := 0
	if err := t.query(ctx, sqlWaiter, into(&waits), m.Seq); err != nil {
		return i, err
	}
	if waits == 0 {
		holds := false
		if err := t.query(ctx, sqlHolds, into(&holds), m.Seq); err != nil {
			return i, err
		}
		if holds {
			return i, fmt.Errorf("%d holds a turn: %w", m.Seq, store.ErrConflict)
		}
		return i, fmt.Errorf("nobody waits as %d: %w", m.Seq, store.ErrNotFound)
	}
	if m.First {
		if err := t.query(ctx, sqlFirst, into(&m.Before), key); err != nil {
			return i, err
		}
	}
	if m.Before != m.Seq {
		if err := t.replace(ctx, key, m); err != nil {
			return i, err
		}
	}
	var items []syncqueue.Item
	if err := t.query(ctx, sqlItemOf, collectItems(&items), m.Seq); err != nil || len(items) == 0 {
		return i, err
	}
	i = items[0]
	if m.Before != m.Seq {
		err = t.log(ctx, []string{i.Content}, []job.Entry{{JobID: i.Content, Epoch: i.Epoch, Node: m.Node, Text: "moved in line"}})
	}
	return i, err
}

// replace gives a waiter its new place, and others one that makes room for it.
func (t *tx) replace(ctx context.Context, key string, m syncqueue.Move) error {
	var place int64
	var moved []places.Row
	if m.Before == 0 {
		if err := t.query(ctx, `SELECT nextval('@seq')`, into(&place)); err != nil {
			return err
		}
		place *= syncqueue.Gap
	} else {
		found := false
		err := t.query(ctx, sqlPlaceOf, func(scan func(...any) error) error {
			found = true
			return scan(&place)
		}, m.Before, key)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%d does not wait for %s: %w", m.Before, parseKey(key), store.ErrNotFound)
		}
		place, moved, err = places.Before(place, func(n int) (rows []places.Row, err error) {
			err = t.query(ctx, sqlBelow, func(scan func(...any) error) error {
				var r places.Row
				err := scan(&r.Seq, &r.Place)
				rows = append(rows, r)
				return err
			}, key, place, m.Seq, n)
			return rows, err
		})
		if err != nil {
			return err
		}
	}
	seqs, to := []int64{m.Seq}, []int64{place}
	for _, r := range moved {
		seqs, to = append(seqs, r.Seq), append(to, r.Place)
	}
	_, err := t.exec(ctx, sqlPlace, seqs, to)
	return err
}

// into scans the only column of a row.
func into[T any](v *T) each {
	return func(scan func(...any) error) error { return scan(v) }
}
