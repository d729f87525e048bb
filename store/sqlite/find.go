package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// List finds rows; see job.Store. One writer: there is nothing to lock or to skip.
func (j jobs) List(ctx context.Context, x store.Tx, f job.Find) (out job.Found, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	switch {
	case f.IDs != nil:
		out.Rows, err = t.byID(ctx, f.IDs)
	case f.Query != nil:
		out.Rows, out.Next, err = t.query(ctx, *f.Query)
	case f.Due != "":
		out.Rows, err = t.due(ctx, f)
	case f.Sessions != nil:
		out.Rows, err = t.rows(ctx, selectRow+`WHERE j.state = 'running' AND j.session_epoch IN (SELECT value FROM json_each(?))
			ORDER BY j.seq LIMIT ?+0`, array(f.Sessions), f.Limit)
	case f.Resources != nil:
		out.Rows, err = t.rows(ctx, selectRow+`WHERE j.resource <> '' AND j.resource IN (SELECT value FROM json_each(?)) AND j.ended IS NULL
			ORDER BY +j.seq LIMIT ?+0`, array(f.Resources), f.Limit)
	case f.Count != nil:
		out.Counts, err = t.count(ctx, f.Count)
		return out, err
	case f.Parents != nil:
		out.Rows, err = t.rows(ctx, selectRow+`WHERE j.parent <> '' AND j.parent IN (SELECT value FROM json_each(?)) AND j.ended IS NULL
			ORDER BY j.seq LIMIT ?+0`, array(f.Parents), f.Limit)
	default:
		err = errors.New("sqlite: a Find that selects nothing")
	}
	if err != nil {
		return out, err
	}
	if f.Waits {
		if err := t.waits(ctx, out.Rows); err != nil {
			return out, err
		}
	}
	return out, t.parts(ctx, f, &out)
}

// byID answers in the order of ids.
func (t *tx) byID(ctx context.Context, ids []string) ([]job.Row, error) {
	rows, err := t.rows(ctx, selectRow+`WHERE j.id IN (SELECT value FROM json_each(?))`, array(ids))
	if err != nil {
		return nil, err
	}
	found := make(map[string]job.Row, len(rows))
	for _, r := range rows {
		found[r.ID] = r
	}
	rows = rows[:0]
	for _, id := range ids {
		if r, ok := found[id]; ok {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// due finds what a round has to do; each by the index that its conditions name.
func (t *tx) due(ctx context.Context, f job.Find) ([]job.Row, error) {
	now := t.now.UnixMicro()
	switch f.Due {
	case "scheduled":
		return t.rows(ctx, selectRow+`WHERE j.state = 'scheduled' AND j.run_at <= ? ORDER BY j.run_at, j.seq LIMIT ?+0`, now, f.Limit)
	case "deadline":
		return t.rows(ctx, selectRow+`WHERE j.deadline IS NOT NULL AND j.ended IS NULL AND j.state <> 'running' AND j.flags & 8 = 0
			AND j.deadline <= ? ORDER BY j.deadline, j.seq LIMIT ?+0`, now, f.Limit)
	case "cancel":
		return t.rows(ctx, selectRow+`WHERE j.state = 'running' AND j.cancel_at IS NOT NULL
			AND j.session_epoch IN (SELECT value FROM json_each(?)) ORDER BY j.seq LIMIT ?+0`, array(f.Sessions), f.Limit)
	case "parked":
		return t.rows(ctx, selectRow+`JOIN drover_park p ON p.seq = j.seq WHERE p.wake_at IS NOT NULL AND p.wake_at <= ?
			ORDER BY p.wake_at, p.seq LIMIT ?+0`, t.now.UnixMicro(), f.Limit)
	case "unhandled":
		return t.rows(ctx, selectRow+`WHERE j.seq IN (SELECT seq FROM drover_job INDEXED BY drover_job_ready
			WHERE state = 'ready' AND kind NOT IN (SELECT value FROM json_each(?)) AND run_at <= ? ORDER BY run_at, seq LIMIT ?+0) ORDER BY j.run_at, j.seq`,
			array(append([]string{}, f.NotKinds...)), f.Before.UnixMicro(), f.Limit)
	case "retain":
		return t.rows(ctx, selectRow+`WHERE j.ended IS NOT NULL AND j.ended <= ?1
			AND (?2 = 'null' OR j.kind IN (SELECT value FROM json_each(?2))) AND j.kind NOT IN (SELECT value FROM json_each(?3))
			AND (j.parent = '' OR NOT EXISTS (SELECT 1 FROM drover_job p WHERE p.id = j.parent AND p.ended IS NULL))
			ORDER BY j.ended, j.seq LIMIT ?4+0`, f.Before.UnixMicro(), array(f.Kinds), array(append([]string{}, f.NotKinds...)), f.Limit)
	}
	return nil, fmt.Errorf("sqlite: Find.Due: unknown value %q", f.Due)
}

// query is one page: rows in order of submission, or the other way round.
func (t *tx) query(ctx context.Context, q job.Query) (rows []job.Row, next string, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 500)
	w, err := t.where(q)
	if err != nil {
		return nil, "", err
	}
	order := ` ORDER BY j.seq`
	if q.Newest {
		order += ` DESC`
	}
	text := strings.ToLower(q.Text)
	stop := errors.New("page is full")
	err = t.each(ctx, selectRow+`WHERE `+strings.Join(w.conds, " AND ")+order, w.args, func(scan func(...any) error) error {
		r, err := scanRow(scan)
		switch {
		case err != nil:
			return err
		case text != "" && !mentions(r, text):
			return nil
		case len(rows) == limit:
			next = strconv.FormatInt(rows[limit-1].Seq, 10)
			return stop
		}
		rows = append(rows, r)
		return nil
	})
	if err == stop { //nolint:errorlint // never wrapped
		err = nil
	}
	return rows, next, err
}

// mentions tells whether text, in lower case, is found in what Query.Text searches.
func mentions(r job.Row, text string) bool {
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	if in(r.Kind) || in(r.Resource) || r.Error != nil && in(r.Error.Text) {
		return true
	}
	for _, v := range r.Identity {
		if in(v) {
			return true
		}
	}
	return false
}

// conditions of a query, joined by AND.
type conditions struct {
	conds []string
	args  []any
}

func (c *conditions) add(cond string, args ...any) {
	c.conds, c.args = append(c.conds, cond), append(c.args, args...)
}

func (c *conditions) equal(col, v string) {
	if v != "" {
		c.add(col+` = ?`, v)
	}
}

func (c *conditions) in(col string, vs []string) {
	if vs != nil {
		c.add(col+` IN (SELECT value FROM json_each(?))`, array(vs))
	}
}

func (c *conditions) within(col string, r job.Range) {
	if !r.From.IsZero() {
		c.add(col+` >= ?`, r.From.UnixMicro())
	}
	if !r.To.IsZero() {
		c.add(col+` < ?`, r.To.UnixMicro())
	}
}

func (t *tx) where(q job.Query) (*conditions, error) {
	c := &conditions{}
	if !slices.ContainsFunc(q.States, final) {
		c.add(`j.ended IS NULL`) // walks drover_job_live
	}
	if q.States != nil {
		c.add(`j.state IN (SELECT value FROM json_each(?))`, array(q.States))
	}
	c.in(`j.kind`, q.Kinds)
	c.in(`j.queue`, q.Queues)
	c.equal(`j.session`, q.Session)
	c.equal(`j.account`, q.Account)
	if q.Key != (syncqueue.Key{}) {
		c.add(`j.key_kind = ? AND j.key_id = ?`, q.Key.Kind, q.Key.ID)
	}
	if q.Resource != "" {
		c.add(`j.resource <> '' AND j.resource = ?`, q.Resource)
	}
	if q.Parent != "" {
		c.add(`j.parent <> '' AND j.parent = ?`, q.Parent)
	}
	if q.Root != "" {
		c.add(`j.seq IN (SELECT seq FROM drover_job WHERE parent <> '' AND root = ? UNION ALL SELECT seq FROM drover_job WHERE id = ?)`, q.Root, q.Root)
	}
	c.within(`j.created`, q.Created)
	c.within(`j.updated`, q.Updated)
	c.within(`j.ended`, q.Ended)
	if q.Older > 0 {
		c.add(`j.state = 'running' AND j.started <= ?`, t.now.Add(-q.Older).UnixMicro())
	}
	if q.Suffix != "" {
		c.add(`substr(j.id, -length(?)) = ?`, q.Suffix, q.Suffix)
	}
	if q.After != "" {
		seq, err := strconv.ParseInt(q.After, 10, 64)
		if err != nil {
			return nil, &job.FieldError{Field: "After", Reason: "no cursor of this store"}
		}
		c.add(map[bool]string{false: `j.seq > ?`, true: `j.seq < ?`}[q.Newest], seq)
	}
	if len(c.conds) == 0 {
		c.add(`1`)
	}
	return c, nil
}
