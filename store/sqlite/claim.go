package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// admitted is how many lines one claim looks at; the next one goes on.
const admitted = 2000

// Claim starts jobs and says what else a round should do; see job.Store.
func (j jobs) Claim(ctx context.Context, x store.Tx, c job.Claim) (out job.Claimed, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	on, err := t.settings(ctx)
	if err != nil {
		return out, err
	}
	var free map[string]int
	if c.Max > 0 { // a probe asks for nothing that a dead session may not see
		if err := t.alive(ctx, c.Session); err != nil {
			return out, err
		}
		if err := t.admit(ctx, admitted); err != nil {
			return out, err
		}
		c = startable(c, on)
		picked, err := t.pick(ctx, c)
		if err != nil {
			return out, err
		}
		seqs := make([]int64, len(picked))
		for i, p := range picked {
			seqs[i] = p.seq
		}
		if out.Rows, err = t.start(ctx, c.Session, seqs); err != nil {
			return out, err
		}
		if free = left(c.Free, out.Rows); c.Seqs != nil {
			free = nil // what else there is does not count
		}
	} else {
		free, out.Settings = startable(c, on).Free, on
	}
	return out, t.probe(ctx, c, free, &out)
}

// left are the slots still free.
func left(free map[string]int, taken []job.Row) map[string]int {
	rest := make(map[string]int, len(free))
	for q, n := range free {
		rest[q] = n
	}
	for _, r := range taken {
		rest[r.Queue]--
	}
	return rest
}

// open are the queues with free slots, sorted.
func open(free map[string]int) (qs []string) {
	for q, n := range free {
		if n > 0 {
			qs = append(qs, q)
		}
	}
	slices.Sort(qs)
	return qs
}

// candidate is a ready job.
type candidate struct {
	seq   int64
	key   syncqueue.Key
	aside bool // keyed, but without a turn
}

// Both walk drover_job_ready, from the head of each kind. The second looks at each priority apart, so that age decides.
const (
	urgentFirst = `SELECT j.seq, j.key_kind, j.key_id, j.line FROM json_each(?2) k CROSS JOIN drover_job j ON j.seq IN (
			SELECT seq FROM drover_job INDEXED BY drover_job_ready WHERE state = 'ready' AND queue = ?1 AND kind = k.value
			ORDER BY priority, run_at, seq LIMIT ?3+0)
		ORDER BY j.priority, j.run_at, j.seq LIMIT ?3+0`
	oldestFirst = `WITH RECURSIVE p (kind, priority) AS (
			SELECT k.value, (SELECT min(priority) FROM drover_job WHERE state = 'ready' AND queue = ?1 AND kind = k.value) FROM json_each(?2) k
			UNION ALL
			SELECT p.kind, (SELECT min(priority) FROM drover_job WHERE state = 'ready' AND queue = ?1 AND kind = p.kind AND priority > p.priority)
			FROM p WHERE p.priority IS NOT NULL)
		SELECT j.seq, j.key_kind, j.key_id, j.line FROM p CROSS JOIN drover_job j ON j.seq IN (
			SELECT seq FROM drover_job INDEXED BY drover_job_ready WHERE state = 'ready' AND queue = ?1 AND kind = p.kind AND priority = p.priority
			ORDER BY run_at, seq LIMIT ?3+0)
		WHERE p.priority IS NOT NULL ORDER BY j.run_at, j.seq LIMIT ?3+0`
)

// pick chooses at most c.Max ready jobs, taking turns among the queues.
func (t *tx) pick(ctx context.Context, c job.Claim) (picked []candidate, err error) {
	kinds := slices.Clone(c.Kinds)
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	if c.Seqs != nil {
		return t.pickOnly(ctx, c, kinds)
	}
	var lists [][]candidate
	for _, q := range open(c.Free) {
		list, err := t.heads(ctx, q, array(kinds), min(c.Free[q], c.Max), c.Oldest)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	for i, more := 0, true; more && len(picked) < c.Max; i++ {
		more = false
		for _, l := range lists {
			if i < len(l) && len(picked) < c.Max {
				picked, more = append(picked, l[i]), true
			}
		}
	}
	return picked, nil
}

// pickOnly is pick among jobs asked for by name.
func (t *tx) pickOnly(ctx context.Context, c job.Claim, kinds []string) (picked []candidate, err error) {
	rest := left(c.Free, nil)
	var all []candidate
	var queues []string
	err = t.each(ctx, `SELECT queue, seq, key_kind, key_id, line FROM drover_job WHERE seq IN (SELECT value FROM json_each(?)) AND state = 'ready'
		AND kind IN (SELECT value FROM json_each(?)) ORDER BY priority, run_at, seq`, []any{array(c.Seqs), array(kinds)}, func(scan func(...any) error) error {
		var queue string
		p, err := scanCandidate(func(dest ...any) error { return scan(append([]any{&queue}, dest...)...) })
		all, queues = append(all, p), append(queues, queue)
		return err
	})
	for i, p := range all {
		if err != nil || len(picked) == c.Max {
			break
		}
		var back bool
		if back, err = t.putBack(ctx, p); !back && rest[queues[i]] > 0 {
			rest[queues[i]]--
			picked = append(picked, p)
		}
	}
	return picked, err
}

func scanCandidate(scan func(...any) error) (c candidate, err error) {
	var kind, id sql.NullString
	var line sql.NullInt64
	err = scan(&c.seq, &kind, &id, &line)
	c.key, c.aside = syncqueue.Key{Kind: kind.String, ID: id.String}, line.Valid && line.Int64 == aside
	return c, err
}

// heads are the first n of a queue that may start. A job whose kind became limited after it was ready joins the line instead.
func (t *tx) heads(ctx context.Context, queue, kinds string, n int, oldest bool) (list []candidate, err error) {
	query := urgentFirst
	if oldest {
		query = oldestFirst
	}
	for {
		var got []candidate
		err := t.each(ctx, query, []any{queue, kinds, n}, func(scan func(...any) error) error {
			c, err := scanCandidate(scan)
			got = append(got, c)
			return err
		})
		if err != nil {
			return nil, err
		}
		list = list[:0]
		for _, c := range got {
			back, err := t.putBack(ctx, c)
			if err != nil {
				return nil, err
			}
			if !back {
				list = append(list, c)
			}
		}
		if len(list) == len(got) {
			return list, nil
		}
	}
}

// putBack makes a ready job wait that needs a turn and holds none.
func (t *tx) putBack(ctx context.Context, c candidate) (bool, error) {
	if !c.aside {
		return false, nil
	}
	need, err := t.needsTurn(ctx, c.key)
	if err != nil || !need {
		return false, err
	}
	if _, err := t.exec(ctx, `UPDATE drover_job SET state = 'waiting', line = 0, place = CASE place WHEN 0 THEN seq * 65536 ELSE place END,
		joined = coalesce(joined, ?1), since = NULL, rev = rev + 1, updated = ?1 WHERE seq = ?2`, t.now.UnixMicro(), c.seq); err != nil {
		return false, err
	}
	return true, t.arrive(ctx, c.key)
}

// start makes ready jobs run for session s, and answers them in the order of seqs.
func (t *tx) start(ctx context.Context, s lease.Token, seqs []int64) ([]job.Row, error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	which := array(seqs)
	rows, err := t.rows(ctx, selectRow+`WHERE j.seq IN (SELECT value FROM json_each(?))`, which)
	if err != nil {
		return nil, err
	}
	epoch, err := t.nextEpoch(ctx)
	if err != nil {
		return nil, err
	}
	now := t.now.UnixMicro()
	_, err = t.exec(ctx, `UPDATE drover_job SET state = 'running', session = ?1, session_epoch = ?2, epoch = ?3, started = ?4, runs = runs + 1,
		run_until = CASE WHEN timeout <= 0 THEN deadline WHEN deadline IS NULL THEN ?4 + timeout / 1000 ELSE min(deadline, ?4 + timeout / 1000) END,
		wakes = NULL, rev = rev + 1, updated = ?4 WHERE seq IN (SELECT value FROM json_each(?5))`, s.Node, s.Epoch, epoch, now, which)
	if err != nil {
		return nil, err
	}
	at := make(map[int64]int, len(seqs))
	for i, q := range seqs {
		at[q] = i
	}
	slices.SortFunc(rows, func(a, b job.Row) int { return cmp.Compare(at[a.Seq], at[b.Seq]) })
	for i := range rows {
		r := &rows[i]
		r.State, r.Session, r.SessionEpoch, r.Epoch, r.Started, r.Updated = job.Running, s.Node, s.Epoch, epoch, t.now, t.now
		r.Runs, r.Rev, r.RunUntil = r.Runs+1, r.Rev+1, r.Deadline
		if until := cut(t.now.Add(r.Timeout)); r.Timeout > 0 && (r.Deadline.IsZero() || until.Before(r.Deadline)) {
			r.RunUntil = until
		}
	}
	return rows, nil
}

// probe says what else a round should do: one statement, each part of it the head of a partial index.
func (t *tx) probe(ctx context.Context, c job.Claim, free map[string]int, out *job.Claimed) error {
	var due, deadline, wake sql.NullInt64
	err := t.row(ctx, `SELECT
		EXISTS (SELECT 1 FROM drover_session WHERE state <> 'dead' AND until <= ?1)
			OR EXISTS (SELECT 1 FROM drover_session s INDEXED BY drover_session_dead CROSS JOIN drover_job j INDEXED BY drover_job_running
				ON j.session_epoch = s.epoch AND j.state = 'running' WHERE s.state = 'dead'),
		EXISTS (SELECT 1 FROM drover_job WHERE state = 'running' AND cancel_at IS NOT NULL AND session_epoch = ?2),
		EXISTS (SELECT 1 FROM drover_arrival)
			OR EXISTS (SELECT 1 FROM json_each(?3) q CROSS JOIN json_each(?4) k WHERE EXISTS (
				SELECT 1 FROM drover_job INDEXED BY drover_job_ready WHERE state = 'ready' AND queue = q.value AND kind = k.value)),
		(SELECT min(run_at) FROM drover_job WHERE state = 'scheduled'),
		(SELECT min(deadline) FROM drover_job INDEXED BY drover_job_deadline
			WHERE deadline IS NOT NULL AND ended IS NULL AND state <> 'running' AND flags & 8 = 0),
		(SELECT min(wake_at) FROM drover_park WHERE wake_at IS NOT NULL)`,
		[]any{t.now.UnixMicro(), c.Session.Epoch, array(open(free)), array(c.Kinds)},
		&out.Sweep, &out.Cancels, &out.More, &due, &deadline, &wake)
	if err != nil {
		return err
	}
	for _, at := range []time.Time{fromUS(due), fromUS(deadline), fromUS(wake)} {
		switch {
		case at.IsZero():
		case !at.After(t.now):
			out.Due = true
		case out.Next.IsZero() || at.Before(out.Next):
			out.Next = at
		}
	}
	return nil
}
