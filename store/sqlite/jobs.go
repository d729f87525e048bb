package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Jobs keeps jobs, their lines and their turns; it is a job.Turner and a job.Finisher too.
func (s *Store) Jobs() job.Store { return jobs{s} }

// Queues looks at lines and steers them.
func (s *Store) Queues() syncqueue.Store { return queues{s} }

type jobs struct{ s *Store }

var (
	_ job.Turner   = jobs{}
	_ job.Finisher = jobs{}
	_ job.DB       = (*Store)(nil)
)

// Turns are the store's Queues.
func (j jobs) Turns() syncqueue.Store { return j.s.Queues() }

// Insert adds rows; see job.Store.
func (j jobs) Insert(ctx context.Context, x store.Tx, rows []job.Row) ([]job.Row, error) {
	t, err := j.s.of(x)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	for _, r := range rows {
		if r.ID == "" || r.Queue == "" {
			return nil, errors.New("sqlite: a job needs an id and a queue")
		}
		if r.ParentEpoch == 0 {
			continue
		}
		ok, err := t.has(ctx, `SELECT 1 FROM drover_job WHERE id = ? AND state = 'running' AND epoch = ?`, r.Parent, r.ParentEpoch)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%w: parent %s is not running at epoch %d", store.ErrConflict, r.Parent, r.ParentEpoch)
		}
	}
	seq, err := t.nextSeqs(ctx, len(rows))
	if err != nil {
		return nil, err
	}
	out := make([]job.Row, len(rows))
	met := 0
	for i, r := range rows {
		r.Seq = seq + int64(i-met)
		if out[i], err = t.insert(ctx, r); err != nil {
			return nil, err
		}
		if out[i].Met != "" {
			met++
		}
	}
	if met > 0 { // nobody has seen their numbers
		_, err = t.nextSeqs(ctx, -met)
	}
	return out, err
}

// insert answers the row as stored, or the one that it met.
func (t *tx) insert(ctx context.Context, r job.Row) (job.Row, error) {
	steps := r.Steps
	r.RunAt, r.Deadline, r.RunUntil = cut(r.RunAt), cut(r.Deadline), cut(r.RunUntil)
	if r.RunAt.IsZero() {
		r.RunAt = t.now
	}
	r.Created, r.Updated, r.Rev, r.Epoch, r.Place, r.Turn, r.Met, r.Steps = t.now, t.now, 1, 0, 0, false, "", nil
	need := false
	var err error
	if r.Lender, err = t.lenderOf(ctx, r.Lender, r.Sync); err != nil {
		return r, err
	}
	if need = r.Lender != ""; !need {
		if need, err = t.needsTurn(ctx, r.Sync); err != nil {
			return r, err
		}
	}
	switch {
	case r.RunAt.After(t.now):
		r.State = job.Scheduled
	case need:
		r.State, r.Place = job.Waiting, r.Seq*syncqueue.Gap
	default:
		r.State = job.Ready
	}
	n, err := t.insertRow(ctx, r)
	if err != nil {
		return r, err
	}
	if n == 0 {
		return t.met(ctx, r)
	}
	if err := t.insertParts(ctx, r); err != nil {
		return r, err
	}
	for _, s := range steps {
		if err := t.step(ctx, r.Seq, s); err != nil {
			return r, err
		}
	}
	if r.State != job.Scheduled {
		t.Hint(job.QueueTopic(r.Queue))
	}
	return r, nil
}

func (t *tx) insertRow(ctx context.Context, r job.Row) (int64, error) {
	progress, err := jsonOf(r.Progress, r.Progress == job.Progress{})
	if err != nil {
		return 0, err
	}
	var line, joined any
	switch {
	case r.Sync == syncqueue.Key{}:
	case r.State == job.Waiting:
		if line, joined = waits, t.now.UnixMicro(); r.Lender != "" {
			line = begs
		}
	default:
		line = aside
	}
	kind, id := keyOf(r.Sync)
	return t.exec(ctx, `INSERT INTO drover_job (seq, id, kind, queue, state, name, parent, root, retry_of, priority, attempt, max_attempts,
		key_kind, key_id, line, place, joined, resource, account, idem, uniq, print, depth, detached, lender, flags, timeout, run_at, deadline,
		created, updated, progress)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		r.Seq, r.ID, r.Kind, r.Queue, string(r.State), r.Name, r.Parent, r.Root, r.RetryOf, r.Priority, r.Attempt, r.MaxAttempts,
		kind, id, line, r.Place, joined, r.Resource, r.Account, r.Idem, r.Unique, r.Print, r.Depth, r.Detached, r.Lender, int64(r.Flags), int64(r.Timeout),
		us(r.RunAt), us(r.Deadline), us(r.Created), us(r.Updated), progress)
}

// insertParts stores what a job was given, and that somebody joined a line.
func (t *tx) insertParts(ctx context.Context, r job.Row) error {
	identity, err := jsonOf(r.Identity, r.Identity == nil)
	if err != nil {
		return err
	}
	if _, err := t.exec(ctx, `INSERT INTO drover_body (seq, args, identity) VALUES (?, ?, ?)`, r.Seq, raw(r.Args), identity); err != nil {
		return err
	}
	switch {
	case r.State != job.Waiting:
		return nil
	case r.Lender != "":
		gs, err := t.lend(ctx, []string{r.Lender})
		t.hintQueues(gs)
		return err
	}
	return t.arrive(ctx, r.Sync)
}

// met finds the stored row that kept r out, by the first field that does.
func (t *tx) met(ctx context.Context, r job.Row) (job.Row, error) {
	for _, f := range []struct {
		name, where string
		args        []any
	}{
		{"id", `WHERE j.id = ?`, []any{r.ID}},
		{"idem", `WHERE j.idem <> '' AND j.kind = ? AND j.account = ? AND j.idem = ?`, []any{r.Kind, r.Account, r.Idem}},
		{"unique", `WHERE j.uniq <> '' AND j.ended IS NULL AND j.kind = ? AND j.uniq = ?`, []any{r.Kind, r.Unique}},
		{"name", `WHERE j.name <> '' AND j.parent = ? AND j.name = ?`, []any{r.Parent, r.Name}},
	} {
		rows, err := t.rows(ctx, selectRow+f.where, f.args...)
		if err != nil {
			return r, err
		}
		if len(rows) > 0 {
			rows[0].Met = f.name
			return rows[0], nil
		}
	}
	return r, fmt.Errorf("sqlite: job %s met a row that is not there", r.ID)
}

// rows reads whole jobs.
func (t *tx) rows(ctx context.Context, query string, args ...any) (rs []job.Row, err error) {
	err = t.each(ctx, query, args, func(scan func(...any) error) error {
		r, err := scanRow(scan)
		rs = append(rs, r)
		return err
	})
	return rs, err
}

// alive checks that a session may act: store.ErrConflict if not.
func (t *tx) alive(ctx context.Context, s lease.Token) error {
	id, err := t.storeID(ctx)
	if err != nil {
		return err
	}
	var one int
	err = t.row(ctx, `SELECT 1 FROM drover_session WHERE epoch = ? AND store = ? AND state <> 'dead' AND until > ?`,
		[]any{s.Epoch, id, t.now.UnixMicro()}, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: session %s (epoch %d) is over", store.ErrConflict, s.Node, s.Epoch)
	}
	return err
}
