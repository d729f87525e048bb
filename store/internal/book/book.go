// Package book holds the rules of tracker.Store as pure functions over a host's record and the rows concerned, so that every
// store applies the same ones. The caller holds the host's row lock, or runs alone.
package book

import (
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
)

// Page is the part of the book that a claim may change.
type Page struct {
	Found  bool // the host
	Record tracker.Record
	ByID   *tracker.Row  // the row with the claim's ID
	Same   *tracker.Row  // the host's counted row of the same workload and role
	Over   []tracker.Row // the host's held rows with Expires before now
	Others []tracker.Row // the host's counted rows with devices, if any are wanted
}

// Outcome is what to write: the record, if Changed, and the rows, in their order; a row in state Gone is to be deleted.
type Outcome struct {
	Changed bool
	Record  tracker.Record
	Rows    []tracker.Row
	Row     tracker.Row // the answer
}

// Put applies the obligations of tracker.Store.PutClaim.
func (p Page) Put(c tracker.Put, now time.Time) (Outcome, error) {
	o, r := Outcome{Record: p.Record}, c.Row
	if old := p.ByID; old != nil {
		switch {
		case r.Epoch < old.Epoch:
			return o, stale(*old, r.Epoch)
		case !equal(*old, c):
			return o, fmt.Errorf("%w: %s is %s on %s", tracker.ErrMismatch, old.ID, old.Workload, old.Host)
		case old.State == tracker.Committed || old.State == tracker.Held && !old.Over(now):
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
		if old.ID != r.ID && !slices.Contains(p.Record.Seen, old.Workload) {
			o.write(old, tracker.Expired)
		}
	}
	if old := p.Same; old != nil && old.ID != r.ID && !o.has(old.ID) {
		if r.Epoch <= old.Epoch {
			return o, fmt.Errorf("%w: %s holds %s on %s", tracker.ErrMismatch, old.ID, old.Workload, old.Host)
		}
		o.write(*old, tracker.Gone)
	}
	if old := p.ByID; old != nil {
		o.count(*old, -1)
	}
	if n, wraps := o.Record.Used.Wraps(r.Amount); wraps {
		return Outcome{}, &tracker.FieldError{Field: "Amount", Reason: n + ": the host's sum is too large"}
	}
	rs := r.Amount.Over(o.Record.Used, c.Bound)
	devices, short := p.choose(c, o)
	if rs = append(rs, short...); len(rs) > 0 {
		return Outcome{}, &tracker.NoRoom{Host: r.Host, Reasons: rs, Used: o.Record.Used}
	}
	r.State, r.Created, r.Expires, r.Devices = tracker.Held, now, now.Add(c.TTL), devices
	o.count(r, 1)
	o.Rows, o.Row = append(o.Rows, r), r
	o.turn()
	return o, nil
}

// equal says whether c is the claim that made old.
func equal(old tracker.Row, c tracker.Put) bool {
	r := c.Row
	if old.Host != r.Host || old.Workload != r.Workload || old.From != r.From || !old.Amount.Equal(r.Amount) {
		return false
	}
	for pool, n := range c.Devices {
		if len(old.Devices[pool]) != n {
			return false
		}
	}
	for pool, ids := range old.Devices {
		if c.Devices[pool] != len(ids) {
			return false
		}
	}
	return true
}

// choose takes the lowest free devices of each pool; what o takes away is free.
func (p Page) choose(c tracker.Put, o Outcome) (got map[string][]string, short []tracker.Reason) {
	pools := make([]string, 0, len(c.Devices))
	for pool, n := range c.Devices {
		if n > 0 {
			pools = append(pools, pool)
		}
	}
	slices.Sort(pools)
	for _, pool := range pools {
		var free []string
		for _, id := range slices.Sorted(slices.Values(p.Record.Devices[pool])) {
			if !p.taken(pool, id, c.Row.ID, o) {
				free = append(free, id)
			}
		}
		if n := c.Devices[pool]; len(free) < n {
			short = append(short, tracker.Reason{Resource: "device " + pool, Free: int64(len(free)), Requested: int64(n)})
			continue
		}
		if got == nil {
			got = map[string][]string{}
		}
		got[pool] = free[:c.Devices[pool]]
	}
	return got, short
}

func (p Page) taken(pool, device, claim string, o Outcome) bool {
	return slices.ContainsFunc(p.Others, func(r tracker.Row) bool {
		return r.ID != claim && r.Counted() && !o.has(r.ID) && slices.Contains(r.Devices[pool], device)
	})
}

// Set applies the obligations of tracker.Store.SetClaim; rows are those that c names, at least one.
func Set(rec tracker.Record, rows []tracker.Row, c tracker.Change, now time.Time) (Outcome, error) {
	o := Outcome{Record: rec}
	if c.Generation != 0 && c.Generation != rec.Generation {
		return o, store.ErrConflict
	}
	for _, row := range rows {
		if err := o.set(row, c, now); err != nil {
			return Outcome{}, err
		}
	}
	if len(o.Rows) > 0 {
		o.turn()
	}
	return o, nil
}

func (o *Outcome) set(row tracker.Row, c tracker.Change, now time.Time) error {
	o.Row = row
	if c.Epoch != 0 && c.Epoch < row.Epoch {
		return stale(row, c.Epoch)
	}
	if row.State != c.To || c.TTL > 0 {
		switch {
		case row.State == tracker.Expired && !slices.Contains(c.From, row.State), row.Over(now) && !c.Late:
			return expired(row)
		case !slices.Contains(c.From, row.State):
			return fmt.Errorf("%w: %s is %s", tracker.ErrMismatch, row.ID, row.State)
		}
	}
	next := row
	next.State, next.Epoch = c.To, max(row.Epoch, c.Epoch)
	if c.TTL > 0 {
		next.Expires = now.Add(c.TTL)
	}
	if next.State == row.State && next.Epoch == row.Epoch && next.Expires.Equal(row.Expires) {
		return nil
	}
	o.count(row, -1)
	o.count(next, 1)
	o.Rows, o.Row = append(o.Rows, next), next
	return nil
}

// Deletable applies the obligations of tracker.Store.DeleteHost.
func Deletable(rec tracker.Record, rows []tracker.Row, generation int64, now time.Time) error {
	if rec.Generation != generation {
		return store.ErrConflict
	}
	for _, r := range rows {
		if r.Counted() && (!r.Over(now) || slices.Contains(rec.Seen, r.Workload)) {
			return fmt.Errorf("%w: %s: %s holds %s", tracker.ErrInUse, rec.Host, r.ID, r.Workload)
		}
	}
	return nil
}

func expired(r tracker.Row) error {
	return fmt.Errorf("%w: %s at %s", tracker.ErrExpired, r.ID, r.Expires.Format(time.RFC3339))
}

func stale(r tracker.Row, epoch int64) error {
	return fmt.Errorf("%w: %d is below %d of %s", tracker.ErrStaleEpoch, epoch, r.Epoch, r.ID)
}

// has says whether o writes the row.
func (o *Outcome) has(id string) bool {
	return slices.ContainsFunc(o.Rows, func(r tracker.Row) bool { return r.ID == id })
}

// write moves old to another state.
func (o *Outcome) write(old tracker.Row, to tracker.State) {
	o.count(old, -1)
	old.State = to
	o.Rows = append(o.Rows, old)
}

// count adds the row to the sums, or takes it away.
func (o *Outcome) count(r tracker.Row, sign int) {
	switch {
	case !r.Counted():
		return
	case r.State == tracker.Committed && r.Role == tracker.Current:
		o.Record.Running += sign
	default:
		o.Record.InFlight += sign
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
