package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"
)

// turn is one job in the line of its key, by the history.
type turn struct {
	n            int64
	feeder       int
	began, acked int64
	first, last  int64 // epochs of its claims
	job, story   string
}

// spell is the time in which one run was alive, at least: from what its handler wrote first to what it wrote last, or to
// when its epoch was superseded.
type spell struct {
	from, to time.Time
	job      string
	epoch    int64
}

// line is what went on under one key.
type line struct {
	limit  int
	turns  []turn
	spells []spell
}

type lines map[string]*line

// sqlTurns: epochs are drawn inside the claim, or inside the transaction that hands a turn on. So they order claims of one
// key as they happened, whenever a handler got to write something.
const (
	sqlTurns = `
SELECT s.key, s.lim, s.n, s.feeder, s.began, s.acked, min(h.epoch) FILTER (WHERE h.what = 'claimed'), max(h.epoch) FILTER (WHERE h.what = 'claimed'), s.job::text,
  s.mode || ' ' || string_agg(h.what || '@' || h.epoch || ' ' || to_char(h.at, 'HH24:MI:SS.US'), ', ' ORDER BY h.at)
FROM chaos_sent s JOIN chaos_history h ON h.job = s.job WHERE s.kept GROUP BY s.n HAVING bool_or(h.what = 'claimed')`

	sqlSpells = `
SELECT s.key, t.job::text, t.epoch, t.at, coalesce(e.at, 'infinity'), least(
    (SELECT min(h.at) FROM chaos_history h WHERE h.job = t.job AND h.epoch > t.epoch),
    (SELECT d.ended FROM drover_done d WHERE d.id = t.job AND (d.epoch > t.epoch OR e.at IS NULL)))
FROM chaos_sent s JOIN chaos_started t ON t.job = s.job LEFT JOIN chaos_ended e USING (run)`
)

func (h *harness) lines(ctx context.Context, c *sql.Conn) (lines, error) {
	all := lines{}
	rows, err := c.QueryContext(ctx, sqlTurns)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var limit int
		var t turn
		if err := rows.Scan(&key, &limit, &t.n, &t.feeder, &t.began, &t.acked, &t.first, &t.last, &t.job, &t.story); err != nil {
			return nil, err
		}
		l := all[key]
		if l == nil {
			l = &line{limit: limit}
			all[key] = l
		}
		l.turns = append(l.turns, t)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return all, all.readSpells(ctx, c)
}

func (ls lines) readSpells(ctx context.Context, c *sql.Conn) error {
	rows, err := c.QueryContext(ctx, `SELECT key, job, epoch, "at", CASE WHEN ended = 'infinity' THEN NULL ELSE ended END, over FROM (`+sqlSpells+`) x (key, job, epoch, at, ended, over)`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var s spell
		var ended, over sql.NullTime
		if err := rows.Scan(&key, &s.job, &s.epoch, &s.from, &ended, &over); err != nil {
			return err
		}
		s.to = over.Time
		if ended.Valid && (!over.Valid || ended.Time.Before(s.to)) {
			s.to = ended.Time
		}
		if l := ls[key]; l != nil && s.to.After(s.from) {
			l.spells = append(l.spells, s)
		}
	}
	return rows.Err()
}

// before tells whether a was surely submitted before b.
func (a *turn) before(b *turn) bool { return a.acked < b.began || a.feeder == b.feeder && a.n < b.n }

// disorder counts jobs of limit 1 that were claimed before the last claim of one submitted earlier, and tells of each.
func (ls lines) disorder(tell func(format string, a ...any)) (n int64) {
	for _, key := range slices.Sorted(maps.Keys(ls)) {
		l := ls[key]
		if l.limit != 1 {
			continue
		}
		for i := range l.turns {
			b := &l.turns[i]
			at := slices.IndexFunc(l.turns, func(a turn) bool { return a.n != b.n && b.first <= a.last && a.before(b) })
			if at >= 0 {
				n++
				tell("order: %s: %+v was claimed before %+v was done", key, *b, l.turns[at])
			}
		}
	}
	return n
}

// crowds counts runs that began while as many others of their key as may were alive, and tells of each.
func (ls lines) crowds(tell func(format string, a ...any)) (n int64) {
	for _, key := range slices.Sorted(maps.Keys(ls)) {
		l := ls[key]
		slices.SortFunc(l.spells, func(a, b spell) int { return cmp.Or(a.from.Compare(b.from), a.to.Compare(b.to)) })
		var alive []spell
		for _, s := range l.spells {
			alive = slices.DeleteFunc(alive, func(o spell) bool { return !o.to.After(s.from) })
			if len(alive) >= l.limit {
				n++
				tell("limit: %s: %v began beside %v", key, s, alive)
			}
			alive = append(alive, s)
		}
	}
	return n
}

func (s spell) String() string {
	const clock = "15:04:05.000000"
	return fmt.Sprintf("%s@%d (%s to %s)", s.job, s.epoch, s.from.Format(clock), s.to.Format(clock))
}
