package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// errBusy runs a transaction again: a row that it must hold is held by another, for which it must not wait while it holds more.
var errBusy = errors.New("postgres: a job is being moved")

const (
	// Rows of live jobs, held against moves and, running, against their end. Nobody waits here: who ends a batch of jobs
	// deletes their rows in any order.
	sqlGripPend = `SELECT id::text FROM @pend WHERE ` + underRegime + ` AND seq = ANY (ARRAY(SELECT seq FROM @job WHERE id = ANY ($1::uuid[])))
ORDER BY seq FOR UPDATE SKIP LOCKED`
	sqlGripActive = `SELECT id::text FROM @active WHERE ` + underRegime + ` AND id = ANY ($1::uuid[]) AND session IS NOT NULL
ORDER BY id FOR NO KEY UPDATE SKIP LOCKED`
	sqlNotFinal = `SELECT count(*) FROM @job j WHERE j.id = ANY ($1::uuid[]) AND NOT EXISTS (SELECT 1 FROM @done d WHERE d.seq = j.seq)`
)

// grip holds those of all that are live, and answers them by where they are.
func (t *tx) grip(ctx context.Context, all []string) (pend, active []string, err error) {
	all = ids(all)
	if len(all) == 0 {
		return nil, nil, nil
	}
	held := map[string]bool{}
	for _, part := range []struct {
		q    string
		into *[]string
	}{{sqlGripPend, &pend}, {sqlGripActive, &active}} {
		err := t.query(ctx, part.q, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			*part.into, held[id] = append(*part.into, id), true
			return err
		}, all)
		if err != nil {
			return nil, nil, err
		}
	}
	var rest []string
	for _, id := range all {
		if !held[id] {
			rest = append(rest, id)
		}
	}
	busy := 0
	if len(rest) > 0 {
		err = t.query(ctx, sqlNotFinal, func(scan func(...any) error) error { return scan(&busy) }, rest)
	}
	if err == nil && busy > 0 {
		err = errBusy
	}
	return pend, active, err
}

// Signal holds the jobs that it answers: those that joined others by waiting for their rows, as who ends jobs is the last to
// take them; others only if nobody else holds them.
func (j jobs) Signal(ctx context.Context, x store.Tx, s job.Signal) (out job.Signalled, err error) {
	t, err := j.s.of(x)
	if err != nil {
		return out, err
	}
	id, own := strings.CutPrefix(s.Topic, "job/")
	var all []*loaded
	switch {
	case s.Topic == "":
		all, err = t.ended(ctx, s.Ended)
	case own:
		all, err = t.signalOne(ctx, id, &s, &out)
	default:
		all, err = t.signalTopic(ctx, &s, &out)
	}
	if err == nil {
		out.Rows, err = t.withWaits(ctx, all)
	}
	if err != nil {
		return job.Signalled{}, fmt.Errorf("postgres: signal: %w", err)
	}
	return out, nil
}

const (
	sqlJoiners = `SELECT DISTINCT waiter::text, seq FROM @join WHERE target = ANY ($1::uuid[]) ORDER BY seq`
	sqlEnded   = `DELETE FROM @join WHERE target = ANY ($1::uuid[])`
)

// ended takes jobs out of all joins. Their rows are gone or locked by now, so that no join is added meanwhile.
func (t *tx) ended(ctx context.Context, targets []string) ([]*loaded, error) {
	var waiters []string
	err := t.query(ctx, sqlJoiners, func(scan func(...any) error) error {
		var id string
		var seq int64
		err := scan(&id, &seq)
		waiters = append(waiters, id)
		return err
	}, ids(targets))
	if err != nil || len(waiters) == 0 {
		return nil, err
	}
	if err := t.query(ctx, sqlLockPend, nothing, waiters); err != nil {
		return nil, err
	}
	if _, err := t.exec(ctx, sqlEnded, ids(targets)); err != nil {
		return nil, err
	}
	return t.parkedOf(ctx, waiters)
}

func (t *tx) parkedOf(ctx context.Context, all []string) (rows []*loaded, err error) {
	found, err := t.load(ctx, all)
	for _, l := range found {
		if l.State == job.Parked {
			rows = append(rows, l)
		}
	}
	return rows, err
}

func (t *tx) signalOne(ctx context.Context, id string, s *job.Signal, out *job.Signalled) ([]*loaded, error) {
	pend, active, err := t.grip(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if len(pend)+len(active) > 0 {
		same, n := false, 0
		err := t.query(ctx, `SELECT coalesce(bool_or(topic = $2 AND payload IS NOT DISTINCT FROM $3), false), count(*) FROM @inbox WHERE id = $1::uuid`,
			func(scan func(...any) error) error { return scan(&same, &n) }, id, s.Topic, s.Payload)
		if err != nil {
			return nil, err
		}
		if out.Full = !same && n >= job.MaxInbox; !out.Full {
			out.Reached = 1
			if err := t.tell(ctx, []string{id}, s); err != nil {
				return nil, err
			}
		}
	}
	return t.load(ctx, []string{id})
}

const (
	// Index: drover_topic_pkey.
	sqlSubscribers = `SELECT p.seq, p.id::text FROM @topic p WHERE p.topic = $1 AND p.seq > $2 AND NOT EXISTS (SELECT 1 FROM @done d WHERE d.seq = p.seq)
ORDER BY p.topic, p.seq LIMIT $3`
	sqlTell = `INSERT INTO @inbox (id, topic, payload) SELECT u.id, $2, $3::bytea FROM unnest($1::uuid[]) u(id)
WHERE (SELECT count(*) FILTER (WHERE topic = $2 AND payload IS NOT DISTINCT FROM $3::bytea) = 0 AND count(*) < $4::int FROM @inbox i WHERE i.id = u.id)`
)

func (t *tx) signalTopic(ctx context.Context, s *job.Signal, out *job.Signalled) ([]*loaded, error) {
	limit := s.Limit
	if limit <= 0 {
		limit = 500
	}
	var all []string
	var seqs []int64
	err := t.query(ctx, sqlSubscribers, func(scan func(...any) error) error {
		var id string
		var seq int64
		err := scan(&seq, &id)
		all, seqs = append(all, id), append(seqs, seq)
		return err
	}, s.Topic, s.After, limit+1)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if len(all) > limit {
		all, out.Next = all[:limit], seqs[limit-1]
	}
	pend, active, err := t.grip(ctx, all)
	if err != nil {
		return nil, err
	}
	live, err := t.still(ctx, s.Topic, append(pend, active...))
	if err != nil {
		return nil, err
	}
	out.Reached = len(live)
	if err := t.tell(ctx, live, s); err != nil {
		return nil, err
	}
	return t.parkedOf(ctx, live)
}

// still are those that subscribe to topic now that they are held: another signal may have been first.
func (t *tx) still(ctx context.Context, topic string, held []string) (live []string, err error) {
	err = t.query(ctx, `SELECT id::text FROM @topic WHERE topic = $1 AND id = ANY ($2::uuid[]) ORDER BY seq`, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		live = append(live, id)
		return err
	}, topic, held)
	return live, err
}

// tell puts a signal in inboxes that have room for it and not it already.
func (t *tx) tell(ctx context.Context, all []string, s *job.Signal) error {
	if len(all) == 0 {
		return nil
	}
	_, err := t.exec(ctx, sqlTell, all, s.Topic, s.Payload, job.MaxInbox)
	return err
}
