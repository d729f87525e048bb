package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Sources of rows: each binds q(id, o) in the order to answer; lock is FOR UPDATE SKIP LOCKED or nothing.
const (
	srcScheduled = `(SELECT id, row_number() OVER () AS o FROM (SELECT id FROM @pend WHERE ` + underRegime + ` AND mode = 3 AND run_at <= now() ORDER BY run_at, seq LIMIT $1 /*lock*/) l) q ` + jobOfQ
	srcDeadline  = `(SELECT id, row_number() OVER () AS o FROM (SELECT id FROM @pend WHERE ` + underRegime + ` AND deadline <= now() ORDER BY deadline, seq LIMIT $1 /*lock*/) l) q ` + jobOfQ
	srcSessions  = `(SELECT id, row_number() OVER () AS o FROM (SELECT id FROM @active WHERE ` + underRegime + ` AND session = ANY ($2::bigint[]) ORDER BY id LIMIT $1) l) q ` + jobOfQ
	srcCancel    = `(SELECT id, row_number() OVER (ORDER BY seq) AS o FROM (
  SELECT a.id, a.seq FROM (SELECT id FROM @extra WHERE cancel_open ORDER BY id OFFSET 0) x CROSS JOIN LATERAL (SELECT id, seq, session FROM @active WHERE @active.id = x.id OFFSET 0) a
  WHERE a.session = ANY ($2::bigint[]) LIMIT $1) l) q ` + jobOfQ
	srcResources = `(SELECT id, seq AS o FROM @job WHERE resource = ANY ($2::text[]) ORDER BY seq) q ` + jobOfQ
	srcRetain    = `(SELECT id, row_number() OVER () AS o FROM (
  SELECT d.id FROM @done d CROSS JOIN LATERAL (SELECT kind, parent FROM @job WHERE @job.id = d.id OFFSET 0) k
  WHERE d.ended <= $2 AND ($3::text[] IS NULL OR k.kind = ANY ($3::text[])) AND NOT k.kind = ANY ($4::text[])
    AND (k.parent IS NULL OR NOT EXISTS (SELECT 1 FROM @job p WHERE p.id = k.parent AND NOT EXISTS (SELECT 1 FROM @done f WHERE f.seq = p.seq)))
  ORDER BY d.ended, d.seq LIMIT $1 /*lock*/) l) q ` + jobOfQ
	srcParked = `(SELECT id, row_number() OVER () AS o FROM (
  SELECT p.id FROM (SELECT seq, wake_at FROM @park WHERE ` + underRegime + ` AND wake_at IS NOT NULL AND wake_at <= now() ORDER BY wake_at LIMIT $1) k
  CROSS JOIN LATERAL (SELECT id, seq FROM @pend WHERE @pend.seq = k.seq /*lock*/) p ORDER BY k.wake_at, p.seq) l) q ` + jobOfQ
	srcUnhandled = `(SELECT id, row_number() OVER () AS o FROM (
  SELECT id FROM @pend WHERE mode < 2 AND mode IN (-1, 0) AND NOT kind = ANY ($2::text[]) AND run_at <= $3 ORDER BY run_at, seq LIMIT $1) l) q ` + jobOfQ
	jobOfQ  = `CROSS JOIN LATERAL (SELECT * FROM @job WHERE @job.id = q.id OFFSET 0) j`
	inOrder = ` ORDER BY q.o`
)

// List is one statement on one snapshot, and one more each for steps and journal.
func (j jobs) List(ctx context.Context, x store.Tx, f job.Find) (out job.Found, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	var all []*loaded
	switch {
	case f.IDs != nil:
		err = t.only(ctx, sqlByID, collect(&all), ids(f.IDs))
		all = asAsked(all, f.IDs)
	case f.Query != nil:
		all, out.Next, err = t.page(ctx, f.Query)
	case f.Due == "cancel":
		err = t.only(ctx, rowsFrom(srcCancel, inOrder), collect(&all), f.Limit, intList(f.Sessions))
	case f.Due != "":
		err = t.due(ctx, &f, &all)
	case f.Sessions != nil && f.SkipLocked:
		all, err = t.lockRuns(ctx, &f)
	case f.Sessions != nil:
		err = t.query(ctx, source(srcSessions, false, ""), collect(&all), f.Limit, f.Sessions)
	case f.Resources != nil:
		err = t.only(ctx, rowsFrom(srcResources, ` WHERE s.part < 3 ORDER BY q.o LIMIT $1`), collect(&all), f.Limit, f.Resources)
	case f.Count != nil:
		out.Counts, err = t.counts(ctx, f.Count)
	case f.Parents != nil:
		all, err = t.children(ctx, f.Parents, f.Limit)
	default:
		err = errors.New("a Find that selects nothing")
	}
	if err == nil {
		out.Rows, err = t.answer(ctx, all, &f, &out.Journal)
	}
	if err != nil {
		return job.Found{}, fmt.Errorf("postgres: list: %w", err)
	}
	return out, nil
}

// sqlLockRuns locks what srcSessions reads.
const sqlLockRuns = `SELECT id::text FROM @active WHERE ` + underRegime + ` AND session = ANY ($2::bigint[]) ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`

// lockRuns locks runs, then reads them: a seal or a cancel request that was committed between the snapshot of one statement
// and its locks would be missed, as it stands in drover_extra.
func (t *tx) lockRuns(ctx context.Context, f *job.Find) ([]*loaded, error) {
	var locked []string
	err := t.query(ctx, sqlLockRuns, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		locked = append(locked, id)
		return err
	}, f.Limit, f.Sessions)
	if err != nil || len(locked) == 0 {
		return nil, err
	}
	all, err := t.load(ctx, locked)
	return asAsked(all, locked), err
}

// sqlChildren: most jobs have none, so this is all that is asked; by drover_job_parent and drover_done_pkey.
const sqlChildren = `SELECT j.id::text FROM @job j WHERE j.parent = ANY ($1::uuid[]) AND NOT EXISTS (SELECT 1 FROM @done d WHERE d.seq = j.seq)
ORDER BY j.seq LIMIT $2`

func (t *tx) children(ctx context.Context, parents []string, limit int) (live []*loaded, err error) {
	var found []string
	err = t.query(ctx, sqlChildren, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		found = append(found, id)
		return err
	}, ids(parents), limit)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	all, err := t.load(ctx, found)
	for _, l := range all {
		if l.part != 3 {
			live = append(live, l)
		}
	}
	return live, err
}

func intList(s []int64) []int64 {
	if s == nil {
		return []int64{}
	}
	return s
}

// source is a whole statement from one of the sources.
func source(src string, lock bool, rest string) string {
	locking := ""
	if lock {
		locking = "FOR UPDATE SKIP LOCKED"
	}
	return rowsFrom(replace(src, "/*lock*/", locking), rest+inOrder)
}

func (t *tx) due(ctx context.Context, f *job.Find, all *[]*loaded) error {
	switch f.Due {
	case "scheduled":
		return t.query(ctx, source(srcScheduled, f.SkipLocked, ""), collect(all), f.Limit)
	case "deadline":
		return t.query(ctx, source(srcDeadline, f.SkipLocked, ""), collect(all), f.Limit)
	case "parked":
		return t.query(ctx, source(srcParked, f.SkipLocked, ""), collect(all), f.Limit)
	case "unhandled":
		return t.query(ctx, source(srcUnhandled, false, ""), collect(all), f.Limit, list(f.NotKinds), f.Before.UTC())
	case "retain":
		src := srcRetain
		if f.SkipLocked {
			src = replace(src, "/*lock*/", "FOR UPDATE OF d SKIP LOCKED")
		}
		return t.query(ctx, source(src, false, ""), collect(all), f.Limit, f.Before.UTC(), f.Kinds, list(f.NotKinds))
	}
	return errors.New("unknown Find.Due " + f.Due)
}

// asAsked puts rows in the order of ids.
func asAsked(all []*loaded, ids []string) []*loaded {
	at := make(map[string]int, len(ids))
	for i, id := range ids {
		if _, ok := at[id]; !ok {
			at[id] = i
		}
	}
	slices.SortStableFunc(all, func(a, b *loaded) int { return at[a.ID] - at[b.ID] })
	return all
}

// answer adds steps and journal.
func (t *tx) answer(ctx context.Context, all []*loaded, f *job.Find, journal *[]job.Entry) ([]job.Row, error) {
	if len(all) == 0 {
		return nil, nil
	}
	rows := make([]job.Row, len(all))
	at := make(map[string]int, len(all))
	want := make([]string, len(all))
	for i, l := range all {
		rows[i], want[i], at[l.ID] = l.Row, l.ID, i
	}
	if f.Waits {
		var err error
		if rows, err = t.withWaits(ctx, all); err != nil {
			return nil, err
		}
	}
	if f.Steps {
		err := t.aside(ctx, `SELECT id::text, name, at, epoch, node, data FROM @step WHERE id = ANY ($1::uuid[]) ORDER BY id, n, name`, func(scan func(...any) error) error {
			var e job.Entry
			var data sql.NullString
			err := scan(&e.JobID, &e.Step, &e.At, &e.Epoch, &e.Node, &data)
			e.At, e.Data = e.At.UTC(), asJSON(data)
			rows[at[e.JobID]].Steps = append(rows[at[e.JobID]].Steps, e)
			return err
		}, want)
		if err != nil {
			return nil, err
		}
	}
	if !f.Journal {
		return rows, nil
	}
	parts := make([][]job.Entry, len(all))
	err := t.aside(ctx, `SELECT id::text, n, at, epoch, node, text, data, failure FROM @journal WHERE id = ANY ($1::uuid[]) ORDER BY id, n`, func(scan func(...any) error) error {
		var e job.Entry
		var data sql.NullString
		err := scan(&e.JobID, &e.N, &e.At, &e.Epoch, &e.Node, &e.Text, &data, &e.Failure)
		e.At, e.Data = e.At.UTC(), asJSON(data)
		parts[at[e.JobID]] = append(parts[at[e.JobID]], e)
		return err
	}, want)
	for _, p := range parts {
		*journal = append(*journal, p...)
	}
	return rows, err
}
