package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// rules are the stored policies of kinds, read once per transaction, and which kinds have keys with one of their own.
type rules map[string]rule

type rule struct {
	syncqueue.Policy
	keys bool
}

// policy of a key: its own limit, else its kind's, else 1; either may pause it.
func (t *tx) policy(ctx context.Context, k syncqueue.Key) (syncqueue.Policy, error) {
	if t.rules == nil {
		if err := t.readRules(ctx); err != nil {
			return syncqueue.Policy{}, err
		}
	}
	r, ok := t.rules[k.Kind]
	if !ok {
		return syncqueue.Policy{Limit: 1}, nil
	}
	if !r.keys {
		return r.Policy, nil
	}
	p, paused := r.Policy, false
	err := t.row(ctx, `SELECT CASE lim WHEN -1 THEN ?1 ELSE lim END, paused FROM drover_policy WHERE kind = ?2 AND id = ?3`,
		[]any{p.Limit, k.Kind, k.ID}, &p.Limit, &paused)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, err
	}
	p.Paused = p.Paused || paused
	return p, nil
}

func (t *tx) readRules(ctx context.Context) error {
	t.rules = rules{}
	return t.each(ctx, `SELECT kind, coalesce(max(CASE WHEN id = '' THEN nullif(lim, -1) END), 1), max(id = '' AND paused), max(id <> '')
		FROM drover_policy GROUP BY kind`, nil, func(scan func(...any) error) error {
		var kind string
		var r rule
		if err := scan(&kind, &r.Limit, &r.Paused, &r.keys); err != nil {
			return err
		}
		t.rules[kind] = r
		return nil
	})
}

// needsTurn tells whether a job with this key must stand in line.
func (t *tx) needsTurn(ctx context.Context, k syncqueue.Key) (bool, error) {
	if k == (syncqueue.Key{}) {
		return false, nil
	}
	p, err := t.policy(ctx, k)
	return p.Limit > 0 || p.Paused, err
}

// arrive notes that somebody joined the line of k.
func (t *tx) arrive(ctx context.Context, k syncqueue.Key) error {
	_, err := t.exec(ctx, `INSERT INTO drover_arrival (key_kind, key_id) VALUES (?, ?) ON CONFLICT DO NOTHING`, k.Kind, k.ID)
	return err
}

// granted is a job that got its turn just now and is ready.
type granted struct {
	seq         int64
	queue, kind string
}

// grant gives the free turns of k to the first in line.
func (t *tx) grant(ctx context.Context, k syncqueue.Key) (gs []granted, err error) {
	p, err := t.policy(ctx, k)
	if err != nil || p.Paused {
		return nil, err
	}
	query, line := `SELECT seq, queue, kind FROM drover_job WHERE key_kind = ?1 AND key_id = ?2 AND line = 0 ORDER BY place, seq
		LIMIT max(0, ?3 - (SELECT count(*) FROM drover_job WHERE key_kind = ?1 AND key_id = ?2 AND line = 1)
			- (SELECT count(*) FROM drover_legacy WHERE key_kind = ?1 AND key_id = ?2 AND origin = ''))`, holds
	if p.Limit == 0 {
		query, line = `SELECT seq, queue, kind FROM drover_job WHERE key_kind = ?1 AND key_id = ?2 AND line = 0 AND ?3 = 0 ORDER BY place, seq`, aside
	}
	err = t.each(ctx, query, []any{k.Kind, k.ID, p.Limit}, func(scan func(...any) error) error {
		var g granted
		err := scan(&g.seq, &g.queue, &g.kind)
		gs = append(gs, g)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, g := range gs {
		if _, err := t.exec(ctx, `UPDATE drover_job SET state = 'ready', line = ?1, since = CASE ?1 WHEN 1 THEN ?2 END, rev = rev + 1, updated = ?2
			WHERE seq = ?3`, line, t.now.UnixMicro(), g.seq); err != nil {
			return nil, err
		}
	}
	return gs, nil
}

// grantAll grants key by key, in order, and hints nobody.
func (t *tx) grantAll(ctx context.Context, keys []syncqueue.Key) (gs []granted, err error) {
	slices.SortFunc(keys, compareKeys)
	for _, k := range slices.Compact(keys) {
		g, err := t.grant(ctx, k)
		if err != nil {
			return nil, err
		}
		gs = append(gs, g...)
	}
	return gs, nil
}

func compareKeys(a, b syncqueue.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
}

func (t *tx) hintQueues(gs []granted) {
	for _, g := range gs {
		t.Hint(job.QueueTopic(g.queue))
	}
}

// admit grants the lines that somebody joined, at most n, oldest first.
func (t *tx) admit(ctx context.Context, n int) error {
	var keys []syncqueue.Key
	last := int64(0)
	err := t.each(ctx, `SELECT n, key_kind, key_id FROM drover_arrival ORDER BY n LIMIT ?+0`, []any{n}, func(scan func(...any) error) error {
		var k syncqueue.Key
		err := scan(&last, &k.Kind, &k.ID)
		keys = append(keys, k)
		return err
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	gs, err := t.grantAll(ctx, keys)
	if err != nil {
		return err
	}
	t.hintQueues(gs)
	_, err = t.exec(ctx, `DELETE FROM drover_arrival WHERE n <= ?`, last)
	return err
}
