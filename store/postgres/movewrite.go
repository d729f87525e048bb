package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
)

const (
	sqlDeleteJobs = `
WITH d AS (DELETE FROM @done WHERE seq = ANY ($2::bigint[])),
     x AS (DELETE FROM @extra WHERE id = ANY ($1::uuid[])),
     s AS (DELETE FROM @step WHERE id = ANY ($1::uuid[])),
     l AS (DELETE FROM @journal WHERE id = ANY ($1::uuid[])),
     i AS (DELETE FROM @ident WHERE id = ANY ($1::uuid[])),
     t AS (DELETE FROM @topic WHERE id = ANY ($1::uuid[])),
     b AS (DELETE FROM @inbox WHERE id = ANY ($1::uuid[]))
DELETE FROM @job WHERE id = ANY ($1::uuid[])`

	sqlDropActive = `DELETE FROM @active WHERE id = ANY ($1::uuid[])`
	sqlDropPend   = `DELETE FROM @pend WHERE seq = ANY ($1::bigint[])`
	sqlFreeUnique = `DELETE FROM @ident WHERE id = ANY ($1::uuid[]) AND name LIKE 'u%'`

	sqlPutActive = `
INSERT INTO @active (id, seq, epoch, session, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
SELECT id, seq, epoch, session, nullif(place, 0), coalesce(started, now()), rev, runs, slot, key, nullif(flags, 0), nullif(attempt, 0), nullif(lost, 0), run_at
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::int[], $8::int[], $9::int[], $10::text[], $11::int[], $12::int[], $13::int[], $14::timestamptz[])
     r(id, seq, epoch, session, place, started, rev, runs, slot, key, flags, attempt, lost, run_at) ORDER BY key, id`

	sqlPutPend = `
INSERT INTO @pend (id, seq, epoch, session, place, started, rev, runs, mode, key, flags, attempt, lost, run_at, priority, back, queue, kind, deadline, updated)
SELECT id, seq, nullif(epoch, 0), session, nullif(place, 0), started, rev, nullif(runs, 0), mode, key, nullif(flags, 0), nullif(attempt, 0), nullif(lost, 0), run_at,
       priority, back, queue, kind, deadline, now()
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::int[], $8::int[], $9::int[], $10::text[], $11::int[], $12::int[], $13::int[], $14::timestamptz[],
            $15::int[], $16::bool[], $17::text[], $18::text[], $19::timestamptz[])
     r(id, seq, epoch, session, place, started, rev, runs, mode, key, flags, attempt, lost, run_at, priority, back, queue, kind, deadline)`

	sqlPutDone = `
INSERT INTO @done (id, seq, epoch, session, place, started, ended, rev, runs, state, flags, attempt, lost, run_at, result, error)
SELECT id, seq, epoch, session, nullif(place, 0), started, now(), rev, runs, state, nullif(flags, 0), nullif(attempt, 0), nullif(lost, 0), run_at, result, error
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::int[], $8::int[], $9::int[], $10::text[], $11::int[], $12::int[], $13::int[], $14::timestamptz[],
            $15::text[], $16::text[])
     r(id, seq, epoch, session, place, started, rev, runs, state, key, flags, attempt, lost, run_at, result, error)`

	// sqlPutExtra: rev and updated count only changes of a running job's side row; flags it has collected move to the row.
	sqlPutExtra = `
INSERT INTO @extra AS x (id, rev, flags, updated, percent, step, note, cancel_at, cancel_by, cancel_reason, cancel_open, result, error, wakes)
SELECT r.id, r.bump, CASE WHEN r.bump > 0 THEN r.flags ELSE 0 END, now(), percent, step, note, cancel_at, cancel_by, cancel_reason, cancel_at IS NOT NULL AND NOT r.final, result, error, wakes
FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::text[], $6::text[], $7::timestamptz[], $8::text[], $9::text[], $10::bool[], $11::text[], $12::text[], $13::text[])
     r(id, bump, flags, percent, step, note, cancel_at, cancel_by, cancel_reason, final, result, error, wakes)
ON CONFLICT (id) DO UPDATE SET rev = x.rev + excluded.rev, flags = excluded.flags, updated = CASE WHEN excluded.rev > 0 THEN now() ELSE x.updated END,
  percent = excluded.percent, step = excluded.step, note = excluded.note, cancel_at = excluded.cancel_at, cancel_by = excluded.cancel_by,
  cancel_reason = excluded.cancel_reason, cancel_open = excluded.cancel_open, result = coalesce(excluded.result, x.result),
  error = coalesce(excluded.error, x.error), wakes = excluded.wakes`

	sqlPutJob = `
UPDATE @job j SET priority = r.priority, run_at = CASE WHEN r.runs = 0 THEN r.run_at ELSE j.run_at END
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::int[]) r(id, priority, run_at, runs) WHERE j.id = r.id`
)

// write does the plan, set by set: what is deleted first.
func (p *plan) write(ctx context.Context) error {
	w := &writes{}
	for _, c := range p.moved {
		w.add(p, c)
	}
	steps := []struct {
		n    int
		q    string
		args []any
	}{
		{len(w.gone), sqlDeleteJobs, []any{w.gone, w.goneSeq}},
		{len(w.dropActive), sqlDropActive, []any{w.dropActive}},
		{len(w.dropPend), sqlDropPend, []any{w.dropPend}},
		{len(w.active.id), sqlPutActive, append(w.active.args(w.active.slot), w.active.runAt)},
		{len(w.pend.id), sqlPutPend, append(w.pend.args(w.pend.what), w.pend.runAt, w.pend.priority, w.pend.back, w.pend.queue, w.pend.kind, w.pend.deadline)},
		{len(w.done.id), sqlPutDone, append(w.done.args(w.done.what), w.done.runAt, w.done.result, w.done.fail)},
		{len(w.unique), sqlFreeUnique, []any{w.unique}},
		{len(w.extra.id), sqlPutExtra, w.extra.args()},
		{len(w.jobID), sqlPutJob, []any{w.jobID, w.jobPriority, w.jobRunAt, w.jobRuns}},
	}
	for _, s := range steps {
		if s.n == 0 {
			continue
		}
		if _, err := p.exec(ctx, s.q, s.args...); err != nil {
			return err
		}
	}
	if w.err != nil {
		return w.err
	}
	if err := p.parks(ctx); err != nil {
		return err
	}
	if err := p.journal(ctx); err != nil {
		return err
	}
	if len(w.left) > 0 { // an arrival has left: the next waiter is looked at, needed or not
		slices.Sort(w.left)
		if err := p.nextArrives(ctx, slices.Compact(w.left)); err != nil {
			return err
		}
	}
	return p.markSlow(ctx, p.turns)
}

// journal writes the notes of what has moved now.
func (p *plan) journal(ctx context.Context) error {
	var b logBatch
	for _, c := range p.moved {
		for i := range c.m.Notes {
			if e := &c.m.Notes[i]; c.m.To != "" && e.Text != "" {
				b.note(c.ID, e, nullJSON(e.Data))
			}
		}
	}
	return b.journal(ctx, p.tx)
}

// set is rows of one table, by column.
type set struct {
	id                                                  []string
	seq, epoch, place, rev, runs, what, flags, attempts []int64
	lost, priority                                      []int64
	session, slot                                       []*int64
	started, runAt, deadline                            []*time.Time
	key, result, fail                                   []*string
	back                                                []bool
	queue, kind                                         []string
}

func (s *set) add(c *change, what int64, key string, rev int64) {
	s.id, s.seq, s.epoch, s.place = append(s.id, c.ID), append(s.seq, c.Seq), append(s.epoch, c.Epoch), append(s.place, c.Place)
	s.rev, s.runs, s.what, s.key = append(s.rev, rev), append(s.runs, int64(c.Runs)), append(s.what, what), append(s.key, nullText(key))
	s.flags, s.attempts, s.lost = append(s.flags, c.raw), append(s.attempts, int64(c.Attempt)), append(s.lost, int64(c.Lost))
	s.started = append(s.started, nullTime(c.Started))
	var session *int64
	if c.session.Valid {
		session = &c.session.Int64
	}
	s.session = append(s.session, session)
}

// args are the columns that all tables have; what is slot, mode or state.
func (s *set) args(what any) []any {
	return []any{s.id, s.seq, s.epoch, s.session, s.place, s.started, s.rev, s.runs, what, s.key, s.flags, s.attempts, s.lost}
}

// writes collects a plan by table.
type writes struct {
	gone                     []string
	goneSeq, dropPend        []int64
	dropActive, unique, left []string
	active, pend, done       set
	extra                    side
	jobID                    []string
	jobPriority, jobRuns     []int64
	jobRunAt                 []time.Time
	err                      error
}

func (w *writes) add(p *plan, c *change) {
	m := c.m
	if m.To == "" {
		w.gone, w.goneSeq = append(w.gone, c.ID), append(w.goneSeq, c.Seq)
		return
	}
	if c.side {
		w.err = w.extra.add(c, w.err)
	}
	if c.noted {
		return
	}
	c.raw &^= flagExtra
	if c.extra || c.side {
		c.raw |= flagExtra
	}
	rev := c.Rev - c.extraRev + 1
	if c.part == 1 {
		w.dropPend = append(w.dropPend, c.Seq)
		if c.arrival && m.To != job.Waiting {
			w.left = append(w.left, c.was)
		}
		if c.slot.Valid && !c.held {
			w.dropActive = append(w.dropActive, c.ID)
		}
	} else {
		w.dropActive = append(w.dropActive, c.ID)
	}
	if m.Priority != nil || !m.RunAt.IsZero() && c.Runs == 0 {
		w.jobID, w.jobPriority = append(w.jobID, c.ID), append(w.jobPriority, int64(c.Priority))
		w.jobRunAt, w.jobRuns = append(w.jobRunAt, c.RunAt), append(w.jobRuns, int64(c.Runs))
	}
	switch {
	case final(m.To):
		w.end(c, rev)
	case m.To == job.Running:
		w.run(c, rev-1, true) // drover_extra counts this change
	default:
		if c.held && c.part == 2 { // the turn is kept without running
			w.run(c, rev, false)
		}
		w.rest(p, c, rev)
	}
}

func (w *writes) end(c *change, rev int64) {
	w.done.add(c, int64(stateCodes[c.m.To]), "", rev)
	w.done.runAt = append(w.done.runAt, c.ownRunAt())
	fail, err := (*string)(nil), error(nil)
	if c.Error != nil {
		fail, err = encode(c.Error)
	}
	if err != nil {
		w.err = err
	}
	w.done.result, w.done.fail = append(w.done.result, nullJSON(c.Result)), append(w.done.fail, fail)
	if c.raw&flagUnique != 0 {
		w.unique = append(w.unique, c.ID)
	}
}

func (c *change) ownRunAt() *time.Time {
	if c.ranBefore() {
		return nullTime(c.RunAt)
	}
	return nil
}

// run puts a row that holds a turn, or runs.
func (w *writes) run(c *change, rev int64, runs bool) {
	key := c.lineText()
	if runs && (c.m.Free || !c.keyed) {
		key = "" // ReleaseTurn
	}
	w.active.add(c, 0, key, rev)
	n := len(w.active.id) - 1
	w.active.slot = append(w.active.slot, nil)
	if key != "" && c.slot.Valid {
		w.active.slot[n] = &c.slot.Int64
	}
	if !runs {
		w.active.session[n], w.active.started[n] = nil, nil
	}
	w.active.runAt = append(w.active.runAt, c.ownRunAt())
}

// rest puts a row that does not run.
func (w *writes) rest(p *plan, c *change, rev int64) {
	mode := c.toMode()
	w.pend.add(c, int64(mode), c.lineText(), rev)
	w.pend.runAt, w.pend.priority = append(w.pend.runAt, nullTime(c.RunAt)), append(w.pend.priority, int64(c.Priority))
	w.pend.queue, w.pend.kind = append(w.pend.queue, c.Queue), append(w.pend.kind, c.Kind)
	w.pend.back = append(w.pend.back, mode == modeArrival && !c.place || c.m.To == job.Waiting)
	deadline := nullTime(c.Deadline)
	if c.Flags&job.Unwinding != 0 {
		deadline = nil
	}
	w.pend.deadline = append(w.pend.deadline, deadline)
	if mode < modeWaiting {
		p.readied(c.Queue, c.Priority, c.RunAt)
	}
}

// side is rows of drover_extra.
type side struct {
	id                                       []string
	bump, flags, percent                     []int64
	step, note, by, reason, result, fail, wk []*string
	cancelAt                                 []*time.Time
	final                                    []bool
}

func (s *side) add(c *change, before error) error {
	bump := int64(0)
	if c.m.To == job.Running {
		bump = 1
	}
	var fail, wakes *string
	err := before
	if c.m.Error != nil && !final(c.m.To) {
		fail, err = encode(c.m.Error)
	}
	if len(c.Wakes) > 0 && err == nil {
		wakes, err = encode(c.Wakes)
	}
	result := (*string)(nil)
	if !final(c.m.To) {
		result = nullJSON(c.m.Result)
	}
	s.id, s.bump, s.flags = append(s.id, c.ID), append(s.bump, bump), append(s.flags, int64(c.Flags))
	s.percent, s.step, s.note = append(s.percent, int64(c.Progress.Percent)), append(s.step, nullText(c.Progress.Step)), append(s.note, nullText(c.Progress.Note))
	s.cancelAt, s.by, s.reason = append(s.cancelAt, nullTime(c.CancelAt)), append(s.by, nullText(c.CancelBy)), append(s.reason, nullText(c.CancelReason))
	s.final, s.result, s.fail, s.wk = append(s.final, final(c.m.To)), append(s.result, result), append(s.fail, fail), append(s.wk, wakes)
	return err
}

func (s *side) args() []any {
	return []any{s.id, s.bump, s.flags, s.percent, s.step, s.note, s.cancelAt, s.by, s.reason, s.final, s.result, s.fail, s.wk}
}
