// Package book holds the rules of tracker.Store as pure functions over a host's record and the rows concerned, so that every
// store applies the same ones. The caller holds the host's row lock, or runs alone.
package book

import (
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// Page is the part of the book that a claim may change.
type Page struct {
	Found  bool // the host
	Record tracker.Record
	ByID   *tracker.Row  // the row with the claim's ID
	Same   *tracker.Row  // the host's counted row of the same workload
	Over   []tracker.Row // the host's held rows with Expires before now
}

// Outcome is what to write: the record, if Changed, and the rows; a row in state Gone is to be deleted.
type Outcome struct {
	Changed bool
	Record  tracker.Record
	Rows    []tracker.Row
	Row     tracker.Row // the answer
}

// Put applies the obligations of tracker.Store.PutClaim.
func (p Page) Put(r tracker.Row, bound tracker.Amount, ttl time.Duration, now time.Time) (Outcome, error) {
	o := Outcome{Record: p.Record}
	if old := p.ByID; old != nil {
		switch {
		case r.Epoch < old.Epoch:
			return o, stale(*old, r.Epoch)
		case old.Host != r.Host || old.Workload != r.Workload || !old.Amount.Equal(r.Amount):
			return o, fmt.Errorf("%w: %s is %s on %s", tracker.ErrMismatch, old.ID, old.Workload, old.Host)
		case old.State == tracker.Committed || old.State == tracker.Held && !over(*old, now):
			o.Row = *old
			o.Row.Epoch = r.Epoch
			if r.Epoch > old.Epoch {
				o.Rows = append(o.Rows, o.Row)
			}
			return o, nil
		}
	}
	switch {
	case !p.Found:
		return o, fmt.Errorf("%w: host %s", tracker.ErrNotFound, r.Host)
	case !p.Record.Enabled:
		return o, fmt.Errorf("%w: %s: %s", tracker.ErrDisabled, r.Host, p.Record.Reason)
	}
	for _, old := range p.Over {
		if old.ID == r.ID || slices.Contains(p.Record.Seen, old.Workload) {
			continue
		}
		o.write(old, tracker.Expired)
	}
	if old := p.Same; old != nil && old.ID != r.ID && !expiredIn(o.Rows, old.ID) {
		if r.Epoch <= old.Epoch {
			return o, fmt.Errorf("%w: %s holds %s on %s", tracker.ErrMismatch, old.ID, old.Workload, old.Host)
		}
		o.write(*old, tracker.Gone)
	}
	if old := p.ByID; old != nil {
		o.count(*old, -1)
	}
	if rs := r.Amount.Over(o.Record.Used, bound); len(rs) > 0 {
		return Outcome{}, &tracker.NoRoom{Host: r.Host, Reasons: rs, Used: o.Record.Used}
	}
	r.State, r.Created, r.Expires = tracker.Held, now, now.Add(ttl)
	o.count(r, 1)
	o.Rows, o.Row = append(o.Rows, r), r
	o.turn()
	return o, nil
}

// Set applies the obligations of tracker.Store.SetClaim; row is the one that c names.
func Set(rec tracker.Record, row tracker.Row, c tracker.Change, now time.Time) (Outcome, error) {
	o := Outcome{Record: rec, Row: row}
	if c.Epoch != 0 && c.Epoch < row.Epoch {
		return o, stale(row, c.Epoch)
	}
	late := row.State == tracker.Held && over(row, now) && !c.Late
	if row.State != c.To || c.TTL > 0 {
		switch {
		case row.State == tracker.Expired && !slices.Contains(c.From, row.State), late:
			return o, fmt.Errorf("%w: %s at %s", tracker.ErrExpired, row.ID, row.Expires.Format(time.RFC3339))
		case !slices.Contains(c.From, row.State):
			return o, fmt.Errorf("%w: %s is %s", tracker.ErrMismatch, row.ID, row.State)
		}
	}
	next := row
	next.State, next.Epoch = c.To, max(row.Epoch, c.Epoch)
	if c.TTL > 0 {
		next.Expires = now.Add(c.TTL)
	}
	if next.State == row.State && next.Epoch == row.Epoch && next.Expires.Equal(row.Expires) {
		return o, nil
	}
	o.count(row, -1)
	o.count(next, 1)
	o.Rows, o.Row = append(o.Rows, next), next
	o.turn()
	return o, nil
}

func over(r tracker.Row, now time.Time) bool { return r.Expires.Before(now) }

func stale(r tracker.Row, epoch int64) error {
	return fmt.Errorf("%w: %d is below %d of %s", tracker.ErrStaleEpoch, epoch, r.Epoch, r.ID)
}

func expiredIn(rows []tracker.Row, id string) bool {
	return slices.ContainsFunc(rows, func(r tracker.Row) bool { return r.ID == id })
}

// write moves old to another state.
func (o *Outcome) write(old tracker.Row, to tracker.State) {
	o.count(old, -1)
	old.State = to
	o.Rows = append(o.Rows, old)
}

// count adds the row to the sums, or takes it away.
func (o *Outcome) count(r tracker.Row, sign int) {
	switch r.State {
	case tracker.Held:
		o.Record.InFlight += sign
	case tracker.Committed:
		o.Record.Running += sign
	default:
		return
	}
	if sign > 0 {
		o.Record.Used = o.Record.Used.Plus(r.Amount)
	} else {
		o.Record.Used = o.Record.Used.Minus(r.Amount)
	}
}

func (o *Outcome) turn() {
	o.Changed = true
	o.Record.Generation++
}
