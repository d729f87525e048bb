package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/drover-cloud/drover/job"
)

// withWaits is rows with what they wait for and have been told.
func (t *tx) withWaits(ctx context.Context, all []*loaded) ([]job.Row, error) {
	if len(all) == 0 {
		return nil, nil
	}
	rows := make([]job.Row, len(all))
	at := map[string]*job.Row{}
	var live []string
	for i, l := range all {
		rows[i] = l.Row
		if l.part != 3 {
			at[l.ID] = &rows[i]
			live = append(live, l.ID)
		}
	}
	if len(live) == 0 {
		return rows, nil
	}
	err := t.query(ctx, `SELECT id::text, wake_at, conditions FROM @park WHERE id = ANY ($1::uuid[])`, func(scan func(...any) error) error {
		var id string
		var wakeAt sql.NullTime
		var conditions sql.NullString
		err := scan(&id, &wakeAt, &conditions)
		at[id].WakeAt, at[id].Conditions = asTime(wakeAt), asJSON(conditions)
		return err
	}, live)
	if err != nil {
		return nil, err
	}
	err = t.query(ctx, `SELECT waiter::text, target::text FROM @join WHERE waiter = ANY ($1::uuid[]) ORDER BY target`, func(scan func(...any) error) error {
		var id, target string
		err := scan(&id, &target)
		at[id].Joins = append(at[id].Joins, target)
		return err
	}, live)
	if err != nil {
		return nil, err
	}
	err = t.query(ctx, `SELECT id::text, topic, payload FROM @inbox WHERE id = ANY ($1::uuid[]) ORDER BY n`, func(scan func(...any) error) error {
		w := job.Wake{Why: "topic"}
		var id string
		err := scan(&id, &w.Name, &w.Payload)
		at[id].Inbox = append(at[id].Inbox, w)
		return err
	}, live)
	return rows, err
}

const (
	sqlUnpark = `
WITH p AS (DELETE FROM @park WHERE id = ANY ($1::uuid[])),
     j AS (DELETE FROM @join WHERE waiter = ANY ($1::uuid[]))
DELETE FROM @topic WHERE id = ANY ($1::uuid[]) AND (parked OR id = ANY ($2::uuid[]) AND topic IN (SELECT i.topic FROM @inbox i WHERE i.id = @topic.id))`
	sqlEmptyInbox = `DELETE FROM @inbox WHERE id = ANY ($1::uuid[])`

	sqlPark = `INSERT INTO @park (id, seq, wake_at, conditions) VALUES ($1::uuid, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET wake_at = excluded.wake_at, conditions = excluded.conditions`
	sqlJoin = `INSERT INTO @join (target, waiter, seq) SELECT t, $2::uuid, $3 FROM unnest($1::uuid[]) u(t) ON CONFLICT DO NOTHING`
	sqlHear = `INSERT INTO @topic (topic, seq, id, parked) SELECT DISTINCT t, $2::bigint, $3::uuid, true FROM unnest($1::text[]) u(t) ON CONFLICT DO NOTHING`

	// Marks the targets of joins; a finish that has already met the unmarked row meets the new one, or tries again.
	sqlAwaitPend = `UPDATE @pend SET flags = coalesce(flags, 0) | 4194304
WHERE seq = ANY (ARRAY(SELECT seq FROM @job WHERE id = ANY ($1::uuid[]))) AND coalesce(flags, 0) & 4194304 = 0 RETURNING queue, priority, run_at, mode`
	sqlAwaitActive = `UPDATE @active SET flags = coalesce(flags, 0) | 4194304 WHERE id = ANY ($1::uuid[]) AND session IS NOT NULL AND coalesce(flags, 0) & 4194304 = 0`
)

// parks ends and begins the waiting of rows that leave Parked or come to it.
func (p *plan) parks(ctx context.Context) error {
	var left, consumed []string
	for _, c := range p.moved {
		if c.m.From == job.Parked && c.m.To != job.Parked {
			left = append(left, c.ID)
			if c.m.Wakes != nil {
				consumed = append(consumed, c.ID)
			}
		}
	}
	if len(left) > 0 {
		if _, err := p.exec(ctx, sqlUnpark, left, list(consumed)); err != nil {
			return err
		}
	}
	if len(consumed) > 0 {
		if _, err := p.exec(ctx, sqlEmptyInbox, consumed); err != nil {
			return err
		}
	}
	for _, c := range p.moved {
		if c.m.Park != nil {
			if err := p.park(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plan) park(ctx context.Context, c *change) error {
	k := c.m.Park
	wakeAt := k.WakeAt.UTC().Truncate(time.Microsecond)
	if _, err := p.exec(ctx, sqlPark, c.ID, c.Seq, nullTime(wakeAt), nullJSON(k.Conditions)); err != nil {
		return err
	}
	if len(k.Topics) > 0 {
		if _, err := p.exec(ctx, sqlHear, k.Topics, c.Seq, c.ID); err != nil {
			return err
		}
	}
	if len(k.Jobs) == 0 {
		return nil
	}
	pend, active, err := p.grip(ctx, k.Jobs)
	if err != nil {
		return err
	}
	if len(active) > 0 {
		if _, err := p.exec(ctx, sqlAwaitActive, active); err != nil {
			return err
		}
	}
	if len(pend) > 0 {
		err := p.query(ctx, sqlAwaitPend, func(scan func(...any) error) error {
			var queue string
			var priority, mode int
			var runAt time.Time
			err := scan(&queue, &priority, &runAt, &mode)
			if err == nil && mode < modeWaiting { // a claim may have passed it over
				p.readied(queue, priority, runAt)
			}
			return err
		}, pend)
		if err != nil {
			return err
		}
	}
	if live := append(pend, active...); len(live) > 0 {
		_, err = p.exec(ctx, sqlJoin, live, c.ID, c.Seq)
	}
	return err
}
