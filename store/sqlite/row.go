package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// LIMIT ? is written LIMIT ?+0 in this package: SQLite compiles a statement anew whenever a LIMIT that is a bare parameter is bound.

// selectRow reads whole jobs; conditions and order follow. The order of columns is scanRow's.
const selectRow = `SELECT j.seq, j.id, j.kind, j.queue, j.state, j.name, j.parent, j.root, j.retry_of, j.rev, j.priority, j.attempt,
	j.max_attempts, j.runs, j.lost, j.epoch, j.session, j.session_epoch, j.key_kind, j.key_id, j.line, j.place, j.resource, j.account,
	j.idem, j.uniq, j.print, j.depth, j.detached, j.lender, j.flags, j.timeout, j.run_at, j.run_until, j.deadline, j.created, j.started, j.ended,
	j.updated, j.cancel_at, j.cancel_by, j.cancel_reason, j.progress, j.wakes, j.error, j.result, b.args, b.identity
	FROM drover_job j JOIN drover_body b ON b.seq = j.seq `

// Values of line.
const (
	waits = 0
	holds = 1
	aside = 2 // keyed and live, but neither in line nor holding

	begs    = 4 // waits for the turn of its lender
	borrows = 5 // has it
)

func scanRow(scan func(...any) error) (r job.Row, err error) {
	var (
		keyKind, keyID, progress, wakes, fail, identity sql.NullString
		line, runAt, runUntil, deadline, created        sql.NullInt64
		started, ended, updated, cancelAt               sql.NullInt64
		result, args                                    []byte
	)
	err = scan(&r.Seq, &r.ID, &r.Kind, &r.Queue, &r.State, &r.Name, &r.Parent, &r.Root, &r.RetryOf, &r.Rev, &r.Priority, &r.Attempt,
		&r.MaxAttempts, &r.Runs, &r.Lost, &r.Epoch, &r.Session, &r.SessionEpoch, &keyKind, &keyID, &line, &r.Place, &r.Resource, &r.Account,
		&r.Idem, &r.Unique, &r.Print, &r.Depth, &r.Detached, &r.Lender, &r.Flags, &r.Timeout, &runAt, &runUntil, &deadline, &created, &started, &ended,
		&updated, &cancelAt, &r.CancelBy, &r.CancelReason, &progress, &wakes, &fail, &result, &args, &identity)
	if err != nil {
		return r, fmt.Errorf("sqlite: %w", err)
	}
	r.Sync = syncqueue.Key{Kind: keyKind.String, ID: keyID.String}
	r.Turn = line.Valid && (line.Int64 == holds || line.Int64 == borrows)
	r.RunAt, r.RunUntil, r.Deadline, r.Created = fromUS(runAt), fromUS(runUntil), fromUS(deadline), fromUS(created)
	r.Started, r.Ended, r.Updated, r.CancelAt = fromUS(started), fromUS(ended), fromUS(updated), fromUS(cancelAt)
	r.Args, r.Result = args, result
	for _, f := range []struct {
		text sql.NullString
		dest any
	}{{progress, &r.Progress}, {wakes, &r.Wakes}, {fail, &r.Error}, {identity, &r.Identity}} {
		if f.text.Valid {
			if err := json.Unmarshal([]byte(f.text.String), f.dest); err != nil {
				return r, fmt.Errorf("sqlite: job %s: stored JSON: %w", r.ID, err)
			}
		}
	}
	return r, nil
}

// jsonOf is what a column holds for v: NULL if zero.
func jsonOf[T any](v T, zero bool) (any, error) {
	if zero {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return string(b), nil
}

// raw is what a column holds for bytes: NULL for nil.
func raw(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// cut is an instant as it is stored.
func cut(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// keyOf is what the columns key_kind and key_id hold.
func keyOf(k syncqueue.Key) (kind, id any) {
	if k == (syncqueue.Key{}) {
		return nil, nil
	}
	return k.Kind, k.ID
}
