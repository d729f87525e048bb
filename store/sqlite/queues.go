package sqlite

import (
	"context"
	"database/sql"
	"math"
	"strings"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

type queues struct{ s *Store }

// page is the default and the most.
const page = 1000

const selectItem = `SELECT seq, place, key_kind, key_id, id, session, epoch, coalesce(joined, created), coalesce(since, updated), line,
	coalesce((SELECT b.id FROM drover_job b WHERE b.lender <> '' AND b.lender = drover_job.id AND b.line = 5 LIMIT 1), '') FROM drover_job `

// List finds items; see syncqueue.Store.
func (q queues) List(ctx context.Context, x store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	list, err := q.list(ctx, x, f)
	if err == nil {
		err = q.items().Fill(ctx, x, list)
	}
	return list, err
}

func (q queues) list(ctx context.Context, x store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	t, err := q.s.of(x)
	if err != nil {
		return nil, err
	}
	if f.Limit <= 0 || f.Limit > page {
		f.Limit = page
	}
	switch {
	case f.Key != (syncqueue.Key{}):
		return t.lineOf(ctx, f)
	case f.Kinds:
		return t.kinds(ctx)
	case f.Keys:
		return t.lines(ctx, f)
	case f.Older > 0:
		return t.late(ctx, f)
	}
	return nil, nil
}

// items reads what selectItem selects.
func (t *tx) items(ctx context.Context, query string, args ...any) (is []syncqueue.Item, err error) {
	err = t.each(ctx, selectItem+query, args, func(scan func(...any) error) error {
		var i syncqueue.Item
		var joined, since sql.NullInt64
		var line int
		err := scan(&i.Seq, &i.Place, &i.Key.Kind, &i.Key.ID, &i.Content, &i.Holder, &i.Epoch, &joined, &since, &line, &i.LentTo)
		i.Enqueued, i.Since = fromUS(joined), fromUS(since)
		if line == waits {
			i.Holder, i.Since = "", fromUS(sql.NullInt64{})
		}
		is = append(is, i)
		return err
	})
	return is, err
}

// heirs: they have a turn of the key that was left to borrowers.
const heirs = `line = 5 AND lender IN (WITH RECURSIVE h (lender) AS (
		SELECT lender FROM drover_legacy WHERE key_kind = ?1 AND key_id = ?2 AND origin = ''
		UNION SELECT g.lender FROM h CROSS JOIN drover_legacy g ON g.origin <> '' AND g.origin = h.lender)
	SELECT lender FROM h)`

// lineOf lists a key: holders, then waiters.
func (t *tx) lineOf(ctx context.Context, f syncqueue.Filter) (is []syncqueue.Item, err error) {
	waiting, place, seq, err := syncqueue.ParseCursor(f.After)
	if err != nil {
		return nil, err
	}
	if !waiting {
		if is, err = t.holders(ctx, f.Key, place, seq, f.Limit); err != nil {
			return nil, err
		}
		place, seq = math.MinInt64, math.MinInt64
	}
	if len(is) == f.Limit {
		return is, nil
	}
	more, err := t.items(ctx, `WHERE key_kind = ?1 AND key_id = ?2 AND line = 0 AND (place, seq) > (?3, ?4) ORDER BY place, seq LIMIT ?5+0`,
		f.Key.Kind, f.Key.ID, place, seq, f.Limit-len(is))
	return append(is, more...), err
}

// holders of a key in order of place. Of a key without limit those that are ready, running or parked count.
func (t *tx) holders(ctx context.Context, k syncqueue.Key, place, seq int64, limit int) ([]syncqueue.Item, error) {
	p, err := t.policy(ctx, k)
	if err != nil {
		return nil, err
	}
	which := `line = 1`
	if p.Limit == 0 {
		which = `line IN (1, 2) AND state IN ('ready', 'running', 'parked')`
	}
	if legacies, err := t.has(ctx, `SELECT 1 FROM drover_legacy WHERE key_kind = ? AND key_id = ?`, k.Kind, k.ID); err != nil {
		return nil, err
	} else if legacies {
		which = `(` + which + ` OR ` + heirs + `)`
	}
	return t.items(ctx, `WHERE key_kind = ?1 AND key_id = ?2 AND `+which+` AND (place, seq) > (?3, ?4) ORDER BY place, seq LIMIT ?5+0`,
		k.Kind, k.ID, place, seq, limit)
}

// lines lists the first waiter of each key that has a line, with counts.
func (t *tx) lines(ctx context.Context, f syncqueue.Filter) (is []syncqueue.Item, err error) {
	kind, id, _ := strings.Cut(f.After, "\n")
	for len(is) < f.Limit {
		k, ok, err := t.nextLine(ctx, syncqueue.Key{Kind: kind, ID: id}, f.Kind)
		if err != nil || !ok {
			return is, err
		}
		kind, id = k.Kind, k.ID
		first, err := t.items(ctx, `WHERE key_kind = ? AND key_id = ? AND line = 0 ORDER BY place, seq LIMIT 1`, kind, id)
		if err != nil {
			return nil, err
		}
		p, err := t.policy(ctx, k)
		if err != nil {
			return nil, err
		}
		err = t.row(ctx, `SELECT count(*) FILTER (WHERE line = 1 OR ?3 = 0 AND line = 2 AND state IN ('ready', 'running', 'parked')),
			count(*) FILTER (WHERE line = 0) FROM drover_job WHERE key_kind = ?1 AND key_id = ?2 AND line IS NOT NULL`,
			[]any{kind, id, p.Limit}, &first[0].Held, &first[0].Waiting)
		if err != nil {
			return nil, err
		}
		is = append(is, first...)
	}
	return is, nil
}

// kinds counts who waits and what is held.
func (t *tx) kinds(ctx context.Context) (is []syncqueue.Item, err error) {
	err = t.each(ctx, `SELECT key_kind, sum(w), sum(h), min(joined) FROM (
		SELECT key_kind, line = 0 AS w, line = 1 AS h, CASE line WHEN 0 THEN coalesce(joined, created) END AS joined FROM drover_job WHERE line IN (0, 1)
		UNION ALL SELECT key_kind, 0, 1, NULL FROM drover_legacy l WHERE origin = '') GROUP BY key_kind ORDER BY key_kind`, nil, func(scan func(...any) error) error {
		var i syncqueue.Item
		var joined sql.NullInt64
		err := scan(&i.Key.Kind, &i.Waiting, &i.Held, &joined)
		i.Enqueued = fromUS(joined)
		is = append(is, i)
		return err
	})
	return is, err
}

// nextLine finds the first key behind after (the zero Key: the first) that has a line, of one kind if that is set.
func (t *tx) nextLine(ctx context.Context, after syncqueue.Key, kind string) (k syncqueue.Key, ok bool, err error) {
	behind := `(key_kind, key_id) > (?1, ?2)`
	if after == (syncqueue.Key{}) {
		after.Kind, behind = kind, `(key_kind, key_id) >= (?1, ?2)`
	}
	err = t.each(ctx, `SELECT key_kind, key_id FROM drover_job INDEXED BY drover_job_line WHERE line IS NOT NULL AND line = 0
		AND `+behind+` AND (?3 = '' OR key_kind = ?3) ORDER BY key_kind, key_id LIMIT 1`,
		[]any{after.Kind, after.ID, kind}, func(scan func(...any) error) error {
			ok = true
			return scan(&k.Kind, &k.ID)
		})
	return k, ok, err
}

// late lists who waits longer than f.Older, behind the holders of the key.
func (t *tx) late(ctx context.Context, f syncqueue.Filter) (is []syncqueue.Item, err error) {
	waiters, err := t.items(ctx, `WHERE line = 0 AND line IS NOT NULL AND joined <= ?1 AND (?2 = '' OR key_kind = ?2)
		ORDER BY key_kind, key_id, place, seq LIMIT ?3+0`, t.now.Add(-f.Older).UnixMicro(), f.Kind, f.Limit)
	if err != nil {
		return nil, err
	}
	var last syncqueue.Key
	for _, w := range waiters {
		if w.Key != last {
			hs, err := t.holders(ctx, w.Key, math.MinInt64, math.MinInt64, f.Limit)
			if err != nil {
				return nil, err
			}
			is, last = append(is, hs...), w.Key
		}
		is = append(is, w)
	}
	return is[:min(len(is), f.Limit)], nil
}
