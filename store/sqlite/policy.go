package sqlite

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Policy stores rows and does at once what they change; see syncqueue.Store.
func (q queues) Policy(ctx context.Context, x store.Tx, set []syncqueue.PolicyRow) (all []syncqueue.PolicyRow, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return nil, err
	}
	for _, r := range set {
		if err := t.setPolicy(ctx, r); err != nil {
			return nil, err
		}
	}
	err = t.each(ctx, `SELECT kind, id, lim, paused FROM drover_policy ORDER BY kind, id`, nil, func(scan func(...any) error) error {
		var r syncqueue.PolicyRow
		err := scan(&r.Kind, &r.ID, &r.Limit, &r.Paused)
		all = append(all, r)
		return err
	})
	return all, err
}

func (t *tx) setPolicy(ctx context.Context, r syncqueue.PolicyRow) error {
	if r.Limit < syncqueue.Inherit || r.Kind == "" {
		return fmt.Errorf("%w: policy of %q: limit %d", syncqueue.ErrInvalid, r.Kind, r.Limit)
	}
	keys := []syncqueue.Key{{Kind: r.Kind, ID: r.ID}}
	if r.ID == "" {
		var err error
		if keys, err = t.keysOf(ctx, r.Kind); err != nil {
			return err
		}
	}
	before := make([]syncqueue.Policy, len(keys))
	for i, k := range keys {
		var err error
		if before[i], err = t.policy(ctx, k); err != nil {
			return err
		}
	}
	_, err := t.exec(ctx, `INSERT INTO drover_policy (kind, id, lim, paused) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET lim = excluded.lim, paused = excluded.paused`, r.Kind, r.ID, r.Limit, r.Paused)
	if err == nil && r.Policy == (syncqueue.Policy{Limit: syncqueue.Inherit}) {
		_, err = t.exec(ctx, `DELETE FROM drover_policy WHERE kind = ? AND id = ?`, r.Kind, r.ID)
	}
	if err != nil {
		return err
	}
	t.rules = nil
	for i, k := range keys {
		if err := t.repolicy(ctx, k, before[i]); err != nil {
			return err
		}
	}
	return nil
}

// keysOf are the keys of a kind that have live jobs.
func (t *tx) keysOf(ctx context.Context, kind string) (keys []syncqueue.Key, err error) {
	err = t.each(ctx, `SELECT DISTINCT key_id FROM drover_job WHERE key_kind = ? AND line IS NOT NULL ORDER BY key_id`, []any{kind}, func(scan func(...any) error) error {
		k := syncqueue.Key{Kind: kind}
		err := scan(&k.ID)
		keys = append(keys, k)
		return err
	})
	return keys, err
}

// repolicy brings the jobs of a key to its present policy.
func (t *tx) repolicy(ctx context.Context, k syncqueue.Key, before syncqueue.Policy) error {
	now, err := t.policy(ctx, k)
	if err != nil || now == before {
		return err
	}
	change := func(set, where string) error {
		_, err := t.exec(ctx, `UPDATE drover_job SET `+set+`, rev = rev + 1, updated = ?3 WHERE key_kind = ?1 AND key_id = ?2 AND `+where,
			k.Kind, k.ID, t.now.UnixMicro())
		return err
	}
	if now.Limit == 0 && before.Limit > 0 { // nobody holds a turn any more
		if err := change(`line = 2, since = NULL`, `line = 1`); err != nil {
			return err
		}
	}
	if now.Limit > 0 && before.Limit == 0 { // who is under way counts
		if err := change(`line = 1, since = ?3`, `line = 2 AND lender = '' AND state IN ('ready', 'running', 'parked')`); err != nil {
			return err
		}
	}
	if now.Paused && !before.Paused { // what was granted and not claimed goes back
		if err := change(`state = 'waiting', line = 0, since = NULL, joined = coalesce(joined, ?3), place = CASE place WHEN 0 THEN seq * 65536 ELSE place END`,
			`line IN (1, 2) AND state = 'ready' AND NOT (line = 1 AND `+borrowed+`)`); err != nil {
			return err
		}
	}
	gs, err := t.grant(ctx, k)
	t.hintQueues(gs)
	return err
}

// Audit repairs what cannot happen; see syncqueue.Store.
func (q queues) Audit(ctx context.Context, x store.Tx, limit int) (repaired int, err error) {
	t, err := q.s.of(x)
	if err != nil {
		return 0, err
	}
	n, err := t.exec(ctx, `UPDATE drover_job INDEXED BY drover_job_line SET line = NULL WHERE line IS NOT NULL AND ended IS NOT NULL`)
	if err != nil {
		return 0, err
	}
	idle, err := t.auditLending(ctx)
	if err != nil {
		return 0, err
	}
	repaired = int(n) + idle
	var k syncqueue.Key
	for repaired < limit {
		var ok bool
		if k, ok, err = t.nextLine(ctx, k, ""); err != nil || !ok {
			return repaired, err
		}
		arrival, err := t.has(ctx, `SELECT 1 FROM drover_arrival WHERE key_kind = ? AND key_id = ?`, k.Kind, k.ID)
		if err != nil {
			return repaired, err
		}
		if arrival {
			continue
		}
		gs, err := t.grant(ctx, k)
		if err != nil {
			return repaired, err
		}
		t.hintQueues(gs)
		if len(gs) > 0 {
			repaired++
		}
	}
	return repaired, nil
}
