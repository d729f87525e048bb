package postgres

import (
	"strings"

	"github.com/drover-cloud/drover/job"
)

// sqlEnd ends running jobs, fenced by (id, epoch), with drover_active_pkey. Rows are deleted in any order: a delete waits only for
// KEY SHARE locks, whose holders wait for nobody. $7: the key of which the job is believed to hold a turn, for sqlFinishAll.
const sqlEnd = `
WITH o AS MATERIALIZED (
  SELECT a.*, f.state, f.result, f.error, f.tries, f.turn
  FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::int[], $7::text[]) f(id, epoch, state, result, error, tries, turn) CROSS JOIN LATERAL (
    SELECT ctid AS t, * FROM @active WHERE @active.id = f.id AND @active.epoch = f.epoch AND @active.session IS NOT NULL OFFSET 0) a
), d AS (
  DELETE FROM @active WHERE ctid = ANY (ARRAY(SELECT t FROM o)) RETURNING id, seq, key, place, slot, flags
), n AS (
  INSERT INTO @done (seq, id, epoch, session, place, started, ended, rev, runs, state, flags, attempt, lost, run_at, result, error)
  SELECT seq, id, epoch, session, place, started, now(), rev + 1, runs, state, flags, coalesce(tries, attempt), lost, run_at, result, error
  FROM o WHERE (id IN (SELECT id FROM d)) IS TRUE
), u AS (
  DELETE FROM @ident WHERE id = ANY (ARRAY(SELECT id FROM d WHERE flags & 2097152 <> 0)) AND name LIKE 'u%'
), x AS (
  UPDATE @extra SET cancel_open = false WHERE (SELECT true FROM @extra WHERE cancel_open ORDER BY id LIMIT 1) AND cancel_open AND id = ANY (ARRAY(SELECT id FROM d))
)`

// sqlFinish answers a row per turn freed, with the holder's place and whether Go must hand it on; last the number of jobs ended,
// and whether one may have been joined.
const sqlFinish = sqlEnd + `
SELECT CASE WHEN flags & 8388608 <> 0 THEN concat(chr(30), seq, chr(30), id, chr(30), slot, chr(30), key) ELSE key END, coalesce(place, 0), split_part(key, chr(31), 1) = ` + special + ` FROM d WHERE key IS NOT NULL AND slot IS NOT NULL
UNION ALL
SELECT '', count(*), coalesce(bool_or(flags & 4194304 <> 0), false) FROM d`

// sqlFinishAll and sqlHandOnAll are for a pipe, whose COMMIT is on its way before anything is answered. Where more would have
// to be done they fail, on purpose, by a division by zero: if not all $8 jobs end; if one holds another turn than was believed, or
// one that sqlHandOn may not hand on; if somebody may have joined one, or is lent its turn; if the head of a line is locked. What d deletes is what o
// has read: a version changed in between has another ctid.
const sqlFinishAll = sqlEnd + `
SELECT CASE WHEN (SELECT count(*) FROM d) = $8::int AND bool_or(more) IS NOT TRUE THEN 1 ELSE 1 / (count(*) - count(*)) END
FROM (SELECT flags & 12582912 <> 0 OR turn IS DISTINCT FROM CASE WHEN slot IS NOT NULL THEN key END
        OR slot IS NOT NULL AND split_part(key, chr(31), 1) = ` + special + ` AS more FROM o) o`

var (
	sqlHandOnAll   = strings.Replace(sqlHandOn, `SELECT 3, '', '', 0,`, `SELECT 3, '', '', 1 / (length(key) - length(key)),`, 1)
	sqlHandOnRoomy = roomy(sqlHandOnAll)
)

// roomy is a hand-on for which every queue of $5 has room for all keys: nothing is sorted and numbered then.
func roomy(q string) string {
	fits := strings.Split(q, "/*fits*/")
	q = fits[0] + `queue = ANY ($5::text[]) AND cardinality($6::int[]) > 0` + fits[2]
	most := strings.Split(q, "/*most*/")
	return most[0] + most[2]
}

// sqlHandOn gives the keys $1, freed by an earlier statement of this transaction, to the first in line; its snapshot sees every
// line as it is now. Next jobs start at once for session $2, at most $3, of
// the kinds $4 and of each queue of $5 as many as $6 says; the others become ready. An arriving head that a claim has
// locked is left to that claim. Index: drover_pend_line.
//
// Answers: 1 what started, without the packed part if it has not run before · 2 what became ready · 3 a waiting head is locked by
// a cancel or a move: ask once more.
const sqlHandOn = `
WITH h AS MATERIALIZED (
  SELECT k.key, p.t, p.mode FROM unnest($1::text[]) k(key) CROSS JOIN LATERAL (
    SELECT ctid AS t, mode FROM @pend WHERE @pend.key = k.key AND mode IN (1, 2) ORDER BY @pend.key, place LIMIT 1) p
), n AS MATERIALIZED (
  SELECT x.* FROM h CROSS JOIN LATERAL (
    SELECT ctid AS t, * FROM @pend WHERE ctid = h.t AND mode IN (1, 2) FOR UPDATE SKIP LOCKED) x WHERE x.t = h.t
), me AS MATERIALIZED (
  SELECT 1 FROM @session WHERE epoch = $2 AND $3 > 0 AND NOT dead AND until > now()
    AND NOT EXISTS (SELECT 1 FROM @setting WHERE name = '` + job.Maintenance + `') FOR KEY SHARE
), e AS MATERIALIZED (
  SELECT *, (SELECT count(*) FROM me) > 0 AND kind = ANY ($4::text[]) AND NOT ('paused/' || queue) = ANY (ARRAY(SELECT name FROM @setting)) AND /*fits*/row_number() OVER (PARTITION BY queue, kind = ANY ($4::text[]) ORDER BY place) <=
    coalesce((SELECT q.free FROM unnest($5::text[], $6::int[]) q(name, free) WHERE q.name = n.queue), 0)/*fits*/ AS fits FROM n
), s AS MATERIALIZED (
  SELECT *, (SELECT nextval('@epoch')) AS e, fits/*most*/ AND row_number() OVER (PARTITION BY fits ORDER BY place) <= $3/*most*/ AS start FROM e
), a AS (
  INSERT INTO @active (id, seq, epoch, session, place, started, rev, runs, slot, key, flags, attempt, lost, run_at)
  SELECT id, seq, CASE WHEN start THEN e ELSE coalesce(epoch, 0) END, CASE WHEN start THEN $2::bigint END, place, now(),
         rev + CASE WHEN start THEN 2 ELSE 1 END, coalesce(runs, 0) + CASE WHEN start THEN 1 ELSE 0 END, 0, key, flags, attempt, lost, CASE WHEN runs > 0 THEN run_at END
  FROM s ORDER BY key
), g AS (
  UPDATE @pend SET mode = 0, back = false, rev = rev + 1, updated = now() WHERE ctid = ANY (ARRAY(SELECT t FROM s WHERE NOT start))
), x AS (
  DELETE FROM @pend WHERE ctid = ANY (ARRAY(SELECT t FROM s WHERE start))
)
SELECT 1, s.queue, s.id::text, s.e, s.seq, s.place, s.run_at, s.priority, s.kind, s.key, s.packed, now(), j.*
FROM (SELECT id, e, seq, place, run_at, priority, kind, key, queue, start, CASE WHEN rev > 1 OR flags IS NOT NULL THEN concat_ws(',', rev + 1, coalesce(attempt, 0), coalesce(runs, 0), coalesce(lost, 0), coalesce(flags, 0)) END AS packed FROM s) s
CROSS JOIN LATERAL (SELECT ` + jobColumns + ` FROM @job j WHERE j.id = s.id OFFSET 0) j WHERE s.start
UNION ALL
SELECT 2, queue, id::text, 0, seq, place, run_at, priority, kind, key, NULL, now(), now(), 0, 0, 0, '', NULL, NULL, NULL FROM s WHERE NOT start
UNION ALL
SELECT 3, '', '', 0, 0, 0, now(), 0, '', key, NULL, now(), now(), 0, 0, 0, '', NULL, NULL, NULL FROM h WHERE mode = 2 AND (key IN (SELECT key FROM s)) IS NOT TRUE`
