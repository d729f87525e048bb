package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"os"
)

// operation is a line of the history that internal/linear judges. Times are microseconds; a commit was after Call, and before
// Return, which is 0 where nobody saw it.
type operation struct {
	What   string `json:"what"`
	Job    string `json:"job"`
	Key    string `json:"key,omitempty"`
	Limit  int    `json:"limit,omitempty"`
	Epoch  int64  `json:"epoch,omitempty"`
	Call   int64  `json:"call"`
	Return int64  `json:"return,omitempty"`
	Batch  string `json:"batch,omitempty"`
}

// sqlOperations: submissions by the feeders' own clock, which is the server's, from $1 on; claims, from when their transaction
// wrote to when their handler had written that it began; writes from the begin of their transaction; ends; and what is stored.
const sqlOperations = `
WITH us AS (
  SELECT job, epoch, what, (extract(epoch FROM at) * 1e6)::bigint AS at FROM chaos_history
), o AS (
  SELECT 'submit' AS what, job, 0::bigint AS epoch, $1::bigint + began / 1000 AS call, $1::bigint + acked / 1000 + 1 AS return, feeder || '/' || began AS batch, n FROM chaos_sent WHERE kept
  UNION ALL
  SELECT 'claim', job, epoch, at, coalesce((SELECT (extract(epoch FROM min(t.at)) * 1e6)::bigint FROM chaos_started t WHERE t.job = us.job AND t.epoch = us.epoch), 0), '', 0 FROM us WHERE what = 'claimed'
  UNION ALL
  SELECT 'done', job, epoch, at, 0, '', 0 FROM us WHERE what IN ('done', 'redone')
  UNION ALL
  SELECT 'write', w.job, w.epoch, (extract(epoch FROM w.at) * 1e6)::bigint, 0, '', 0
  FROM (SELECT id AS job, epoch, at FROM drover_journal WHERE text = 'chaos' UNION ALL SELECT id, epoch, at FROM drover_step UNION ALL SELECT job, epoch, at FROM chaos_effect) w
  UNION ALL
  SELECT 'read', id, CASE WHEN state = 5 THEN coalesce((coalesce(d.result, x.result)::json->>'epoch')::bigint, -1) ELSE 0 END, $2::bigint, $2::bigint, '', 0
  FROM drover_done d LEFT JOIN drover_extra x USING (id)
)
SELECT o.what, o.job::text, s.key, s.lim, o.epoch, o.call, o.return, o.batch FROM o JOIN chaos_sent s ON s.job = o.job AND s.kept ORDER BY o.call, o.n`

// writeHistory writes one line per operation to the file.
func (h *harness) writeHistory(ctx context.Context, c *sql.Conn, path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	const end = 1 << 60 // after everything
	rows, err := c.QueryContext(ctx, sqlOperations, h.began.UnixMicro(), int64(end))
	if err != nil {
		return err
	}
	defer rows.Close()
	w := bufio.NewWriter(f)
	for e := json.NewEncoder(w); rows.Next(); {
		var o operation
		if err := rows.Scan(&o.What, &o.Job, &o.Key, &o.Limit, &o.Epoch, &o.Call, &o.Return, &o.Batch); err != nil {
			return err
		}
		if err := e.Encode(o); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return w.Flush()
}
