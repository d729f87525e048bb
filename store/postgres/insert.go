package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

type jobs struct{ s *Store }

var (
	_ job.Store    = jobs{}
	_ job.Turner   = jobs{}
	_ job.Finisher = jobs{}
)

// sqlInsert writes any number of jobs in order; no existing row is read but the policies, none is locked. Of several jobs
// with one key in one call only the first is an arrival, the others wait behind it at once. $22: skip ids in use (costs a
// probe of drover_job_pkey per row). Answers the sequence numbers, places and modes in order, 0 for what was skipped.
// Indexes written: drover_job_pkey, drover_pend_ready or _due, drover_pend_seq, drover_pend_line if keyed.
const sqlInsert = `
WITH lim AS MATERIALIZED (
  SELECT kind, id, lim, paused FROM @policy WHERE kind = ANY (ARRAY(SELECT DISTINCT kind FROM @policy WHERE lim = 0))
), t AS MATERIALIZED (
  SELECT t.*, nextval('@seq') AS s, coalesce(at, now()) AS run, at > now() AS later,
    key IS NOT NULL AND EXISTS (SELECT 1 FROM lim) AND coalesce(
      (SELECT lim FROM lim l WHERE l.kind = split_part(key, chr(31), 1) AND l.id = split_part(key, chr(31), 2) AND l.id <> ''),
      (SELECT lim FROM lim l WHERE l.kind = split_part(key, chr(31), 1) AND l.id = ''), 1) = 0
      AND NOT EXISTS (SELECT 1 FROM lim l WHERE l.paused AND l.kind = split_part(key, chr(31), 1) AND l.id IN ('', split_part(key, chr(31), 2))) AS loose
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::text[], $8::int[], $9::int[], $10::bigint[], $11::text[],
              $12::timestamptz[], $13::uuid[], $14::uuid[], $15::uuid[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::int[])
       WITH ORDINALITY t(id, queue, kind, key, prio, at, args, bits, attempts, timeout, print, deadline, parent, root, retry, name, account, resource, idem, uniq, identity, flags, i)
), j AS (
  INSERT INTO @job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, key, print, args, deadline, parent, root, retry_of, name, account, resource, idem, uniq, identity)
  SELECT id, s, now(), run, prio, bits, attempts, timeout, queue, kind, key, print, args, deadline, parent, root, retry, name, account, resource, idem, uniq, identity FROM t ORDER BY i
  /*skip ON CONFLICT (id) DO NOTHING RETURNING seq skip*/
), m AS MATERIALIZED (
  SELECT t.*, CASE WHEN later THEN 3 WHEN key IS NULL THEN 0 WHEN loose THEN -1
                   WHEN row_number() OVER (PARTITION BY key, later ORDER BY i) = 1 THEN 1 ELSE 2 END AS mode
  FROM t /*skip WHERE s IN (SELECT seq FROM j) skip*/
), p AS (
  INSERT INTO @pend (run_at, seq, id, place, priority, mode, queue, kind, key, deadline, flags)
  SELECT run, s, id, CASE WHEN mode IN (1, 2) THEN s * 65536 END, prio, mode, queue, kind, key, deadline, nullif(flags, 0) FROM m ORDER BY i
)
SELECT now(), array_agg(i ORDER BY i), array_agg(s ORDER BY i), array_agg(mode ORDER BY i) FROM m`

// sqlInsertSame is the same for jobs without a key that differ in nothing but id and args, as most batches do: two arrays
// instead of 22, no window. Answers their one mode, too.
const sqlInsertSame = `
WITH t AS MATERIALIZED (
  SELECT id, args, i, nextval('@seq') AS s FROM unnest($1::uuid[], $6::text[]) WITH ORDINALITY t(id, args, i)
), j AS (
  INSERT INTO @job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, print, args, deadline, parent, root, retry_of, name, account, resource, idem, uniq, identity)
  SELECT id, s, now(), coalesce($5::timestamptz, now()), $4::int, $7::int, $8::int, $9::bigint, $2::text, $3::text, $10::text, args, $11::timestamptz, $12::uuid, $13::uuid, $14::uuid, $15::text, $16::text, $17::text, $18::text, $19::text, $20::text FROM t
), p AS (
  INSERT INTO @pend (run_at, seq, id, priority, mode, queue, kind, deadline, flags)
  SELECT coalesce($5::timestamptz, now()), s, id, $4::int, CASE WHEN $5::timestamptz > now() THEN 3 ELSE 0 END, $2::text, $3::text, $11::timestamptz, nullif($21::int, 0) FROM t
)
SELECT now(), CASE WHEN $5::timestamptz > now() THEN 3 ELSE 0 END, array_agg(s ORDER BY i) FROM t`

// sqlInsertOne is the same for one job: values, no arrays.
const sqlInsertOne = `
WITH v(s, loose) AS MATERIALIZED (
  SELECT nextval('@seq'), $4::text IS NOT NULL AND coalesce(
      (SELECT lim FROM @policy l WHERE l.kind = split_part($4, chr(31), 1) AND l.id = split_part($4, chr(31), 2) AND l.id <> ''),
      (SELECT lim FROM @policy l WHERE l.kind = split_part($4, chr(31), 1) AND l.id = ''), 1) = 0
      AND NOT EXISTS (SELECT 1 FROM @policy l WHERE l.paused AND l.kind = split_part($4, chr(31), 1) AND l.id IN ('', split_part($4, chr(31), 2)))
), j AS (
  INSERT INTO @job (id, seq, created, run_at, priority, bits, max_attempts, timeout, queue, kind, key, print, args, deadline, parent, root, retry_of, name, account, resource, idem, uniq, identity)
  SELECT $1::uuid, s, now(), coalesce($6::timestamptz, now()), $5::int, $8::int, $9::int, $10::bigint, $2, $3, $4, $11, $7, $12::timestamptz, $13::uuid, $14::uuid, $15::uuid, $16, $17, $18, $19, $20, $21 FROM v
  /*skip ON CONFLICT (id) DO NOTHING skip*/ RETURNING id, seq, run_at, priority, queue, kind, key, deadline
), m AS MATERIALIZED (
  SELECT j.*, CASE WHEN run_at > now() THEN 3 WHEN key IS NULL THEN 0 WHEN (SELECT loose FROM v) THEN -1 ELSE 1 END AS mode FROM j
), p AS (
  INSERT INTO @pend (run_at, seq, id, place, priority, mode, queue, kind, key, deadline, flags)
  SELECT run_at, seq, id, CASE WHEN mode = 1 THEN seq * 65536 END, priority, mode, queue, kind, key, deadline, nullif($22::int, 0) FROM m
)
SELECT now(), seq, mode FROM m`

var (
	errRaced = errors.New("postgres: a job with this id was being inserted")
	skipping = [2]string{skip(sqlInsert), skip(sqlInsertOne)}
)

// Insert is one statement but for rows with Idem, Unique, Name or a parent.
func (j jobs) Insert(ctx context.Context, x store.Tx, rows []job.Row) ([]job.Row, error) {
	t, err := j.s.of(x)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	named, children := false, false
	for i := range rows {
		if !isID(rows[i].ID) {
			return nil, fmt.Errorf("postgres: insert: ID: %.64q is no UUID in canonical form", rows[i].ID)
		}
		named = named || rows[i].Idem != "" || rows[i].Unique != "" || rows[i].Name != ""
		children = children || rows[i].Parent != ""
	}
	if err := t.parentsRun(ctx, rows); err != nil {
		return nil, err
	}
	twice := repeated(rows)
	out := rows
	if !t.single || named || twice || t.careful || children { // else nothing but the one statement follows that could fail
		out = slices.Clone(rows)
	}
	var same map[int]int
	if named || t.careful || twice {
		if same, err = t.meet(ctx, out); err != nil {
			return nil, err
		}
	}
	back, err := t.insertBorrowers(ctx, out)
	if err != nil {
		return nil, err
	}
	if err := t.insert(ctx, out); err != nil {
		return nil, err
	}
	if err := back(); err != nil {
		return nil, err
	}
	for i, first := range same {
		met := out[i].Met
		out[i] = out[first]
		out[i].Met = met
	}
	return out, nil
}

// repeated tells whether an id stands twice in rows.
func repeated(rows []job.Row) bool {
	rising := true // as ids of one process are
	for i := 1; i < len(rows) && rising; i++ {
		rising = rows[i-1].ID < rows[i].ID
	}
	if rising {
		return false
	}
	seen := make(map[string]struct{}, len(rows))
	for i := range rows {
		seen[rows[i].ID] = struct{}{}
	}
	return len(seen) < len(rows)
}

// parentsRun locks the parents' active rows, so that what they finish as comes after this transaction.
func (t *tx) parentsRun(ctx context.Context, rows []job.Row) error {
	want := map[string]int64{}
	var parents []string
	var epochs []int64
	for _, r := range rows {
		if r.ParentEpoch == 0 {
			continue
		}
		if e, ok := want[r.Parent]; ok && e != r.ParentEpoch || !isID(r.Parent) {
			return store.ErrConflict
		} else if !ok {
			want[r.Parent] = r.ParentEpoch
			parents, epochs = append(parents, r.Parent), append(epochs, r.ParentEpoch)
		}
	}
	if len(parents) == 0 {
		return nil
	}
	return t.mustRun(ctx, parents, epochs)
}

// sqlRunning locks the rows of running jobs, by drover_active_pkey.
const sqlRunning = `
SELECT 1 FROM @active a WHERE a.session IS NOT NULL AND (a.id, a.epoch) IN (SELECT * FROM unnest($1::uuid[], $2::bigint[])) AND a.id = ANY ($1::uuid[])
ORDER BY a.id FOR KEY SHARE`

func (t *tx) mustRun(ctx context.Context, ids []string, epochs []int64) error {
	n := 0
	err := t.query(ctx, sqlRunning, func(func(...any) error) error { n++; return nil }, ids, epochs)
	if err == nil && n < len(ids) {
		return store.ErrConflict
	}
	return err
}

// insert writes the rows that met nothing.
func (t *tx) insert(ctx context.Context, out []job.Row) error {
	todo := make([]int, 0, len(out))
	for i := range out {
		if out[i].Met == "" {
			todo = append(todo, i)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	var now time.Time
	var nth, seqs, modes ints
	var err error
	if len(todo) == 1 {
		nth, seqs, modes = ints{1}, ints{0}, ints{0}
		found := false
		err = t.only(ctx, t.pick(sqlInsertOne), func(scan func(...any) error) error {
			found = true
			return scan(&now, &seqs[0], &modes[0])
		}, columns(out, todo).one()...)
		if !found {
			nth = nil
		}
	} else if !t.careful && alike(out, todo) {
		var mode int64
		err = t.only(ctx, sqlInsertSame, func(scan func(...any) error) error {
			return scan(&now, &mode, &seqs)
		}, columnsAlike(out, todo)...)
		nth = seqs
		modes = slices.Repeat(ints{mode}, len(seqs))
	} else {
		err = t.only(ctx, t.pick(sqlInsert), func(scan func(...any) error) error {
			return scan(&now, &nth, &seqs, &modes)
		}, columns(out, todo).all()...)
	}
	if err != nil {
		return fmt.Errorf("postgres: insert: %w", err)
	}
	if len(nth) < len(todo) {
		return errRaced
	}
	t.saw(now)
	for k, i := range todo {
		t.inserted(&out[i], now.UTC(), seqs[k], int16(modes[k]))
	}
	return t.insertSteps(ctx, out, todo)
}

// insertSteps stores the steps that new rows bring.
func (t *tx) insertSteps(ctx context.Context, out []job.Row, todo []int) error {
	var b logBatch
	for _, i := range todo {
		for _, s := range out[i].Steps {
			b.stepIDs, b.steps, b.stepNodes = append(b.stepIDs, out[i].ID), append(b.steps, s.Step), append(b.stepNodes, s.Node)
			b.stepEpochs, b.stepData = append(b.stepEpochs, s.Epoch), append(b.stepData, nullJSON(s.Data))
		}
		out[i].Steps = nil
	}
	if len(b.stepIDs) == 0 {
		return nil
	}
	_, err := t.exec(ctx, sqlSteps, b.stepIDs, b.steps, b.stepEpochs, b.stepNodes, b.stepData)
	return err
}

// pick leaves out the probe for ids in use where a duplicate may fail the transaction, which is then run again.
func (t *tx) pick(q string) string {
	if !t.careful {
		return q
	}
	if q == sqlInsertOne {
		return skipping[1]
	}
	return skipping[0]
}

// inserted completes the answer.
func (t *tx) inserted(r *job.Row, now time.Time, seq int64, mode int16) {
	r.Seq, r.Created, r.Updated, r.Rev, r.Epoch = seq, now, now, 1, 0
	if r.RunAt.IsZero() {
		r.RunAt = now
	}
	r.RunAt = r.RunAt.UTC().Truncate(time.Microsecond)
	r.State, r.ParentEpoch = modeState(mode), 0
	if r.State == job.Waiting {
		r.Place = seq * syncqueue.Gap
	}
	if told := &t.told; r.State != job.Scheduled && (r.Queue != told.queue || r.Priority != told.priority || r.RunAt.Before(told.runAt)) {
		told.queue, told.priority, told.runAt = r.Queue, r.Priority, r.RunAt
		t.hint(hint{topic: job.QueueTopic(r.Queue), pos: true, priority: r.Priority, runAt: r.RunAt})
	}
}
