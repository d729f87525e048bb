package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Signal tells jobs of what they may wait for; see job.Store.
func (j jobs) Signal(ctx context.Context, x store.Tx, s job.Signal) (out job.Signalled, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	id, own := strings.CutPrefix(s.Topic, "job/")
	switch {
	case s.Topic == "":
		out.Rows, err = t.ended(ctx, s.Ended)
	case own:
		err = t.signalOne(ctx, id, s, &out)
	default:
		err = t.signalTopic(ctx, s, &out)
	}
	if err != nil {
		return job.Signalled{}, err
	}
	return out, t.waits(ctx, out.Rows)
}

// ended takes jobs out of all joins.
func (t *tx) ended(ctx context.Context, ids []string) ([]job.Row, error) {
	rows, err := t.rows(ctx, selectRow+`WHERE j.state = 'parked' AND j.seq IN (
		SELECT g.seq FROM json_each(?) e CROSS JOIN drover_join g ON g.target = e.value) ORDER BY j.seq`, array(ids))
	if err != nil {
		return nil, err
	}
	_, err = t.exec(ctx, `DELETE FROM drover_join WHERE target IN (SELECT value FROM json_each(?))`, array(ids))
	return rows, err
}

func (t *tx) signalOne(ctx context.Context, id string, s job.Signal, out *job.Signalled) error {
	rows, err := t.rows(ctx, selectRow+`WHERE j.id = ?`, id)
	if err != nil || len(rows) == 0 {
		return err
	}
	out.Rows = rows
	if final(rows[0].State) {
		return nil
	}
	full, err := t.tell(ctx, rows[0].Seq, s)
	if out.Full = full; !full {
		out.Reached = 1
	}
	return err
}

func (t *tx) signalTopic(ctx context.Context, s job.Signal, out *job.Signalled) error {
	limit := s.Limit
	if limit <= 0 {
		limit = 500
	}
	var seqs []int64
	err := t.each(ctx, `SELECT p.seq FROM drover_topic p CROSS JOIN drover_job j ON j.seq = p.seq AND j.ended IS NULL
		WHERE p.topic = ? AND p.seq > ? ORDER BY p.seq LIMIT ?+0`, []any{s.Topic, s.After, limit + 1}, func(scan func(...any) error) error {
		var seq int64
		err := scan(&seq)
		seqs = append(seqs, seq)
		return err
	})
	if err != nil {
		return err
	}
	if len(seqs) > limit {
		seqs = seqs[:limit]
		out.Next = seqs[limit-1]
	}
	for _, seq := range seqs {
		if _, err := t.tell(ctx, seq, s); err != nil {
			return err
		}
	}
	out.Reached = len(seqs)
	if len(seqs) > 0 {
		out.Rows, err = t.rows(ctx, selectRow+`WHERE j.state = 'parked' AND j.seq IN (SELECT value FROM json_each(?)) ORDER BY j.seq`, array(seqs))
	}
	return err
}

// tell puts a signal in an inbox, unless that is full.
func (t *tx) tell(ctx context.Context, seq int64, s job.Signal) (full bool, err error) {
	var same, n int
	err = t.row(ctx, `SELECT coalesce(sum(topic = ?2 AND payload IS ?3), 0), count(*) FROM drover_inbox WHERE seq = ?1`, []any{seq, s.Topic, raw(s.Payload)}, &same, &n)
	if err != nil || same > 0 || n >= job.MaxInbox {
		return err == nil && same == 0, err
	}
	_, err = t.exec(ctx, `INSERT INTO drover_inbox (seq, topic, payload) VALUES (?, ?, ?)`, seq, s.Topic, raw(s.Payload))
	return false, err
}

// waits brings what rows wait for and have been told.
func (t *tx) waits(ctx context.Context, rows []job.Row) error {
	for i := range rows {
		r := &rows[i]
		if final(r.State) {
			continue
		}
		var conditions sql.NullString
		var wakeAt sql.NullInt64
		err := t.each(ctx, `SELECT conditions, wake_at FROM drover_park WHERE seq = ?`, []any{r.Seq}, func(scan func(...any) error) error {
			return scan(&conditions, &wakeAt)
		})
		if err != nil {
			return err
		}
		if r.WakeAt = fromUS(wakeAt); conditions.Valid {
			r.Conditions = []byte(conditions.String)
		}
		err = t.each(ctx, `SELECT target FROM drover_join WHERE seq = ? ORDER BY target`, []any{r.Seq}, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			r.Joins = append(r.Joins, id)
			return err
		})
		if err != nil {
			return err
		}
		err = t.each(ctx, `SELECT topic, payload FROM drover_inbox WHERE seq = ? ORDER BY n`, []any{r.Seq}, func(scan func(...any) error) error {
			w := job.Wake{Why: "topic"}
			err := scan(&w.Name, &w.Payload)
			r.Inbox = append(r.Inbox, w)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// park adds to what a job waits for.
func (t *tx) park(ctx context.Context, seq int64, p *job.Parking) error {
	if _, err := t.exec(ctx, `INSERT INTO drover_park (seq, conditions, wake_at) VALUES (?, ?, ?)
		ON CONFLICT (seq) DO UPDATE SET conditions = excluded.conditions, wake_at = excluded.wake_at`, seq, text(p.Conditions), us(cut(p.WakeAt))); err != nil {
		return err
	}
	if len(p.Jobs) > 0 {
		if _, err := t.exec(ctx, `INSERT INTO drover_join (target, seq) SELECT j.id, ?2 FROM json_each(?1) e CROSS JOIN drover_job j
			ON j.id = e.value AND j.ended IS NULL WHERE true ON CONFLICT DO NOTHING`, array(p.Jobs), seq); err != nil {
			return err
		}
	}
	if len(p.Topics) == 0 {
		return nil
	}
	_, err := t.exec(ctx, `INSERT INTO drover_topic (topic, seq, parked) SELECT value, ?2, true FROM json_each(?1) WHERE true
		ON CONFLICT DO NOTHING`, array(p.Topics), seq)
	return err
}

// unpark ends what a job waited for; consumed, also what it was told.
func (t *tx) unpark(ctx context.Context, seq int64, consumed bool) error {
	qs := []string{`DELETE FROM drover_park WHERE seq = ?`, `DELETE FROM drover_join WHERE seq = ?`, `DELETE FROM drover_topic WHERE seq = ? AND parked`}
	if consumed {
		qs = append(qs, `DELETE FROM drover_topic WHERE seq = ?1 AND topic IN (SELECT topic FROM drover_inbox WHERE seq = ?1)`,
			`DELETE FROM drover_inbox WHERE seq = ?`)
	}
	return t.all(ctx, qs, seq)
}

func (t *tx) all(ctx context.Context, qs []string, arg any) error {
	for _, q := range qs {
		if _, err := t.exec(ctx, q, arg); err != nil {
			return err
		}
	}
	return nil
}

func text(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}
