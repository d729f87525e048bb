package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A superseded run is one whose job has a higher epoch in the history, or has ended. A write of it must be refused if its
// transaction began after that was written: the row was gone or locked by then.
const superseded = `EXISTS (SELECT 1 FROM chaos_history h WHERE h.job = w.job AND h.at < w.at AND (h.epoch > w.epoch OR h.what = 'done'))`

// offences are the counts that must be 0, each with its goal and the query that counts it.
var offences = []struct{ name, q string }{
	{"lost: committed, not final", `
SELECT (SELECT count(*) FROM chaos_sent s WHERE kept AND NOT EXISTS (SELECT 1 FROM drover_done d WHERE d.id = s.job))
     + (SELECT count(*) FROM drover_job j WHERE parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM drover_done d WHERE d.id = j.id))`},
	{"torn: job without its host's row, or the reverse", `
SELECT count(*) FROM (SELECT job FROM chaos_sent WHERE hosted AND kept) s FULL JOIN chaos_host h USING (job) WHERE s.job IS NULL OR h.job IS NULL`},
	{"ghost: rolled back, yet there or started", `
SELECT count(*) FROM chaos_sent s WHERE NOT kept AND (EXISTS (SELECT 1 FROM drover_job j WHERE j.id = s.job) OR EXISTS (SELECT 1 FROM chaos_started t WHERE t.job = s.job))`},
	{"double: more than one outcome", `
SELECT (SELECT count(*) FROM (SELECT 1 FROM chaos_history WHERE what IN ('done', 'redone') GROUP BY job HAVING count(*) > 1) d)
     + (SELECT count(*) FROM chaos_history WHERE what = 'claimed' AND EXISTS (SELECT 1 FROM chaos_history h WHERE h.job = chaos_history.job AND h.what = 'done' AND h.at < chaos_history.at))
     + (SELECT count(*) FROM chaos_sent s JOIN drover_done d ON d.id = s.job AND d.state = 5 WHERE mode = 'tx' AND (SELECT count(*) FROM chaos_effect e WHERE e.job = s.job) <> 1)`},
	{"stale: result of a superseded run", `
SELECT count(*) FROM drover_done d LEFT JOIN drover_extra x USING (id) WHERE ` + isStale},
	{"failed: without a reason", `SELECT count(*) FROM drover_done WHERE state = 6`},
	{"cancelled: unasked", `
SELECT count(*) FROM drover_done d WHERE state = 7 AND NOT EXISTS (SELECT 1 FROM chaos_sent s WHERE s.job = d.id AND mode = 'cancel')`},
	{"unfenced: a write of a superseded run", `
SELECT (SELECT count(*) FROM (SELECT id AS job, epoch, at FROM drover_journal WHERE text = 'chaos') w WHERE ` + superseded + `)
     + (SELECT count(*) FROM (SELECT id AS job, epoch, at FROM drover_step) w WHERE ` + superseded + `)
     + (SELECT count(*) FROM chaos_effect w WHERE ` + superseded + `)
     + (SELECT count(*) FROM (SELECT parent AS job, (args::json->>'epoch')::bigint AS epoch, created AS at FROM drover_job WHERE parent IS NOT NULL) w WHERE ` + superseded + `)`},
	{"epoch: claimed twice, or not rising", `
SELECT (SELECT count(*) FROM (SELECT 1 FROM chaos_history WHERE what = 'claimed' GROUP BY job, epoch HAVING count(*) > 1) d)
     + (SELECT count(*) FROM (SELECT epoch < lag(epoch) OVER (PARTITION BY job ORDER BY at, epoch) AS back FROM chaos_history) d WHERE back)`},
	{"children: not one per parent", `SELECT count(*) FROM (SELECT 1 FROM drover_job WHERE parent IS NOT NULL GROUP BY parent HAVING count(*) > 1) d`},
}

// figures are what the run went through.
var figures = []struct{ name, q string }{
	{"jobs final", `SELECT count(*) FROM drover_done`},
	{"jobs run again after a loss", `SELECT count(*) FROM drover_done WHERE lost > 0`},
	{"losses", `SELECT coalesce(sum(lost), 0) FROM drover_done`},
	{"runs", `SELECT count(*) FROM chaos_history WHERE what = 'claimed'`},
	{"parked and woken", `SELECT count(*) FROM chaos_sent s JOIN drover_done d ON d.id = s.job WHERE mode IN ('park', 'child') AND runs > 1`},
	{"jobs rolled back", `SELECT count(*) FROM chaos_sent WHERE NOT kept`},
	{"children", `SELECT count(*) FROM drover_job WHERE parent IS NOT NULL`},
	{"cancelled", `SELECT count(*) FROM drover_done WHERE state = 7`},
	{"sealed beside a host's row", `SELECT count(*) FROM chaos_effect`},
	{"stale finishes refused", `SELECT count(*) FROM chaos_refused WHERE write = 'finish'`},
	{"other stale writes refused", `SELECT count(*) FROM chaos_refused WHERE write <> 'finish'`},
}

// verdict judges the history.
func (h *harness) verdict(ctx context.Context) (*report, error) {
	c, err := h.bun.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, `SET statement_timeout = 0`); err != nil {
		return nil, err
	}
	if err := h.writeSent(ctx, c); err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	if _, err := c.ExecContext(ctx, `CREATE INDEX ON drover_done (id); ANALYZE`); err != nil {
		return nil, err
	}
	if h.o.history != "" {
		if err := h.writeHistory(ctx, c, h.o.history); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
	}
	rep := newReport(h)
	for _, f := range figures {
		n, err := number(ctx, c, f.q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		rep.figure(f.name, n)
	}
	if err := errors.Join(h.explain(ctx, c, "lost", sqlStuck), h.explain(ctx, c, "stale", sqlStale)); err != nil {
		return nil, err
	}
	for _, o := range offences {
		n, err := number(ctx, c, o.q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.name, err)
		}
		rep.zero(o.name, n)
	}
	lines, err := h.lines(ctx, c)
	if err != nil {
		return nil, err
	}
	rep.zero("order: limit 1, started out of turn", lines.disorder(h.tell))
	rep.zero("limit: more runs at once than turns", lines.crowds(h.tell))
	rep.zero("workers that ended by themselves", int64(h.crew.crashed))
	h.validity(rep)
	return rep, nil
}

// sqlStuck is what is known of jobs that have not ended, sqlStale of those with a result that is not the last run's.
const (
	sqlStuck = `
SELECT j.id::text || ' ' || coalesce(translate(j.key, chr(31), '/'), '') || coalesce(' pend ' || to_jsonb(p)::text, '') || coalesce(' active ' || to_jsonb(a)::text, '') ||
  coalesce(' session ' || to_jsonb(s)::text, '') || coalesce(' mode ' || (SELECT mode FROM chaos_sent c WHERE c.job = j.id), '') ||
  coalesce(' parked ' || (SELECT to_jsonb(o) FROM drover_park o WHERE o.id = j.id)::text, '') || coalesce(' joins ' || (SELECT jsonb_agg(to_jsonb(o)) FROM drover_join o WHERE o.waiter = j.id)::text, '') ||
  coalesce(' topics ' || (SELECT jsonb_agg(to_jsonb(o)) FROM drover_topic o WHERE o.id = j.id)::text, '') || coalesce(' inbox ' || (SELECT jsonb_agg(to_jsonb(o)) FROM drover_inbox o WHERE o.id = j.id)::text, '') ||
  coalesce(' children ' || (SELECT jsonb_agg(to_jsonb(o)) FROM drover_job k JOIN drover_done o USING (id) WHERE k.parent = j.id)::text, '') || coalesce(' line ' || (SELECT jsonb_agg(to_jsonb(o)) FROM drover_active o WHERE o.key = j.key AND o.id <> j.id)::text, '')
FROM drover_job j LEFT JOIN drover_pend p USING (id) LEFT JOIN drover_active a USING (id) LEFT JOIN drover_session s ON s.epoch = a.session
WHERE NOT EXISTS (SELECT 1 FROM drover_done d WHERE d.id = j.id) ORDER BY j.seq LIMIT 10`

	sqlStale = `
SELECT d.id::text || coalesce(' mode ' || (SELECT mode FROM chaos_sent s WHERE s.job = d.id), '') || ' ' || to_jsonb(d)::text || coalesce(' extra ' || to_jsonb(x)::text, '') ||
  ' history ' || (SELECT jsonb_agg(jsonb_build_array(h.what, h.epoch, h.at) ORDER BY h.at) FROM chaos_history h WHERE h.job = d.id)::text ||
  ' runs ' || (SELECT jsonb_agg(jsonb_build_array(t.run, t.epoch, t.at, e.at) ORDER BY t.at) FROM chaos_started t LEFT JOIN chaos_ended e USING (run) WHERE t.job = d.id)::text
FROM drover_done d LEFT JOIN drover_extra x USING (id) WHERE ` + isStale + ` LIMIT 10`

	isStale = `d.state = 5 AND (coalesce(d.result, x.result)::json->>'epoch')::bigint IS DISTINCT FROM
  (SELECT max(h.epoch) FROM chaos_history h WHERE h.job = d.id AND h.what = 'claimed')`
)

// explain tells of what q finds.
func (h *harness) explain(ctx context.Context, c *sql.Conn, name, q string) error {
	rows, err := c.QueryContext(ctx, q)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			return err
		}
		h.tell("%s: %s", name, s.String)
	}
	return rows.Err()
}

func number(ctx context.Context, c *sql.Conn, q string) (n int64, err error) {
	err = c.QueryRowContext(ctx, q).Scan(&n)
	return n, err
}

// validity adds what a run must have seen to prove anything.
func (h *harness) validity(rep *report) {
	kept := int64(0)
	for _, s := range h.sent {
		if s.kept {
			kept++
		}
	}
	rep.atLeast("jobs submitted", kept, int64(h.o.Jobs))
	rep.atLeast("SIGKILLs of a worker", int64(h.did.Kills), int64(h.o.Kills))
	rep.atLeast("SIGSTOPs of 3 to 10 leases", int64(h.did.Stops), int64(h.o.Stops))
	rep.atLeast("black holes", int64(h.did.Holes), int64(h.o.Holes))
	rep.atLeast("SIGKILLs of PostgreSQL", int64(h.did.Crashes), int64(h.o.Crashes))
	rep.atLeast("jobs run again after a loss", rep.value("jobs run again after a loss"), int64(h.o.Jobs+199)/200)
	rep.atLeast("stale writes refused by the store", rep.value("stale finishes refused")+rep.value("other stale writes refused"), int64(h.o.Refused))
	rep.atLeast("jobs cancelled while running", rep.value("cancelled"), 1)
	rep.atLeast("jobs parked and woken", rep.value("parked and woken"), 1)
}

// writeSent brings what the feeders know into the database.
func (h *harness) writeSent(ctx context.Context, c *sql.Conn) error {
	const q = `INSERT INTO chaos_sent SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::text[], $5::int[], $6::text[], $7::bigint[], $8::bigint[], $9::bool[], $10::bool[])`
	for at := 0; at < len(h.sent); at += 10_000 {
		part := h.sent[at:min(at+10_000, len(h.sent))]
		n := len(part)
		ns, began, acked := make([]int64, n), make([]int64, n), make([]int64, n)
		feeder, lim := make([]int64, n), make([]int64, n)
		ids, keys, mode := make([]string, n), make([]string, n), make([]string, n)
		hosted, kept := make([]bool, n), make([]bool, n)
		for i, s := range part {
			ns[i], began[i], acked[i], feeder[i], lim[i] = s.n, s.began, s.acked, int64(s.feeder), int64(s.limit)
			ids[i], keys[i], mode[i] = s.id, s.key.Kind+"/"+s.key.ID, s.mode
			hosted[i], kept[i] = s.hosted, s.kept
		}
		if _, err := c.ExecContext(ctx, q, ns, ids, feeder, keys, lim, mode, began, acked, hosted, kept); err != nil {
			return err
		}
	}
	return nil
}

// tell says what an offence was, for the first few.
func (h *harness) tell(format string, a ...any) {
	if h.told++; h.told <= 10 {
		fmt.Fprintf(h.errs, "chaos kill: "+format+"\n", a...)
	}
}

// round shortens d for people.
func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
