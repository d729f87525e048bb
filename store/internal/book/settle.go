package book

import (
	"fmt"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// Pair is the part of the book that a settlement may change.
type Pair struct {
	Move tracker.Row     // the row with the settlement's ID
	To   tracker.Record  // its host
	From *tracker.Record // the host it comes from; nil: the same, or removed
	Rows []tracker.Row   // the workload's other counted rows on both hosts
}

// settling is a settlement under way.
type settling struct {
	tracker.Settlement
	Pair
	to, from *Outcome // the same for a resize
	err      error
}

// Settle applies the obligations of tracker.Store.Settle; the outcomes are in the order of their records' hosts, To's Row is the
// answer.
func (p Pair) Settle(s tracker.Settlement, now time.Time) (to, from *Outcome, err error) {
	if p.Move.From == "" {
		return nil, nil, fmt.Errorf("%w: %s is no move", tracker.ErrMismatch, s.ID)
	}
	x := &settling{Settlement: s, Pair: p, to: &Outcome{Record: p.To, Row: p.Move}}
	x.from = x.to
	if p.Move.From != p.Move.Host {
		x.from = &Outcome{}
		if p.From != nil {
			x.from.Record = *p.From
		}
	}
	switch {
	case p.Move.Role == tracker.Incoming && s.End == tracker.Reverted:
		x.change(x.to, p.Move, tracker.Incoming, tracker.Gone)
	case p.Move.Role == tracker.Incoming:
		x.confirm(now)
	case s.End == tracker.Reverted:
		x.back()
	case s.End == tracker.Confirmed:
		x.forget()
	case s.Epoch != 0 && s.Epoch < p.Move.Epoch:
		x.err = stale(p.Move, s.Epoch)
	}
	if x.err != nil {
		return nil, nil, x.err
	}
	for _, o := range []*Outcome{x.to, x.from} {
		if len(o.Rows) > 0 && !o.Changed {
			o.turn()
		}
	}
	if x.from == x.to {
		x.from = nil
	}
	return x.to, x.from, nil
}

// change writes a row in another role and state.
func (x *settling) change(o *Outcome, r tracker.Row, role tracker.Role, state tracker.State) {
	if x.Epoch != 0 && x.Epoch < r.Epoch {
		x.err = stale(r, x.Epoch)
	}
	o.count(r, -1)
	r.Role, r.State, r.Epoch = role, state, max(r.Epoch, x.Epoch)
	o.count(r, 1)
	o.Rows = append(o.Rows, r)
	if r.ID == x.Move.ID {
		o.Row = r
	}
}

// on gives the outcome that r belongs to.
func (x *settling) on(r tracker.Row) *Outcome {
	if r.Host == x.Move.Host {
		return x.to
	}
	return x.from
}

func (x *settling) confirm(now time.Time) {
	if x.Move.State == tracker.Expired || x.Move.Over(now) {
		x.err = expired(x.Move)
		return
	}
	for _, r := range x.Rows {
		switch {
		case r.Role == tracker.Incoming: // another move's
		case r.Role == tracker.Current && r.Host == x.Move.From && x.End == tracker.Kept:
			x.change(x.on(r), r, tracker.Outgoing, tracker.Committed)
		default:
			x.change(x.on(r), r, r.Role, tracker.Gone)
		}
	}
	x.change(x.to, x.Move, tracker.Current, tracker.Committed)
}

// back takes a move that was made back.
func (x *settling) back() {
	for _, r := range x.Rows {
		if r.Role == tracker.Outgoing && r.Host == x.Move.From {
			x.change(x.to, x.Move, tracker.Current, tracker.Gone)
			x.change(x.from, r, tracker.Current, tracker.Committed)
			return
		}
	}
	x.err = fmt.Errorf("%w: no way back of %s", tracker.ErrNotFound, x.ID)
}

// forget gives the way back up.
func (x *settling) forget() {
	if x.Epoch != 0 && x.Epoch < x.Move.Epoch {
		x.err = stale(x.Move, x.Epoch)
		return
	}
	for _, r := range x.Rows {
		if r.Role == tracker.Outgoing && r.Host == x.Move.From {
			x.change(x.on(r), r, r.Role, tracker.Gone)
		}
	}
}
