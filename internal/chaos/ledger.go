package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// schema of what the harness keeps beside drover's tables. history is written by triggers, whatever drover does: every row
// in which a job's epoch or outcome appears, with the time before the commit of whoever wrote it. Times are the server's.
const schema = `
CREATE TABLE chaos_started (run text PRIMARY KEY, job uuid NOT NULL, epoch bigint NOT NULL, worker text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON chaos_started (job);
CREATE TABLE chaos_ended   (run text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE chaos_effect  (job uuid NOT NULL, epoch bigint NOT NULL, at timestamptz NOT NULL DEFAULT now()); -- in the finishing transaction
CREATE TABLE chaos_refused (job uuid NOT NULL, epoch bigint NOT NULL, write text NOT NULL, worker text NOT NULL);
CREATE TABLE chaos_wish    (job uuid NOT NULL, wake bool NOT NULL); -- wake me; else: cancel me
CREATE TABLE chaos_frozen  (worker text PRIMARY KEY);
CREATE TABLE chaos_host    (n bigint PRIMARY KEY, job uuid NOT NULL); -- the host's own row beside a job
CREATE TABLE chaos_sent    (n bigint PRIMARY KEY, job uuid NOT NULL, feeder int NOT NULL, key text NOT NULL, lim int NOT NULL, mode text NOT NULL,
                            began bigint NOT NULL, acked bigint NOT NULL, hosted bool NOT NULL, kept bool NOT NULL);
CREATE TABLE chaos_history (job uuid NOT NULL, epoch bigint NOT NULL, what text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON chaos_history (job);

CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  CASE TG_TABLE_NAME
  WHEN 'drover_active' THEN INSERT INTO chaos_history SELECT id, epoch, 'claimed' FROM fresh WHERE session IS NOT NULL;
  WHEN 'drover_pend'   THEN INSERT INTO chaos_history SELECT id, epoch, 'back' FROM fresh WHERE epoch > 0;
  ELSE INSERT INTO chaos_history SELECT id, epoch, CASE TG_OP WHEN 'INSERT' THEN 'done' ELSE 'redone' END FROM fresh;
  END CASE;
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT ON drover_active REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos AFTER INSERT ON drover_pend   REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos AFTER INSERT ON drover_done   REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos2 AFTER UPDATE ON drover_done  REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION chaos_note();
`

// open counts the jobs that are not final: not running, and running.
const open = `SELECT (SELECT count(*) FROM drover_pend) + (SELECT count(*) FROM drover_active WHERE session IS NOT NULL)`

// ledger is a worker's own connection to its book.
type ledger struct {
	db      *sql.DB
	worker  string
	entries chan entry
}

// openLedger is one whose entries are written.
func openLedger(db *sql.DB, worker string) *ledger {
	l := &ledger{db, worker, make(chan entry, 1000)}
	go l.keep()
	return l
}

// write repeats a statement until it is written or ctx ends: a server that is away comes back.
func (l *ledger) write(ctx context.Context, q string, args ...any) error {
	return until(ctx, func() error {
		_, err := l.db.ExecContext(ctx, q, args...)
		return err
	})
}

// entry is a row that a run wants written: that it started, or, with job "", that it ended.
type entry struct {
	run, job string
	epoch    int64
	written  chan struct{}
}

// started notes a run of a job; run names it, so that a repeated write is one row, and a job started twice is two.
func (l *ledger) started(ctx context.Context, run, job string, epoch int64) error {
	return l.enter(ctx, entry{run, job, epoch, make(chan struct{})})
}

func (l *ledger) ended(run string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = l.enter(ctx, entry{run: run, written: make(chan struct{})})
}

func (l *ledger) enter(ctx context.Context, e entry) error {
	select {
	case l.entries <- e:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-e.written:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// keep writes entries, all that wait at once.
func (l *ledger) keep() {
	const q = `
WITH s AS (
  INSERT INTO chaos_started (run, job, epoch, worker) SELECT run, job, epoch, $4 FROM unnest($1::text[], $2::uuid[], $3::bigint[]) e (run, job, epoch) ON CONFLICT DO NOTHING)
INSERT INTO chaos_ended (run) SELECT unnest($5::text[]) ON CONFLICT DO NOTHING`
	for e := range l.entries {
		all := []entry{e}
		for more := true; more; {
			select {
			case e := <-l.entries:
				all = append(all, e)
			default:
				more = false
			}
		}
		runs, jobs, epochs, ended := []string{}, []string{}, []int64{}, []string{}
		for _, e := range all {
			if e.job == "" {
				ended = append(ended, e.run)
				continue
			}
			runs, jobs, epochs = append(runs, e.run), append(jobs, e.job), append(epochs, e.epoch)
		}
		_ = l.write(context.Background(), q, runs, jobs, epochs, l.worker, ended)
		for _, e := range all {
			close(e.written)
		}
	}
}

// frozenBefore tells whether an earlier run of the job sits in a worker that is frozen now.
func (l *ledger) frozenBefore(ctx context.Context, job string, epoch int64) (yes bool) {
	err := l.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM chaos_started JOIN chaos_frozen USING (worker) WHERE job = $1 AND epoch < $2)`, job, epoch).Scan(&yes)
	return err == nil && yes
}

// until repeats f, with pauses, until it succeeds or ctx ends.
func until(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
