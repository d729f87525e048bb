package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Turns of kinds that are not simply one at a time (drover_regime): limits above 1, no limit, pauses, limits of single keys.
// They are granted under a row lock per key (drover_line), taken sorted and after every other lock of a transaction.

// leftovers settles what a claim met and could not start. retry: turns were granted, claim again.
func (cl *claiming) leftovers(ctx context.Context) (retry bool, err error) {
	if len(cl.left) == 0 {
		return false, nil
	}
	var arrivals []string
	var slow []candidate
	for _, c := range cl.left {
		switch c.class {
		case 1, 8:
			arrivals = append(arrivals, c.key)
		default:
			slow = append(slow, c)
		}
	}
	slices.Sort(arrivals)
	arrivals = slices.Compact(arrivals)
	if len(arrivals) > 0 && len(slow) == 0 && len(cl.got) == 0 && cl.parked == 0 && !cl.single {
		_, err := cl.admit(ctx, arrivals) // nothing was changed yet: to wait for a turn that changes hands deadlocks with nobody
		return true, err
	}
	if len(arrivals) > 0 {
		cl.afterCommit(func(ctx context.Context, t *tx) error {
			_, err := t.admit(ctx, arrivals)
			return err
		})
	}
	if len(slow) == 0 {
		return false, nil
	}
	if cl.single {
		return false, cl.specialApart(ctx, slow)
	}
	return false, cl.special(ctx, slow)
}

// sqlForeign: keys whose turn is free and whose arrival stands near the head of another queue, found by one descent of
// drover_pend_ready per queue.
const sqlForeign = `
WITH RECURSIVE q AS (
  (SELECT queue FROM @pend WHERE mode < 2 ORDER BY queue LIMIT 1)
  UNION ALL
  SELECT (SELECT n.queue FROM @pend n WHERE n.mode < 2 AND n.queue > q.queue ORDER BY n.queue LIMIT 1) FROM q WHERE q.queue IS NOT NULL
)
SELECT DISTINCT l.key FROM q CROSS JOIN LATERAL (
  SELECT key, mode FROM @pend WHERE queue = q.queue AND mode < 2 ORDER BY queue, priority, run_at, seq LIMIT 100) l
WHERE q.queue IS NOT NULL AND NOT q.queue = ANY ($1::text[]) AND l.mode = 1
  AND (split_part(l.key, chr(31), 1) = ` + special + `) IS NOT TRUE AND (SELECT a.id FROM @active a WHERE a.key = l.key LIMIT 1) IS NULL`

const foreignEvery = 500 * time.Millisecond

// foreign looks, twice a second at most, for free turns in front of queues that this session does not claim from.
func (cl *claiming) foreign(ctx context.Context) error {
	if cl.full || cl.Seqs != nil || !cl.s.every(cl.s.foreigns, cl.Session.Epoch, foreignEvery) {
		return nil
	}
	began := cl.s.env.Clock.Now()
	err := cl.aside(ctx, sqlForeign, func(scan func(...any) error) error {
		c := candidate{class: 8}
		err := scan(&c.key)
		cl.left = append(cl.left, c)
		return err
	}, list(cl.queues()))
	cl.s.later(cl.s.foreigns, cl.Session.Epoch, 20*cl.s.env.Clock.Now().Sub(began)-foreignEvery)
	return err
}

// specialApart is special in a transaction of its own: what a claim of InOne met is not locked any more.
func (cl *claiming) specialApart(ctx context.Context, rows []candidate) error {
	var got []job.Row
	err := cl.s.apart(ctx, func(ctx context.Context, x store.Tx) error {
		sub := &claiming{tx: x.(*tx), Claim: cl.Claim, got: slices.Clone(cl.got)}
		err := sub.special(ctx, rows)
		got = sub.got
		return err
	})
	if err == nil {
		cl.got = got
	}
	return err
}

// afterCommit leaves f to a transaction of its own.
func (t *tx) afterCommit(f func(ctx context.Context, t *tx) error) {
	t.later = append(t.later, func(ctx context.Context) error {
		return t.s.InTx(ctx, func(ctx context.Context, x store.Tx) error { return f(ctx, x.(*tx)) })
	})
}

// line is a key under its lock.
type line struct {
	key    string
	limit  int
	paused bool
	slots  []int64 // held
	slow   bool    // of a special kind: turns are granted under the lock only
	lent   *lending
}

const (
	sqlLock = `INSERT INTO @line (key, used) SELECT k, now() FROM unnest($1::text[]) k WHERE ` + underRegime + ` ORDER BY k ON CONFLICT (key) DO UPDATE SET used = now()`

	// sqlLines reads limits, pauses and held slots of keys; drover_policy_pkey, drover_active_turn.
	sqlLines = `
SELECT k.key, coalesce(own.lim, kind.lim, 1), coalesce(own.paused, false) OR coalesce(kind.paused, false),
       ARRAY(SELECT slot FROM @active a WHERE a.key = k.key AND slot IS NOT NULL ORDER BY slot), split_part(k.key, chr(31), 1) = ` + special + `
FROM unnest($1::text[]) k(key)
LEFT JOIN @policy own ON own.kind = split_part(k.key, chr(31), 1) AND own.id = split_part(k.key, chr(31), 2) AND own.id <> ''
LEFT JOIN @policy kind ON kind.kind = split_part(k.key, chr(31), 1) AND kind.id = ''
ORDER BY k.key`

	// sqlHeadsOf locks the first $2 in line of each key $1; those locked by others are missing from the answer.
	sqlHeadsOf = `
SELECT p.key, p.seq, p.id::text, coalesce(p.epoch, 0), p.place, p.queue, p.kind, p.priority, p.run_at
FROM unnest($1::text[], $2::int[]) k(key, n) CROSS JOIN LATERAL (
  SELECT ctid AS t FROM @pend WHERE @pend.key = k.key AND mode IN (1, 2) ORDER BY @pend.key, place LIMIT k.n) h
CROSS JOIN LATERAL (SELECT * FROM @pend WHERE ctid = h.t AND mode IN (1, 2) FOR UPDATE SKIP LOCKED) p
ORDER BY p.key, p.place`

	sqlGrant = `
WITH s AS (
  SELECT * FROM unnest($1::bigint[], $2::int[]) s(seq, slot)
), u AS (
  UPDATE @pend p SET mode = 0, back = false, rev = rev + 1, updated = now() FROM s WHERE p.seq = s.seq
  RETURNING p.id, p.seq, p.epoch, p.place, p.key, p.flags, p.attempt, p.lost, p.runs, p.rev, p.run_at, s.slot
)
INSERT INTO @active (id, seq, epoch, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
SELECT id, seq, coalesce(epoch, 0), place, now(), rev, coalesce(runs, 0), slot, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END FROM u`

	// sqlLoosen: an arrival that a claim has locked is left to it. To wait for it is a deadlock: the claim may wait for the line.
	sqlLoosen = `
WITH a AS (
  UPDATE @pend SET mode = -1, back = false, rev = rev + 1, updated = now() WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM @pend WHERE key = ANY ($1::text[]) AND mode = 1 FOR UPDATE SKIP LOCKED))
  RETURNING seq, id::text, queue, kind, priority, run_at, key
), w AS (
  UPDATE @pend SET mode = -1, back = false, rev = rev + 1, updated = now() WHERE key = ANY ($1::text[]) AND mode = 2
  RETURNING seq, id::text, queue, kind, priority, run_at, key
)
SELECT * FROM a UNION ALL SELECT * FROM w`

	// sqlSettle parks the arrivals of keys that were looked at under their lock.
	sqlSettle = `
UPDATE @pend SET mode = 2 WHERE ctid = ANY (ARRAY(SELECT ctid FROM @pend WHERE key = ANY ($1::text[]) AND mode = 1 FOR UPDATE SKIP LOCKED))`
)

// lines locks keys, which are sorted, and reads them.
func (t *tx) lines(ctx context.Context, keys []string) (all []line, err error) {
	if _, err := t.exec(ctx, sqlLock, keys); err != nil {
		return nil, err
	}
	err = t.query(ctx, sqlLines, func(scan func(...any) error) error {
		var l line
		err := scan(&l.key, &l.limit, &l.paused, (*ints)(&l.slots), &l.slow)
		all = append(all, l)
		return err
	}, keys)
	if err != nil {
		return nil, err
	}
	return all, t.readLenders(ctx, all)
}

// free slots, lowest first.
func (l *line) free() (slots []int64) {
	if l.paused || l.limit == 0 {
		return nil
	}
	for n := int64(0); len(l.slots)+len(slots) < l.limit && len(slots) < 1000; n++ {
		if _, held := slices.BinarySearch(l.slots, n); !held {
			slots = append(slots, n)
		}
	}
	return slots
}

// grant gives the free turns of locked lines away and answers who got them.
func (t *tx) grant(ctx context.Context, lines []line) (granted []candidate, err error) {
	if err := t.giveBack(ctx, lines); err != nil {
		return nil, err
	}
	var loose, limited, keys []string
	var want []int64
	slots := map[string][]int64{}
	for i := range lines {
		l := &lines[i]
		if l.limit == 0 && !l.paused {
			loose = append(loose, l.key)
			continue
		}
		limited = append(limited, l.key)
		if s := l.free(); len(s) > 0 {
			slots[l.key] = s
			keys, want = append(keys, l.key), append(want, int64(len(s)))
		}
	}
	if len(loose) > 0 {
		err := t.query(ctx, sqlLoosen, func(scan func(...any) error) error {
			var c candidate
			err := scan(&c.seq, &c.id, &c.queue, &c.kind, &c.priority, &c.runAt, &c.key)
			granted = append(granted, c)
			return err
		}, loose)
		if err != nil {
			return nil, err
		}
	}
	got := map[string]int{}
	var seqs, given []int64
	if len(keys) > 0 {
		err := t.query(ctx, sqlHeadsOf, func(scan func(...any) error) error {
			var c candidate
			var epoch int64
			err := scan(&c.key, &c.seq, &c.id, &epoch, &c.place, &c.queue, &c.kind, &c.priority, &c.runAt)
			seqs, given = append(seqs, c.seq), append(given, slots[c.key][got[c.key]])
			got[c.key]++
			granted = append(granted, c)
			return err
		}, keys, want)
		if err != nil {
			return nil, err
		}
	}
	if len(seqs) > 0 {
		if _, err := t.exec(ctx, sqlGrant, seqs, given); err != nil {
			return nil, err
		}
	}
	for _, c := range granted {
		t.readied(c.queue, c.priority, c.runAt)
	}
	return granted, t.settle(ctx, limited, slots, got)
}

// settle leaves no line with a free turn unmet: whose heads are locked by others is looked at again.
func (t *tx) settle(ctx context.Context, limited []string, slots map[string][]int64, got map[string]int) error {
	if len(limited) == 0 {
		return nil
	}
	if _, err := t.exec(ctx, sqlSettle, limited); err != nil {
		return err
	}
	var open []string
	for _, k := range limited {
		if got[k] < len(slots[k]) {
			open = append(open, k)
		}
	}
	return t.lookAgain(ctx, open)
}

// grantAndStart hands on turns of special kinds; keys are sorted. It answers the turns that came free by that.
func (cl *claiming) grantAndStart(ctx context.Context, keys []string) (turns []freed, err error) {
	ls, err := cl.lines(ctx, keys)
	if err != nil {
		return nil, err
	}
	granted, err := cl.grant(ctx, ls)
	if err != nil {
		return nil, err
	}
	if err := cl.startSome(ctx, granted); err != nil {
		return nil, err
	}
	return cl.passOn(ctx, ls)
}

// special settles rows of special kinds that a claim has met and holds locked.
func (cl *claiming) special(ctx context.Context, rows []candidate) error {
	var keys []string
	var seqs []int64
	for _, c := range rows {
		keys, seqs = append(keys, c.key), append(seqs, c.seq)
	}
	slices.Sort(keys)
	ls, err := cl.lines(ctx, slices.Compact(keys))
	if err != nil {
		return err
	}
	byKey := map[string]*line{}
	for i := range ls {
		byKey[ls[i].key] = &ls[i]
	}
	var start []candidate
	var joins, returns []int64
	at := map[int64]candidate{}
	for _, c := range rows {
		at[c.seq] = c
	}
	err = cl.query(ctx, `SELECT seq, mode, EXISTS (SELECT 1 FROM @active a WHERE a.id = p.id), coalesce(flags, 0) & 8388608 <> 0 FROM @pend p WHERE seq = ANY ($1::bigint[]) ORDER BY seq FOR UPDATE OF p SKIP LOCKED`,
		func(scan func(...any) error) error {
			var seq int64
			var mode int16
			var holds, lends bool
			err := scan(&seq, &mode, &holds, &lends)
			c := at[seq]
			l := byKey[c.key]
			if l == nil {
				return errRaced
			}
			loose := l.limit == 0 && !l.paused
			switch {
			case mode == modeReady && l.paused && l.lent == nil && holds && !lends:
				returns = append(returns, seq)
			case mode == modeReady && holds, mode == modeLoose && loose:
				start = append(start, c)
			case mode == modeReady, mode == modeLoose:
				joins = append(joins, seq)
			}
			return err
		}, seqs)
	if err != nil {
		return err
	}
	if len(returns) > 0 { // a pause takes back what was granted and not started
		_, err := cl.exec(ctx, `DELETE FROM @active WHERE session IS NULL AND id = ANY (ARRAY(SELECT id FROM @pend WHERE seq = ANY ($1::bigint[])))`, returns)
		if err != nil {
			return err
		}
	}
	if joins = append(joins, returns...); len(joins) > 0 { // the kind has become limited since: they wait
		_, err := cl.exec(ctx, `UPDATE @pend SET mode = 1, place = coalesce(place, seq * 65536), rev = rev + 1, updated = now() WHERE seq = ANY ($1::bigint[])`, joins)
		if err != nil {
			return err
		}
	}
	ls = slices.DeleteFunc(ls, func(l line) bool { return !l.slow }) // those meet the next claim
	granted, err := cl.grant(ctx, ls)
	if err != nil {
		return err
	}
	return cl.startSome(ctx, append(start, granted...))
}

// later puts off what every allows by d: it was dear.
func (s *Store) later(last map[int64]time.Time, session int64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last[session] = last[session].Add(max(0, d))
}

// every tells whether d has passed since it said so for this session.
func (s *Store) every(last map[int64]time.Time, session int64, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.env.Clock.Now()
	if at, ok := last[session]; ok && now.Sub(at) < d {
		return false
	}
	if len(last) > 1000 {
		clear(last)
	}
	last[session] = now
	return true
}
