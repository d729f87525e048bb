package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Log writes what running handlers leave behind; see job.Store.
func (j jobs) Log(ctx context.Context, x store.Tx, es []job.Entry) error {
	t, err := j.s.of(x)
	if err != nil {
		return err
	}
	at := make([]standing, len(es))
	sealed := map[int64]bool{}
	for i, e := range es { // all guards, then the writes
		s, err := t.running(ctx, e)
		if err != nil {
			return err
		}
		if e.Seal != nil {
			if s.flags&job.Sealed != 0 || sealed[s.seq] {
				return fmt.Errorf("%w: job %s is sealed", store.ErrConflict, e.JobID)
			}
			sealed[s.seq] = true
		}
		at[i] = s
	}
	flags := map[int64]job.Flag{}
	for i, e := range es {
		if err := t.log(ctx, at[i], e, flags); err != nil {
			return err
		}
	}
	return nil
}

// running finds the job of an entry, which must run at its epoch.
func (t *tx) running(ctx context.Context, e job.Entry) (s standing, err error) {
	err = t.row(ctx, `SELECT seq, flags FROM drover_job WHERE id = ? AND state = 'running' AND epoch = ?`, []any{e.JobID, e.Epoch}, &s.seq, &s.flags)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: job %s is not running at epoch %d", store.ErrConflict, e.JobID, e.Epoch)
	}
	return s, err
}

func (t *tx) log(ctx context.Context, s standing, e job.Entry, flags map[int64]job.Flag) error {
	if e.Step != "" {
		if err := t.step(ctx, s.seq, e); err != nil {
			return err
		}
		e.Data = nil // it was the step's
	}
	if e.Topic != "" {
		if _, err := t.exec(ctx, `INSERT INTO drover_topic (topic, seq, parked) VALUES (?, ?, false)
			ON CONFLICT DO UPDATE SET parked = false`, e.Topic, s.seq); err != nil {
			return err
		}
	}
	if e.Text != "" {
		if err := t.note(ctx, s.seq, e); err != nil {
			return err
		}
	}
	u := update{}
	mark := e.Mark
	if e.Progress != nil {
		if err := u.json("progress", e.Progress); err != nil {
			return err
		}
	}
	if e.Resource != "" {
		u.set("resource", e.Resource)
	}
	if e.Seal != nil {
		mark |= job.Sealed
		fail, err := jsonOf(e.Seal.Error, e.Seal.Error == nil)
		if err != nil {
			return err
		}
		u.set("result", raw(e.Seal.Result))
		u.set("error", fail)
	}
	if mark != 0 {
		flags[s.seq] |= s.flags | mark
		u.set("flags", int64(flags[s.seq]))
	}
	if len(u.cols) == 0 {
		return nil
	}
	return u.exec(ctx, t, s.seq)
}

// step keeps the value of a step, unless there is one of that name.
func (t *tx) step(ctx context.Context, seq int64, e job.Entry) error {
	_, err := t.exec(ctx, `INSERT INTO drover_step (seq, name, epoch, node, at, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		seq, e.Step, e.Epoch, e.Node, t.at(e), raw(e.Data))
	return err
}

// at is when e was.
func (t *tx) at(e job.Entry) int64 {
	if e.At.IsZero() {
		return t.now.UnixMicro()
	}
	return e.At.UnixMicro()
}

// note appends to the journal; what a full one has no room for is counted in its last row.
func (t *tx) note(ctx context.Context, seq int64, e job.Entry) error {
	n, err := t.exec(ctx, `INSERT INTO drover_journal (seq, n, epoch, node, at, text, data, failure)
		SELECT ?1, last + 1, ?2, ?3, ?4, ?5, ?6, ?7 FROM (SELECT coalesce(max(n), 0) AS last FROM drover_journal WHERE seq = ?1) WHERE last < ?8`,
		seq, e.Epoch, e.Node, t.at(e), e.Text, raw(e.Data), e.Failure, job.MaxJournal)
	if err != nil || n > 0 {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO drover_journal (seq, n, epoch, node, at, text, data, failure) VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST('1' AS BLOB), true)
		ON CONFLICT DO UPDATE SET data = CAST(CAST(CAST(data AS TEXT) + 1 AS TEXT) AS BLOB), epoch = excluded.epoch, node = excluded.node, at = excluded.at`,
		seq, job.MaxJournal+1, e.Epoch, e.Node, t.at(e), job.DroppedText)
	return err
}

// parts brings the steps and journals of rows.
func (t *tx) parts(ctx context.Context, f job.Find, out *job.Found) error {
	for i := range out.Rows {
		r := &out.Rows[i]
		if f.Steps {
			err := t.each(ctx, `SELECT 0, epoch, node, at, name, '', data, 0 FROM drover_step WHERE seq = ? ORDER BY n`, []any{r.Seq}, entries(r.ID, &r.Steps))
			if err != nil {
				return err
			}
		}
		if f.Journal {
			err := t.each(ctx, `SELECT n, epoch, node, at, '', text, data, failure FROM drover_journal WHERE seq = ? ORDER BY n`, []any{r.Seq}, entries(r.ID, &out.Journal))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// entries appends each row to dest.
func entries(id string, dest *[]job.Entry) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		e := job.Entry{JobID: id}
		var at sql.NullInt64
		var data []byte
		err := scan(&e.N, &e.Epoch, &e.Node, &at, &e.Step, &e.Text, &data, &e.Failure)
		e.At, e.Data = fromUS(at), data
		*dest = append(*dest, e)
		return err
	}
}
