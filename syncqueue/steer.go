package syncqueue

import (
	"context"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/store"
)

// Move puts the waiter with this Seq before another one of its key, or with before 0 to the end of the line. Before itself is
// a no-op. A holder gives [store.ErrConflict]; a seq or before that does not wait, or not for the same key,
// [store.ErrNotFound]. The journal of a moved job says so.
func (q *Queue) Move(ctx context.Context, seq, before int64) error {
	if before < 0 {
		return fmt.Errorf("%w: before is %d, must not be negative", ErrInvalid, before)
	}
	return q.move(ctx, Move{Seq: seq, Before: before})
}

// MoveFirst puts the waiter with this Seq at the head of its line: its key's next turn is its. Errors as of Move.
func (q *Queue) MoveFirst(ctx context.Context, seq int64) error {
	return q.move(ctx, Move{Seq: seq, First: true})
}

func (q *Queue) move(ctx context.Context, m Move) error {
	if m.Seq <= 0 {
		return fmt.Errorf("%w: seq is %d, must be positive", ErrInvalid, m.Seq)
	}
	m.Node = q.cfg.Env.Node
	var i Item
	err := q.in(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		i, err = q.cfg.Store.Move(ctx, tx, m)
		return err
	})
	if err == nil && m.Before != m.Seq {
		q.cfg.Env.Logger.InfoContext(ctx, "moved", "component", "syncqueue", "kind", i.Key.Kind, "id", i.Key.ID, "seq", i.Seq, "content", i.Content)
		q.meters.moved.Add(ctx, 1)
	}
	return err
}

// Pause stops the turns of a key: nobody gets one until Resume. Who holds one and has started goes on; who has not goes back
// to its place. It survives restarts. A key that is paused already stays so, and no error is given.
func (q *Queue) Pause(ctx context.Context, k Key) error { return q.pauseKey(ctx, k, true) }

// Resume ends Pause: free turns are granted before it returns. Not of a pause of the key's kind.
func (q *Queue) Resume(ctx context.Context, k Key) error { return q.pauseKey(ctx, k, false) }

// PauseKind is Pause of all keys of a kind, those to come included.
func (q *Queue) PauseKind(ctx context.Context, kind string) error {
	return q.pauseKind(ctx, kind, true)
}

// ResumeKind ends PauseKind. Keys that are paused themselves stay so.
func (q *Queue) ResumeKind(ctx context.Context, kind string) error {
	return q.pauseKind(ctx, kind, false)
}

func (q *Queue) pauseKey(ctx context.Context, k Key, on bool) error {
	if err := checkKey(k); err != nil {
		return err
	}
	return q.pause(ctx, k, on)
}

func (q *Queue) pauseKind(ctx context.Context, kind string, on bool) error {
	if err := checkPolicy(kind, 1); err != nil {
		return err
	}
	return q.pause(ctx, Key{Kind: kind}, on)
}

func (q *Queue) pause(ctx context.Context, k Key, on bool) error {
	changed := false
	err := q.change(ctx, k, func(p *Policy) { changed, p.Paused = p.Paused != on, on })
	if err != nil || !changed {
		return err
	}
	what, n := "resumed", int64(-1)
	if on {
		what, n = "paused", 1
	}
	q.cfg.Env.Logger.InfoContext(ctx, what, "component", "syncqueue", "kind", k.Kind, "id", k.ID)
	q.meters.paused.Add(ctx, n)
	return nil
}

// change rewrites the stored policy of a key or a kind.
func (q *Queue) change(ctx context.Context, k Key, f func(p *Policy)) error {
	return q.in(ctx, func(ctx context.Context, tx store.Tx) error {
		rows, err := q.cfg.Store.Policy(ctx, tx, nil)
		if err != nil {
			return err
		}
		row := PolicyRow{Kind: k.Kind, ID: k.ID, Policy: Policy{Limit: Inherit}}
		if i := slices.IndexFunc(rows, func(r PolicyRow) bool { return r.Kind == k.Kind && r.ID == k.ID }); i >= 0 {
			row = rows[i]
		}
		was := row.Policy
		if f(&row.Policy); row.Policy == was {
			return nil
		}
		_, err = q.cfg.Store.Policy(ctx, tx, []PolicyRow{row})
		return err
	})
}

// checkKey refuses what is no key, the zero Key too.
func checkKey(k Key) error {
	if k.ID == "" && k.Kind != "" {
		return fmt.Errorf("%w: key: id is empty", ErrInvalid)
	}
	if k.Kind == "" {
		return fmt.Errorf("%w: key: kind is empty", ErrInvalid)
	}
	return k.Validate()
}
