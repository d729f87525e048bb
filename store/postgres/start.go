package postgres

import (
	"context"
	"slices"

	"github.com/drover-cloud/drover/job"
)

// sqlStart starts jobs that are ready, by drover_pend_seq, whatever their kind of turn, and, with $3, under maintenance too; answers
// like sqlClaim.
const sqlStart = `
WITH me AS MATERIALIZED (
  SELECT 1 FROM @session WHERE epoch = $2 AND NOT dead AND until > now()
    AND ($3::bool OR NOT EXISTS (SELECT 1 FROM @setting WHERE name = '` + job.Maintenance + `')) FOR KEY SHARE
), c AS MATERIALIZED (
  SELECT ctid AS t, run_at, seq, id, place, mode, priority, rev, kind, key, queue, flags, attempt, runs, lost, (SELECT nextval('@epoch')) AS epoch,
    (SELECT a.slot FROM @active a WHERE a.id = @pend.id AND a.session IS NULL) AS slot
  FROM @pend WHERE (SELECT count(*) FROM me) > 0 AND seq = ANY ($1::bigint[]) AND mode IN (0, -1) AND NOT ('paused/' || queue) = ANY (ARRAY(SELECT name FROM @setting))
), held AS (
  DELETE FROM @active WHERE session IS NULL AND id = ANY (ARRAY(SELECT id FROM c WHERE mode = 0 AND key IS NOT NULL)) RETURNING id
), go AS (
  INSERT INTO @active (id, seq, epoch, session, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
  SELECT id, seq, epoch, $2, place, now(), rev + 1, coalesce(runs, 0) + 1, slot, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END
  FROM c WHERE mode = -1 OR key IS NULL OR (id IN (SELECT id FROM held)) IS TRUE RETURNING id
), gone AS (
  DELETE FROM @pend WHERE ctid = ANY (ARRAY(SELECT t FROM c WHERE (id IN (SELECT id FROM go)) IS TRUE))
)
SELECT CASE WHEN c.mode = -1 THEN 4 ELSE 1 END, c.queue, c.id::text, c.epoch, c.seq, coalesce(c.place, 0), c.run_at, c.priority, c.kind, coalesce(c.key, ''), c.packed, now(), j.*
FROM (SELECT *, ` + packed + ` AS packed FROM c) c CROSS JOIN LATERAL (SELECT ` + jobColumns + ` FROM @job j WHERE j.id = c.id OFFSET 0) j
WHERE (c.id IN (SELECT id FROM go)) IS TRUE`

// startSome starts of those ready what the claim asked for.
func (cl *claiming) startSome(ctx context.Context, ready []candidate) error {
	room := map[string]int{}
	for q, n := range cl.Free {
		room[q] = n
	}
	for i := range cl.got {
		room[cl.got[i].Queue]--
	}
	var seqs []int64
	for _, c := range ready {
		if len(cl.got)+len(seqs) < cl.Max && room[c.queue] > 0 && slices.Contains(cl.Kinds, c.kind) && (cl.Seqs == nil || slices.Contains(cl.Seqs, c.seq)) {
			room[c.queue]--
			seqs = append(seqs, c.seq)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	var queue string
	s := starter{session: cl.Session.Node, sessionEpoch: cl.Session.Epoch, withQueue: &queue}
	return cl.query(ctx, sqlStart, func(scan func(...any) error) error {
		if err := s.scan(scan); err != nil {
			return err
		}
		return cl.add(&s)
	}, seqs, cl.Session.Epoch, cl.Seqs != nil)
}
