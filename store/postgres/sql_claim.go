package postgres

// jobColumns are what a started row brings from drover_job, by drover_job_pkey.
const jobColumns = `j.created, j.timeout, j.max_attempts, j.bits, j.print, j.args, j.deadline,
  CASE WHEN num_nonnulls(j.parent, j.root, j.retry_of, j.name, j.account, j.resource, j.idem, j.uniq, j.identity) > 0
       THEN json_build_object('p', j.parent, 'r', j.root, 'y', j.retry_of, 'n', j.name, 'a', j.account, 'o', j.resource, 'i', j.idem, 'u', j.uniq, 'd', j.identity)::text END`

// packed is the part of a row that a job which has not run before does not have.
const packed = `CASE WHEN rev > 1 OR flags IS NOT NULL THEN concat_ws(',', rev, coalesce(attempt, 0), coalesce(runs, 0), coalesce(lost, 0), coalesce(flags, 0)) END`

// regimes: the kinds of keys whose turns are not simply one at a time, and those of them that need none.
const (
	special   = `ANY (ARRAY(SELECT kind FROM @regime))`
	unlimited = `ANY (ARRAY(SELECT kind FROM @regime WHERE free))`
)

// sqlClaim starts at most $2 jobs of queue $1 and the kinds $7 for session $3, each priority of $4 from its position ($5, $6)
// on; the index is drover_pend_ready, and priority must be an equality for the position to bound the scan. An arrival runs if
// its key is free and it is first in line; it waits (mode 2) if the holder's row could be locked; else it stays an arrival.
// Candidates are locked by ctid and re-read by that ctid in the same snapshot: one that changed in between is left alone.
//
// Class of a candidate: 0 needs no turn · 1 arrival · 2 holds its turn · 8 arrival not for this session · 9 of a special kind,
// for Go. The order turn, kept, locked is forced by the count(*) terms: who holds a KEY SHARE lock never waits again, so
// that there is no deadlock with the deletes of a finish.
//
// Answers: 1 what runs, 4 what runs without a turn · 2 what is left, with its class · 3 the number of those parked.
const sqlClaim = `
WITH me AS MATERIALIZED (
  SELECT 1 FROM @session WHERE epoch = $3 AND NOT dead AND until > now() AND NOT /*halted*/` + halted + `/*halted*/$1::text)) FOR KEY SHARE
), c AS MATERIALIZED (
  SELECT ctid AS t, run_at, seq, id, place, mode, priority, rev, kind, key, flags, attempt, runs, lost, (SELECT nextval('@epoch')) AS epoch,
    CASE WHEN key IS NULL THEN 0
         WHEN split_part(key, chr(31), 1) = ` + special + ` THEN CASE WHEN mode = -1 AND split_part(key, chr(31), 1) = ` + unlimited + ` THEN 0 ELSE 9 END
         WHEN mode = 1 THEN CASE WHEN kind = ANY ($7::text[]) THEN 1 ELSE 8 END
         WHEN mode = 0 THEN 2 ELSE 9 END AS cls
  FROM @pend WHERE ctid = ANY (ARRAY(
    SELECT l.t FROM /*from*/unnest($4::int[], $5::timestamptz[], $6::bigint[])/*from*/ f(priority, run_at, seq) CROSS JOIN LATERAL (
      SELECT ctid AS t, run_at, seq FROM @pend
      WHERE queue = $1 AND priority = f.priority AND mode < 2 AND (run_at, seq) >= (f.run_at, f.seq) AND (kind = ANY ($7::text[]) OR mode = 1) /*only AND seq = ANY ($8::bigint[]) only*/
      ORDER BY queue, priority, run_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED) l
    WHERE (SELECT count(*) FROM me) > 0 /*oldest ORDER BY l.run_at, l.seq oldest*/ LIMIT $2))
), k AS MATERIALIZED (
  SELECT DISTINCT ON (key) key, place, id, cls FROM c WHERE cls IN (1, 8) ORDER BY key, place
), v AS MATERIALIZED (
  SELECT k.key, k.id, k.cls, h.held, l.place = k.place AS first
  FROM k CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM @active a WHERE a.key = k.key) AS held OFFSET 0) h
         CROSS JOIN LATERAL (SELECT p.place FROM @pend p WHERE p.key = k.key AND p.mode IN (1, 2) ORDER BY p.key, p.place LIMIT 1) l
), turn AS (
  INSERT INTO @active (id, seq, epoch, session, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
  SELECT id, seq, epoch, $3, place, now(), rev + 1, coalesce(runs, 0) + 1, 0, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END FROM c
  WHERE cls = 1 AND (id IN (SELECT id FROM v WHERE NOT held AND first AND cls = 1)) IS TRUE ORDER BY key
  ON CONFLICT (key, slot) WHERE key IS NOT NULL DO NOTHING RETURNING id, key
), free AS (
  INSERT INTO @active (id, seq, epoch, session, place, started, rev, runs, key, flags, attempt, lost, run_at)
  SELECT id, seq, epoch, $3, place, now(), rev + 1, coalesce(runs, 0) + 1, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END FROM c
  WHERE cls = 0 RETURNING id
), held AS (
  DELETE FROM @active WHERE (SELECT count(*) FROM turn) >= 0 AND ctid = ANY (ARRAY(
    SELECT (SELECT a.ctid FROM @active a WHERE a.id = c.id) FROM c WHERE cls = 2))
  RETURNING id, slot
), kept AS (
  INSERT INTO @active (id, seq, epoch, session, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
  SELECT id, seq, epoch, $3, place, now(), rev + 1, coalesce(runs, 0) + 1, 0, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END FROM c
  WHERE cls = 2 AND (id IN (SELECT id FROM held)) IS TRUE
  RETURNING id
), locked AS MATERIALIZED (
  SELECT t, id, place, (SELECT a.place FROM @active a WHERE a.key = c.key FOR KEY SHARE SKIP LOCKED) AS floor
  FROM c WHERE cls IN (1, 8) AND (SELECT count(*) FROM kept) >= 0 AND (key IN (SELECT key FROM v WHERE held)) IS TRUE
), go AS MATERIALIZED (
  SELECT id FROM free UNION ALL SELECT id FROM turn UNION ALL SELECT id FROM kept
), gone AS (
  DELETE FROM @pend WHERE ctid = ANY (ARRAY(SELECT t FROM c WHERE (id IN (SELECT id FROM go)) IS TRUE))
), park AS MATERIALIZED (
  SELECT t, id, place < floor AS back FROM locked WHERE floor IS NOT NULL
  UNION ALL
  SELECT t, id, false FROM c WHERE cls IN (1, 8) AND (id IN (SELECT id FROM turn)) IS NOT TRUE AND (key IN (SELECT key FROM turn)) IS TRUE
), parked AS (
  UPDATE @pend SET mode = 2 WHERE ctid = ANY (ARRAY(SELECT t FROM park WHERE NOT back))
), behind AS (
  UPDATE @pend SET mode = 2, back = true WHERE ctid = ANY (ARRAY(SELECT t FROM park WHERE back))
)
SELECT CASE WHEN c.cls = 0 THEN 4 ELSE 1 END, c.id::text, c.epoch, c.seq, coalesce(c.place, 0), c.run_at, c.priority, c.kind, coalesce(c.key, ''), c.packed, now(), j.*
FROM (SELECT *, ` + packed + ` AS packed FROM c) c CROSS JOIN LATERAL (SELECT ` + jobColumns + ` FROM @job j WHERE j.id = c.id OFFSET 0) j
WHERE (c.id IN (SELECT id FROM go)) IS TRUE
UNION ALL
SELECT 2, c.id::text, cls, c.seq, coalesce(c.place, 0), c.run_at, c.priority, c.kind, coalesce(c.key, ''), NULL, now(), now(), 0, 0, 0, '', NULL, NULL, NULL
FROM c WHERE (c.id IN (SELECT id FROM go)) IS NOT TRUE AND (c.id IN (SELECT id FROM park)) IS NOT TRUE
UNION ALL
SELECT 3, '', 0, count(*), 0, now(), 0, '', '', NULL, now(), now(), 0, 0, 0, '', NULL, NULL, NULL FROM park HAVING count(*) > 0`

// sqlHeads and sqlFromHeads stand in sqlClaim for the positions: the start of every priority that has something ready, found by
// one descent of drover_pend_ready each; sqlTellHeads answers them, as 5.
const (
	sqlHeads = `
WITH RECURSIVE p AS (
  (SELECT priority FROM @pend WHERE queue = $1 AND mode < 2 ORDER BY queue, priority LIMIT 1)
  UNION ALL
  SELECT (SELECT n.priority FROM @pend n WHERE n.queue = $1 AND n.mode < 2 AND n.priority > p.priority ORDER BY n.queue, n.priority LIMIT 1)
  FROM p WHERE p.priority IS NOT NULL
), me AS`
	sqlFromHeads = `(SELECT priority, '-infinity'::timestamptz, 0::bigint FROM p
      WHERE priority IS NOT NULL AND cardinality($4::int[]) + cardinality($5::timestamptz[]) + cardinality($6::bigint[]) = 0)`
	sqlTellHeads = `
UNION ALL
SELECT 5, '', 0, 0, 0, now(), priority, '', '', NULL, now(), now(), 0, 0, 0, '', NULL, NULL, NULL FROM p WHERE priority IS NOT NULL`
)

// sqlProbe is the round of an idle node, in one read: is the session live; are sessions over; are dead ones not known to be
// swept out; does it run a job with a cancel request; when is the next job due, woken or past its deadline. Each part reads the
// first entry of an index: drover_session_live (a row per node), drover_session_dirty, drover_extra_cancel, drover_pend_due,
// drover_pend_deadline, drover_park_wake; and, with queues, is there anything to claim: drover_pend_ready. Settings are few.
// Last, are there lines to be looked at: drover_arrival_pkey.
const sqlProbe = `
SELECT EXISTS (SELECT 1 FROM @session WHERE epoch = $1 AND NOT dead AND until > now()),
       EXISTS (SELECT 1 FROM @session WHERE NOT dead AND until <= now()),
       EXISTS (SELECT 1 FROM @session WHERE dead AND NOT swept),
       EXISTS (SELECT 1 FROM (SELECT id FROM @extra WHERE cancel_open ORDER BY id OFFSET 0) x WHERE (SELECT a.session FROM @active a WHERE a.id = x.id) = $1),
       least((SELECT run_at FROM @pend WHERE mode = 3 ORDER BY run_at LIMIT 1),
             (SELECT deadline FROM @pend WHERE deadline IS NOT NULL ORDER BY deadline LIMIT 1),
             (SELECT wake_at FROM @park WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1)),
       EXISTS (SELECT 1 FROM unnest($2::text[]) q(name) CROSS JOIN LATERAL (
         SELECT 1 FROM @pend WHERE queue = q.name AND mode < 2 AND (kind = ANY ($3::text[]) OR mode = 1) ORDER BY queue, priority, run_at, seq LIMIT 1) l
       WHERE NOT ` + halted + `q.name))),
       ARRAY(SELECT name FROM @setting ORDER BY name),
       (SELECT n FROM @arrival ORDER BY n LIMIT 1) IS NOT NULL,
       now()`

// sqlSeize takes the turn of free keys with rows that stand for no job; deleting them and handing on is then the same as
// for a finished job. For keys whose first in line is one that a claim does not reach.
const sqlSeize = `
INSERT INTO @active (id, seq, epoch, started, rev, runs, slot, key)
SELECT gen_random_uuid(), 0, 0, now(), 0, 0, 0, key FROM (SELECT DISTINCT unnest($1::text[]) AS key) k
CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM @active a WHERE a.key = k.key) AS held OFFSET 0) h WHERE NOT h.held ORDER BY key
ON CONFLICT (key, slot) WHERE key IS NOT NULL DO NOTHING RETURNING id::text, key`

const sqlUnseize = `DELETE FROM @active WHERE id = ANY ($1::uuid[])`
