package job

import (
	"context"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/store"
)

// outcomes is what a transaction has made final.
type outcomes struct {
	ended []string         // all
	bad   []*CancelRequest // by index of ended: not nil, its live children are cancelled so
}

func (o *outcomes) add(id string, to State, why *Error) {
	var c *CancelRequest
	switch reason := ""; to {
	case Failed:
		if why != nil {
			reason = ": " + why.Text
		}
		c = &CancelRequest{By: JobTopic(id), Reason: cut("its parent failed"+reason, maxReason)}
	case Cancelled: // for the same reason
		if why != nil {
			reason = strings.TrimPrefix(strings.TrimPrefix(why.Text, ErrCancelled.Error()), ": ")
		}
		c = &CancelRequest{By: JobTopic(id), Reason: cut(reason, maxReason)}
	}
	o.ended, o.bad = append(o.ended, id), append(o.bad, c)
}

// after does what the end of jobs brings with it, in the transaction that ends them: who has joined them may wake, the
// children of those that failed or were cancelled are cancelled. awaited is false if nobody has joined them for sure.
func (m *Manager) after(ctx context.Context, tx store.Tx, o *outcomes, awaited bool) error {
	for len(o.ended) > 0 {
		next := &outcomes{}
		if awaited {
			got, err := m.store.Signal(ctx, tx, Signal{Ended: o.ended})
			if err != nil {
				return err
			}
			if err := m.wakeRows(ctx, tx, got.Rows, next); err != nil {
				return err
			}
		}
		if err := m.orphaned(ctx, tx, o, next); err != nil {
			return err
		}
		o, awaited = next, true
	}
	return nil
}

// orphaned cancels the live descendants of jobs that failed or were cancelled.
func (m *Manager) orphaned(ctx context.Context, tx store.Tx, o, next *outcomes) error {
	var parents []string
	why := map[string]*CancelRequest{}
	for i, id := range o.ended {
		if o.bad[i] != nil {
			parents = append(parents, id)
			why[id] = o.bad[i]
		}
	}
	if len(parents) == 0 {
		return nil
	}
	for len(parents) > 0 {
		slices.Sort(parents)
		found, err := m.store.List(ctx, tx, Find{Parents: parents, Limit: maxChildren * len(parents)})
		if err != nil {
			return err
		}
		took, err := m.cancelRows(ctx, tx, found.Rows, func(r *Row) CancelRequest { return *why[r.Parent] }, next)
		if err != nil {
			return err
		}
		parents = parents[:0]
		for i := range took { // the request covers their children too
			parents = append(parents, took[i].ID)
			why[took[i].ID] = why[took[i].Parent]
		}
	}
	return nil
}

// ended is what the batch made final.
func (b *batch) ended() *outcomes {
	o := &outcomes{}
	for i, mv := range b.moves {
		if b.done[i] && mv.To.Final() {
			o.add(mv.ID, mv.To, mv.Error)
		}
	}
	return o
}

// announce hints and publishes what the batch changed.
func (m *Manager) announce(ctx context.Context, tx store.Tx, b *batch) error {
	var changed []string
	for i, mv := range b.moves {
		if b.done[i] {
			changed = append(changed, mv.ID)
			if mv.To.Final() {
				tx.Hint(JobTopic(mv.ID))
			}
		}
	}
	if err := m.after(ctx, tx, b.ended(), b.awaited); err != nil {
		return err
	}
	if err := m.publishIDs(ctx, tx, changed); err != nil {
		return err
	}
	return m.publishAll(ctx, tx, began, b.started)
}
