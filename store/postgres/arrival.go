package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// A transaction that finds a free turn never waits for the row of who stands first: whoever has locked it, by a cancel, a signal, a
// move in line, may itself wait for what this transaction holds, and may go back on everything. So it leaves the key in
// drover_arrival, and every probe has the lines of those keys looked at again, until their heads can be locked.
const (
	// sqlLookAgain leaves those of keys that have waiters; it waits for nobody. Index: drover_pend_line.
	sqlLookAgain = `
INSERT INTO @arrival (key) SELECT k FROM unnest($1::text[]) k WHERE EXISTS (SELECT 1 FROM @pend p WHERE p.key = k AND p.mode IN (1, 2))`
	sqlArrive = `INSERT INTO @arrival (key) SELECT unnest($1::text[])`

	// sqlNextArrives makes the first waiter that can be locked of each line one that claims look at; if there are waiters and none
	// can be locked, the key is left.
	sqlNextArrives = `
WITH a AS (
  UPDATE @pend SET mode = 1 WHERE ctid = ANY (ARRAY(
    SELECT l.t FROM unnest($1::text[]) k(key) CROSS JOIN LATERAL (
      SELECT ctid AS t FROM @pend WHERE @pend.key = k.key AND mode = 2 ORDER BY @pend.key, place LIMIT 1 FOR UPDATE SKIP LOCKED) l))
  RETURNING key, queue, priority, run_at
), r AS (
  INSERT INTO @arrival (key) SELECT k FROM unnest($1::text[]) k
  WHERE (k IN (SELECT key FROM a)) IS NOT TRUE AND EXISTS (SELECT 1 FROM @pend p WHERE p.key = k AND p.mode IN (1, 2))
)
SELECT queue, priority, run_at FROM a`

	// sqlArrived takes keys whose kinds are special, or are not: drover_arrival_pkey.
	sqlArrived = `
DELETE FROM @arrival WHERE n = ANY (ARRAY(
  SELECT n FROM @arrival WHERE (split_part(key, chr(31), 1) = ` + special + `) IS TRUE = $1 ORDER BY n LIMIT 500 FOR UPDATE SKIP LOCKED)) RETURNING key`

	// sqlStillHeld: keys whose holder is sure to hand on what this transaction has seen. Who holds a KEY SHARE lock never waits again.
	sqlStillHeld = `
SELECT h.key FROM unnest($1::text[]) k(key) CROSS JOIN LATERAL (
  SELECT key FROM @active a WHERE a.key = k.key AND a.slot IS NOT NULL LIMIT 1 FOR KEY SHARE SKIP LOCKED) h`
)

// arrivedEvery bounds how often a session looks at lines whose heads stay locked.
const arrivedEvery = 10 * time.Millisecond

func (t *tx) lookAgain(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := t.exec(ctx, sqlLookAgain, keys)
	return err
}

// nextArrives is for lines whose arrival has left.
func (t *tx) nextArrives(ctx context.Context, keys []string) error {
	return t.query(ctx, sqlNextArrives, func(scan func(...any) error) error {
		var queue string
		var priority int
		var runAt time.Time
		err := scan(&queue, &priority, &runAt)
		t.readied(queue, priority, runAt)
		return err
	}, keys)
}

// arrived looks at the lines of keys left in drover_arrival, in transactions of its own.
func (cl *claiming) arrived(ctx context.Context) error {
	if !cl.s.every(cl.s.arrivals, cl.Session.Epoch, arrivedEvery) {
		return nil
	}
	for _, look := range []func(context.Context, *tx) error{lookAtPlain, lookAtSpecial} {
		if !cl.single {
			cl.afterCommit(look)
			continue
		}
		if err := cl.s.apart(ctx, func(ctx context.Context, x store.Tx) error { return look(ctx, x.(*tx)) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) takeArrived(ctx context.Context, ofSpecial bool) (keys []string, err error) {
	err = t.query(ctx, sqlArrived, func(scan func(...any) error) error {
		var k string
		err := scan(&k)
		keys = append(keys, k)
		return err
	}, ofSpecial)
	return sorted(keys), err
}

func sorted(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}

func lookAtSpecial(ctx context.Context, t *tx) error {
	keys, err := t.takeArrived(ctx, true)
	if err != nil {
		return err
	}
	return t.lookAt(ctx, keys)
}

// lookAt grants the free turns of special kinds.
func (t *tx) lookAt(ctx context.Context, keys []string) error {
	turns := make([]freed, len(keys))
	for i, k := range keys {
		turns[i] = freed{key: k, slow: true}
	}
	_, err := t.handOn(ctx, turns, job.Claim{})
	return err
}

func lookAtPlain(ctx context.Context, t *tx) error {
	keys, err := t.takeArrived(ctx, false)
	if err != nil {
		return err
	}
	settled, err := t.admit(ctx, keys)
	if err != nil {
		return err
	}
	return t.keepOpen(ctx, keys, settled)
}

// keepOpen leaves again those keys whose holder is about to end: it may have looked at the line before the key was left.
func (t *tx) keepOpen(ctx context.Context, keys, settled []string) error {
	open := slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(settled, k) })
	if len(open) == 0 {
		return nil
	}
	held := map[string]bool{}
	err := t.query(ctx, sqlStillHeld, func(scan func(...any) error) error {
		var k string
		err := scan(&k)
		held[k] = true
		return err
	}, open)
	if err != nil {
		return err
	}
	return t.lookAgain(ctx, slices.DeleteFunc(open, func(k string) bool { return held[k] }))
}

// admit gives the free turns among keys, sorted, to the first in line of each, and answers which were free.
func (t *tx) admit(ctx context.Context, keys []string) (were []string, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var ids []string
	var turns []freed
	err = t.query(ctx, sqlSeize, func(scan func(...any) error) error {
		var id string
		var f freed
		err := scan(&id, &f.key)
		ids, turns, were = append(ids, id), append(turns, f), append(were, f.key)
		return err
	}, keys)
	if err != nil || len(ids) == 0 {
		return were, err
	}
	if _, err := t.exec(ctx, sqlUnseize, ids); err != nil {
		return were, err
	}
	_, err = t.handOn(ctx, turns, job.Claim{})
	return were, err
}
