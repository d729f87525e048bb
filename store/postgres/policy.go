package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Turns is the store of the turns that jobs take.
func (j jobs) Turns() syncqueue.Store { return queues(j) }

type queues struct{ s *Store }

const (
	// Claims, finishes and moves read drover_regime; so they are all under the old rules or all under the new.
	sqlRegimeLock = `LOCK TABLE @regime IN ACCESS EXCLUSIVE MODE`

	sqlPolicySet = `
INSERT INTO @policy (kind, id, lim, paused) VALUES ($1, $2, nullif($3::int, -1), $4)
ON CONFLICT (kind, id) DO UPDATE SET lim = excluded.lim, paused = excluded.paused`
	sqlPolicies = `SELECT kind, id, coalesce(lim, -1), paused FROM @policy ORDER BY kind, id`

	// sqlRegimeSet: a kind is special unless each of its keys has one turn and none holds a higher slot, left from before.
	sqlRegimeSet = `
WITH gone AS (DELETE FROM @regime WHERE kind = $1)
INSERT INTO @regime (kind, free)
SELECT $1, p.lim = 0 AND NOT p.paused AND NOT EXISTS (SELECT 1 FROM @policy o WHERE o.kind = $1 AND o.id <> '')
FROM (SELECT coalesce((SELECT lim FROM @policy WHERE kind = $1 AND id = ''), 1) AS lim, coalesce((SELECT paused FROM @policy WHERE kind = $1 AND id = ''), false) AS paused) p
WHERE p.lim <> 1 OR p.paused OR EXISTS (SELECT 1 FROM @policy o WHERE o.kind = $1 AND o.id <> '')
   OR EXISTS (SELECT 1 FROM @active WHERE key >= $1 || chr(31) AND key < $1 || chr(32) AND slot > 0)
ON CONFLICT (kind) DO UPDATE SET free = excluded.free`

	// sqlKeysOf: the keys of a kind with live jobs in line, holding, ready or parked.
	sqlKeysOf = `
SELECT key FROM @pend WHERE mode IN (1, 2) AND key >= $1 || chr(31) AND key < $1 || chr(32)
UNION SELECT key FROM @active WHERE key >= $1 || chr(31) AND key < $1 || chr(32)
UNION SELECT key FROM @pend WHERE key IS NOT NULL AND mode IN (-1, 5) AND key >= $1 || chr(31) AND key < $1 || chr(32)
ORDER BY key`
)

func (q queues) Policy(ctx context.Context, x store.Tx, set []syncqueue.PolicyRow) (all []syncqueue.PolicyRow, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return nil, err
	}
	if len(set) > 0 {
		if _, err := t.exec(ctx, sqlRegimeLock); err != nil {
			return nil, fmt.Errorf("postgres: policy: %w", err)
		}
	}
	for _, row := range set {
		if err := t.setPolicy(ctx, row); err != nil {
			return nil, fmt.Errorf("postgres: policy: %w", err)
		}
	}
	err = t.query(ctx, sqlPolicies, func(scan func(...any) error) error {
		var r syncqueue.PolicyRow
		err := scan(&r.Kind, &r.ID, &r.Limit, &r.Paused)
		all = append(all, r)
		return err
	})
	return all, err
}

// setPolicy stores one row and brings the lines of its kind under it.
func (t *tx) setPolicy(ctx context.Context, row syncqueue.PolicyRow) error {
	var keys []string
	err := t.query(ctx, sqlKeysOf, func(scan func(...any) error) error {
		var k string
		err := scan(&k)
		keys = append(keys, k)
		return err
	}, row.Kind)
	if err != nil {
		return err
	}
	before, err := t.lines(ctx, keys)
	if err != nil {
		return err
	}
	if row.Policy == (syncqueue.Policy{Limit: syncqueue.Inherit}) {
		_, err = t.exec(ctx, `DELETE FROM @policy WHERE kind = $1 AND id = $2`, row.Kind, row.ID)
	} else {
		_, err = t.exec(ctx, sqlPolicySet, row.Kind, row.ID, row.Limit, row.Paused)
	}
	if err != nil {
		return err
	}
	var after []line
	if err := t.query(ctx, sqlLines, collectLines(&after), keys); err != nil {
		return err
	}
	var open, closed, paused []string
	for i := range after {
		was, is := &before[i], &after[i]
		switch {
		case was.limit == is.limit && was.paused == is.paused:
			continue
		case was.limit == 0 && is.limit > 0:
			closed = append(closed, is.key)
		case was.limit > 0 && is.limit == 0:
			open = append(open, is.key)
		}
		if is.paused && !was.paused {
			paused = append(paused, is.key)
		}
	}
	if err := t.convert(ctx, closed, open, paused); err != nil {
		return err
	}
	if _, err := t.exec(ctx, sqlRegimeSet, row.Kind); err != nil {
		return err
	}
	after = nil
	if err := t.query(ctx, sqlLines, collectLines(&after), keys); err != nil {
		return err
	}
	_, err = t.grant(ctx, after)
	return err
}

func collectLines(all *[]line) each {
	return func(scan func(...any) error) error {
		var l line
		err := scan(&l.key, &l.limit, &l.paused, (*ints)(&l.slots), &l.slow)
		*all = append(*all, l)
		return err
	}
}

const (
	// sqlClose: of keys that had no limit, what runs, is ready or parked becomes a holder, each in a slot of its own.
	sqlCloseRunning = `
WITH n AS (SELECT id, row_number() OVER (PARTITION BY key ORDER BY seq) - 1 AS slot FROM @active WHERE key = ANY ($1::text[]) AND slot IS NULL)
UPDATE @active a SET slot = n.slot, place = coalesce(place, seq * 65536), rev = rev + 1 FROM n WHERE a.id = n.id`
	sqlClosePending = `
WITH n AS (
  SELECT seq, key, (SELECT count(*) FROM @active a WHERE a.key = p.key) + row_number() OVER (PARTITION BY key ORDER BY seq) - 1 AS slot
  FROM @pend p WHERE key = ANY ($1::text[]) AND mode IN (-1, 5)
), u AS (
  UPDATE @pend p SET mode = CASE mode WHEN -1 THEN 0 ELSE mode END, place = coalesce(p.place, p.seq * 65536), rev = rev + 1, updated = now() FROM n WHERE p.seq = n.seq
  RETURNING p.*, n.slot
)
INSERT INTO @active (id, seq, epoch, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
SELECT id, seq, coalesce(epoch, 0), place, now(), rev, coalesce(runs, 0), slot, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END FROM u`

	// sqlOpen: of keys that have no limit any more, nobody holds a turn.
	sqlOpenRunning = `UPDATE @active SET slot = NULL, rev = rev + 1 WHERE key = ANY ($1::text[]) AND session IS NOT NULL AND slot IS NOT NULL`
	sqlOpenPending = `
WITH d AS (DELETE FROM @active WHERE key = ANY ($1::text[]) AND session IS NULL RETURNING seq)
UPDATE @pend p SET mode = CASE mode WHEN 0 THEN -1 ELSE mode END, rev = rev + 1, updated = now() FROM d WHERE p.seq = d.seq`

	// sqlPause: what was granted and has not started goes back to its place.
	sqlPauseReady = `
WITH d AS (
  DELETE FROM @active a WHERE key = ANY ($1::text[]) AND session IS NULL AND coalesce(flags, 0) & 8388608 = 0
    AND EXISTS (SELECT 1 FROM @pend p WHERE p.seq = a.seq AND p.mode = 0) RETURNING seq
)
UPDATE @pend p SET mode = 2, back = true, place = coalesce(place, p.seq * 65536), rev = rev + 1, updated = now()
WHERE p.seq = ANY (ARRAY(SELECT seq FROM d)) OR p.key = ANY ($1::text[]) AND p.mode = -1`
)

// convert does what a change of limit or pause does to jobs that are not waiting.
func (t *tx) convert(ctx context.Context, closed, open, paused []string) error {
	for _, c := range []struct {
		keys []string
		q    string
	}{
		{closed, sqlCloseRunning}, {closed, sqlClosePending}, {open, sqlOpenRunning}, {open, sqlOpenPending}, {paused, sqlPauseReady},
	} {
		if len(c.keys) == 0 {
			continue
		}
		if _, err := t.exec(ctx, c.q, c.keys); err != nil {
			return err
		}
	}
	return nil
}

// Audit repairs lines without arrival whose turn is free, and holders that are no live job.
func (q queues) Audit(ctx context.Context, x store.Tx, limit int) (repaired int, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return 0, err
	}
	var keys []string
	err = t.query(ctx, sqlAudit, func(scan func(...any) error) error {
		var k string
		err := scan(&k)
		keys = append(keys, k)
		return err
	}, limit)
	if err != nil {
		return 0, err
	}
	t.afterCommit(idleLines)
	if len(keys) == 0 {
		return 0, nil
	}
	slices.Sort(keys)
	q.s.env.Logger.ErrorContext(ctx, "postgres: repaired lines", "n", len(keys), "keys", keys[:min(len(keys), 10)])
	if _, err := t.exec(ctx, sqlDropGhosts, keys); err != nil {
		return 0, err
	}
	return len(keys), t.nextArrives(ctx, keys)
}

// idleLines drops lock rows that nobody uses, a thousand per transaction.
func idleLines(ctx context.Context, t *tx) error {
	n, err := t.exec(ctx, sqlIdleLines)
	if err == nil && n == 1000 {
		t.afterCommit(idleLines)
	}
	return err
}

const (
	// sqlIdleLines drops lock rows ten minutes after their last use; who waits for one makes it anew. Index: drover_line_used.
	sqlIdleLines = `
DELETE FROM @line WHERE key = ANY (ARRAY(SELECT key FROM @line WHERE used < now() - interval '10 min' ORDER BY used LIMIT 1000 FOR UPDATE SKIP LOCKED))`

	sqlGhosts = `a.session IS NULL AND a.seq >= 0 AND NOT EXISTS (SELECT 1 FROM @pend p WHERE p.seq = a.seq) OR a.seq < 0
    AND NOT EXISTS (SELECT 1 FROM @pend p WHERE p.mode IN (1, 2) AND p.key > chr(29) || chr(31) || -a.seq || '.' AND p.key < chr(29) || chr(31) || -a.seq || '/')
    AND NOT EXISTS (SELECT 1 FROM @active b WHERE b.key > chr(29) || chr(31) || -a.seq || '.' AND b.key < chr(29) || chr(31) || -a.seq || '/') OR EXISTS (SELECT 1 FROM @done d WHERE d.seq = a.seq AND a.seq > 0)`

	// sqlAudit is one snapshot: no counter can be wrong, but a line can be without a holder and without an arrival.
	sqlAudit = `
SELECT key FROM (
  SELECT key FROM (
    SELECT DISTINCT key FROM @pend WHERE mode = 2 AND key >= ' ' EXCEPT SELECT key FROM @pend WHERE mode = 1 EXCEPT SELECT key FROM @arrival) w
  LEFT JOIN LATERAL (SELECT count(*) AS held FROM @active a WHERE a.key = w.key AND a.slot IS NOT NULL) h ON true
  LEFT JOIN @policy own ON own.kind = split_part(key, chr(31), 1) AND own.id = split_part(key, chr(31), 2) AND own.id <> ''
  LEFT JOIN @policy kind ON kind.kind = split_part(key, chr(31), 1) AND kind.id = ''
  WHERE NOT coalesce(own.paused, false) AND NOT coalesce(kind.paused, false)
    AND (h.held < coalesce(own.lim, kind.lim, 1) OR coalesce(own.lim, kind.lim, 1) = 0)
  UNION
  SELECT key FROM @active a WHERE key IS NOT NULL AND (` + sqlGhosts + `)) x LIMIT $1`
	sqlDropGhosts = `DELETE FROM @active a WHERE key = ANY ($1::text[]) AND (` + sqlGhosts + `)`
)
