package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/drover-cloud/drover/job"
)

// sqlRow is a job wherever it is, on one snapshot: drover_job_pkey, then drover_active_pkey, drover_pend_seq,
// drover_done_pkey, drover_extra_pkey, drover_session_pkey.
const sqlRow = `
SELECT j.id::text, j.seq, j.created, j.run_at, j.priority, j.bits, j.max_attempts, j.timeout, j.queue, j.kind, j.key, j.print, j.args,
       j.deadline, j.parent::text, j.root::text, j.retry_of::text, j.lender::text, j.name, j.account, j.resource, j.idem, j.uniq, j.identity,
       s.part, s.mode, coalesce(s.epoch, 0), s.session, coalesce(s.place, 0), s.started, s.ended, s.rev, coalesce(s.runs, 0), coalesce(s.attempt, 0),
       coalesce(s.lost, 0), coalesce(s.flags, 0), s.run_at, s.slot, s.holds, s.keyed, s.line, s.updated, coalesce(s.result, x.result), coalesce(s.error, x.error),
       x.id IS NOT NULL, coalesce(x.rev, 0), coalesce(x.flags, 0), x.updated, coalesce(x.percent, 0), x.step, x.note, x.cancel_at, x.cancel_by, x.cancel_reason,
       coalesce(x.seal_state, 0), x.wakes, n.name
FROM /*from*/ CROSS JOIN LATERAL (
  SELECT 2 AS part, 0::smallint AS mode, epoch, session, place, started, NULL::timestamptz AS ended, rev, runs, attempt, lost, flags, run_at,
         slot, key IS NOT NULL AND slot IS NOT NULL AS holds, key IS NOT NULL AS keyed, key AS line, started AS updated, NULL::text AS result, NULL::text AS error
  FROM @active a WHERE a.id = j.id AND a.session IS NOT NULL
  UNION ALL
  SELECT 1, p.mode, p.epoch, p.session, p.place, p.started, NULL, p.rev, p.runs, p.attempt, p.lost, p.flags, p.run_at, a.slot, a.slot IS NOT NULL, a.slot IS NOT NULL, p.key, p.updated, NULL, NULL
  FROM @pend p LEFT JOIN @active a ON a.id = p.id WHERE p.seq = j.seq
  UNION ALL
  SELECT 3, d.state, d.epoch, d.session, d.place, d.started, d.ended, d.rev, d.runs, d.attempt, d.lost, d.flags, d.run_at, NULL, false, false, NULL, d.ended, d.result, d.error
  FROM @done d WHERE d.seq = j.seq) s
LEFT JOIN LATERAL (SELECT * FROM @extra WHERE @extra.id = j.id OFFSET 0) x ON true
LEFT JOIN LATERAL (SELECT name FROM @session WHERE @session.epoch = s.session OFFSET 0) n ON true
`

// loaded is a row with what only this package sees.
type loaded struct {
	job.Row
	part     int // 1 drover_pend, 2 drover_active, 3 drover_done
	mode     int16
	slot     sql.NullInt64
	line     string // its key there, or in drover_pend
	keyed    bool   // its row in drover_active names its key
	raw      int64  // flags of the row itself
	extra    bool
	extraRev int64
	session  sql.NullInt64
	sealed   int16
}

// from puts the source of j into a query that reads rows: a join that binds j, and what follows.
func rowsFrom(source, rest string) string {
	return strings.Replace(sqlRow, "/*from*/", source, 1) + rest
}

var sqlByID = rowsFrom(`@job j`, `WHERE j.id = ANY ($1::uuid[]) ORDER BY j.seq`)

// byID reads jobs; missing ones are absent.
func (t *tx) byID(ctx context.Context, want []string) (map[string]job.Row, error) {
	all, err := t.load(ctx, want)
	found := make(map[string]job.Row, len(all))
	for _, l := range all {
		found[l.ID] = l.Row
	}
	return found, err
}

func (t *tx) load(ctx context.Context, want []string) (all []*loaded, err error) {
	err = t.query(ctx, sqlByID, collect(&all), ids(want))
	return all, err
}

func collect(all *[]*loaded) each {
	return func(scan func(...any) error) error {
		l, err := scanRow(scan)
		*all = append(*all, l)
		return err
	}
}

func scanRow(scan func(...any) error) (*loaded, error) {
	l := &loaded{}
	r := &l.Row
	var bits, timeout, jobFlags, extraFlags int64
	var key, lender, line, parent, root, retry, name, account, resource, idem, uniq, identity, args sql.NullString
	var deadline, started, ended, runAt, updated, extraUpdated, cancelAt sql.NullTime
	var result, fail, step, note, by, reason, wakes, session sql.NullString
	err := scan(&r.ID, &r.Seq, &r.Created, &r.RunAt, &r.Priority, &bits, &r.MaxAttempts, &timeout, &r.Queue, &r.Kind, &key, &r.Print, &args,
		&deadline, &parent, &root, &retry, &lender, &name, &account, &resource, &idem, &uniq, &identity,
		&l.part, &l.mode, &r.Epoch, &l.session, &r.Place, &started, &ended, &r.Rev, &r.Runs, &r.Attempt,
		&r.Lost, &jobFlags, &runAt, &l.slot, &r.Turn, &l.keyed, &line, &updated, &result, &fail,
		&l.extra, &l.extraRev, &extraFlags, &extraUpdated, &r.Progress.Percent, &step, &note, &cancelAt, &by, &reason,
		&l.sealed, &wakes, &session)
	if err != nil {
		return nil, err
	}
	l.raw, l.line, r.Lender = jobFlags, line.String, lender.String
	r.Timeout, r.Depth, r.Detached = time.Duration(timeout), int(bits>>depthShift), bits&bitDetached != 0
	r.Parent, r.Root, r.RetryOf, r.Name, r.Account = parent.String, root.String, retry.String, name.String, account.String
	r.Resource, r.Idem, r.Unique, r.Session = resource.String, idem.String, uniq.String, session.String
	if bits&bitRootSelf != 0 {
		r.Root = r.ID
	}
	if key.Valid {
		r.Sync = parseKey(key.String)
	}
	r.Args, r.Result = asJSON(args), asJSON(result)
	r.Created, r.RunAt, r.Deadline = r.Created.UTC(), r.RunAt.UTC(), asTime(deadline)
	r.Started, r.Ended, r.CancelAt, r.CancelBy, r.CancelReason = asTime(started), asTime(ended), asTime(cancelAt), by.String, reason.String
	if runAt.Valid {
		r.RunAt = asTime(runAt)
	}
	r.Updated = r.Created
	for _, u := range []time.Time{asTime(updated), asTime(extraUpdated)} {
		if u.After(r.Updated) {
			r.Updated = u
		}
	}
	r.SessionEpoch = l.session.Int64
	r.Rev += l.extraRev
	r.Flags = job.Flag((jobFlags | extraFlags) & flagMask)
	r.Progress.Step, r.Progress.Note = step.String, note.String
	switch l.part {
	case 1:
		r.State = modeState(l.mode)
	case 2:
		r.State = job.Running
		r.RunUntil = runUntil(r.Started, r.Timeout, r.Deadline)
	case 3:
		r.State = finalState(l.mode)
	}
	if identity.Valid {
		if err := json.Unmarshal([]byte(identity.String), &r.Identity); err != nil {
			return nil, err
		}
	}
	if err := decode(wakes, &r.Wakes); err != nil {
		return nil, err
	}
	return l, decode(fail, &r.Error)
}

// extra is a row of drover_extra, for a job that starts.
type extra struct {
	id                     string
	step, note, by, reason sql.NullString
	rev, flags             int64
	percent                int
	cancelAt               sql.NullTime
	result, fail, wakes    sql.NullString
}

const sqlExtras = `
SELECT id::text, rev, flags, coalesce(percent, 0), step, note, cancel_at, cancel_by, cancel_reason, result, error, wakes
FROM @extra WHERE id = ANY ($1::uuid[])`

func (e *extra) scan(scan func(...any) error) error {
	return scan(&e.id, &e.rev, &e.flags, &e.percent, &e.step, &e.note, &e.cancelAt, &e.by, &e.reason, &e.result, &e.fail, &e.wakes)
}

func (e *extra) apply(r *job.Row) error {
	r.Rev += e.rev
	r.Flags |= job.Flag(e.flags & flagMask)
	r.Progress = job.Progress{Percent: e.percent, Step: e.step.String, Note: e.note.String}
	r.CancelAt, r.CancelBy, r.CancelReason = asTime(e.cancelAt), e.by.String, e.reason.String
	r.Result = asJSON(e.result)
	if err := decode(e.fail, &r.Error); err != nil {
		return err
	}
	return decode(e.wakes, &r.Wakes)
}
