package postgres

import (
	"context"
	"database/sql"
	"strings"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// sqlHolders: what holds a turn of $1, or would if its kind had a limit: drover_active_turn, drover_pend_loose.
// sqlWaiters: what waits: drover_pend_line. Both answer rows of one shape, named in sqlItem.
const (
	sqlHolders = `
SELECT h.seq, h.place, h.key, h.id, h.session, h.epoch, j.created AS enqueued, h.since FROM (
  SELECT a.seq, coalesce(a.place, 0) AS place, a.key, a.id, a.session, a.epoch, a.started AS since FROM @active a WHERE a.key = /*key*/ AND a.seq > 0
  UNION ALL
  SELECT b.seq, coalesce(b.place, 0), a.key, b.id, b.session, b.epoch, b.started FROM @active a CROSS JOIN LATERAL (
    SELECT * FROM @active b WHERE b.key > chr(29) || chr(31) || -a.seq || '.' AND b.key < chr(29) || chr(31) || -a.seq || '/' AND b.seq > 0) b
  WHERE a.key = /*key*/ AND a.seq < 0
  UNION ALL
  SELECT p.seq, coalesce(p.place, 0), p.key, p.id, p.session, coalesce(p.epoch, 0), coalesce(p.updated, p.run_at)
  FROM @pend p WHERE p.key = /*key*/ AND p.mode IN (-1, 5) AND p.mode <> CASE WHEN EXISTS (SELECT 1 FROM @active x WHERE x.key = p.key AND x.slot IS NOT NULL) THEN 5 ELSE 9 END
    AND coalesce((SELECT lim FROM @policy o WHERE o.kind = split_part(p.key, chr(31), 1) AND o.id = split_part(p.key, chr(31), 2) AND o.id <> ''),
                 (SELECT lim FROM @policy o WHERE o.kind = split_part(p.key, chr(31), 1) AND o.id = ''), 1) = 0) h
CROSS JOIN LATERAL (SELECT created FROM @job WHERE @job.id = h.id OFFSET 0) j`
	sqlWaiters = `
SELECT p.seq, p.place, p.key, p.id, NULL::bigint AS session, coalesce(p.epoch, 0) AS epoch, p.run_at AS enqueued, NULL::timestamptz AS since
FROM @pend p WHERE p.key = /*key*/ AND p.mode IN (1, 2)`
	sqlItem = `i.seq, i.place, i.key, i.id::text, coalesce(n.name, ''), i.epoch, i.enqueued, i.since,
  CASE WHEN i.since IS NOT NULL THEN coalesce((SELECT b.id::text FROM @active b WHERE b.seq > 0 AND b.key > chr(29) || chr(31) || i.seq || '.' AND b.key < chr(29) || chr(31) || i.seq || '/' LIMIT 1), '') ELSE '' END`
)

func of(q, key string) string { return strings.ReplaceAll(q, "/*key*/", key) }

var (
	sqlLine = `
SELECT ` + sqlItem + `, 0, 0 FROM (
  (SELECT * FROM (` + of(sqlHolders, "$1") + `) h WHERE NOT $2 AND (place, seq) > ($3::bigint, $4::bigint) ORDER BY place, seq LIMIT $5)
  UNION ALL
  (SELECT * FROM (` + of(sqlWaiters, "$1") + `) w WHERE NOT $2 OR (place, seq) > ($3::bigint, $4::bigint) ORDER BY place, seq LIMIT $5)) i
LEFT JOIN @session n ON n.epoch = i.session ORDER BY i.since IS NULL, i.place, i.seq LIMIT $5`

	sqlKeys = `
SELECT ` + sqlItem + `, (SELECT count(*) FROM (` + of(sqlHolders, "i.key") + `) c), (SELECT count(*) FROM @pend c WHERE c.key = i.key AND c.mode IN (1, 2))
FROM (
  SELECT w.* FROM (SELECT DISTINCT key FROM @pend WHERE mode IN (1, 2) AND key >= ' ' AND ($1 = '' OR key >= $1 || chr(31) AND key < $1 || chr(32)) AND key > $2 ORDER BY key LIMIT $3) k
  CROSS JOIN LATERAL (` + of(sqlWaiters, "k.key") + ` ORDER BY p.key, p.place LIMIT 1) w) i
LEFT JOIN @session n ON n.epoch = i.session ORDER BY i.key`

	sqlOlder = `
SELECT ` + sqlItem + `, 0, 0 FROM (
  SELECT DISTINCT key FROM @pend WHERE mode IN (1, 2) AND key >= ' ' AND ($1 = '' OR key >= $1 || chr(31) AND key < $1 || chr(32)) AND run_at <= now() - $2::bigint * interval '1 us'
  ORDER BY key LIMIT $3) k
CROSS JOIN LATERAL (` + of(sqlHolders, "k.key") + `
  UNION ALL
  SELECT * FROM (` + of(sqlWaiters, "k.key") + ` AND p.run_at <= now() - $2::bigint * interval '1 us' ORDER BY p.place LIMIT $3) w) i
LEFT JOIN @session n ON n.epoch = i.session ORDER BY i.key, i.since IS NULL, i.place, i.seq LIMIT $3`
)

func (q queues) List(ctx context.Context, x store.Tx, f syncqueue.Filter) ([]syncqueue.Item, error) {
	list, err := q.list(ctx, x, f)
	if err == nil {
		err = q.items().Fill(ctx, x, list)
	}
	return list, err
}

func (q queues) list(ctx context.Context, x store.Tx, f syncqueue.Filter) (items []syncqueue.Item, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return nil, err
	}
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 1000
	}
	one := collectItems(&items)
	switch {
	case f.Kinds:
		err = t.query(ctx, sqlKinds, collectKinds(&items))
	case f.Keys:
		kind, id, _ := strings.Cut(f.After, "\n")
		after := ""
		if f.After != "" {
			after = kind + keySep + id
		}
		err = t.query(ctx, sqlKeys, one, f.Kind, after, f.Limit)
	case f.Older > 0:
		err = t.query(ctx, sqlOlder, one, f.Kind, f.Older.Microseconds(), f.Limit)
	default:
		waiting, place, seq, perr := syncqueue.ParseCursor(f.After)
		if perr != nil {
			return nil, perr
		}
		err = t.query(ctx, sqlLine, one, keyText(f.Key), waiting, place, seq, f.Limit)
	}
	return items, err
}

// sqlKinds counts who waits, by drover_pend_line, and what is held, by drover_active_turn.
const sqlKinds = `
SELECT kind, sum(w), sum(h), min(joined) FROM (
  SELECT split_part(key, chr(31), 1) AS kind, 1 AS w, 0 AS h, run_at AS joined FROM @pend WHERE mode IN (1, 2) AND key >= ' '
  UNION ALL SELECT split_part(key, chr(31), 1), 0, 1, NULL FROM @active WHERE slot IS NOT NULL AND key >= ' ') x GROUP BY kind ORDER BY kind`

func collectKinds(items *[]syncqueue.Item) each {
	return func(scan func(...any) error) error {
		var i syncqueue.Item
		var joined sql.NullTime
		err := scan(&i.Key.Kind, &i.Waiting, &i.Held, &joined)
		i.Enqueued = asTime(joined)
		*items = append(*items, i)
		return err
	}
}

func collectItems(items *[]syncqueue.Item) each {
	return func(scan func(...any) error) error {
		var i syncqueue.Item
		var key string
		var since sql.NullTime
		err := scan(&i.Seq, &i.Place, &key, &i.Content, &i.Holder, &i.Epoch, &i.Enqueued, &since, &i.LentTo, &i.Held, &i.Waiting)
		i.Key, i.Enqueued, i.Since = parseKey(key), i.Enqueued.UTC(), asTime(since)
		*items = append(*items, i)
		return err
	}
}
