package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/book"
)

// trackerTables are guarded by turn.
type trackerTables struct {
	hosts  map[string]*tracker.Record
	claims map[string]*tracker.Row
}

// Tracker keeps hosts and claims.
func (s *Store) Tracker() tracker.Store { return trackers{s} }

type trackers struct{ s *Store }

func (k trackers) Hosts(_ context.Context, x store.Tx) ([]tracker.Record, error) {
	if _, err := k.s.of(x); err != nil {
		return nil, err
	}
	out := make([]tracker.Record, 0, len(k.s.tracker.hosts))
	for _, r := range k.s.tracker.hosts {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b tracker.Record) int { return cmp.Compare(a.Host, b.Host) })
	return out, nil
}

func (k trackers) LoadHost(_ context.Context, x store.Tx, host string) (tracker.Record, []tracker.Row, error) {
	if _, err := k.s.of(x); err != nil {
		return tracker.Record{}, nil, err
	}
	r := k.s.tracker.hosts[host]
	if r == nil {
		return tracker.Record{}, nil, fmt.Errorf("%w: host %s", tracker.ErrNotFound, host)
	}
	return *r, k.rows(host), nil
}

// rows of a host, by ID.
func (k trackers) rows(host string) (out []tracker.Row) {
	for _, r := range k.s.tracker.claims {
		if r.Host == host {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b tracker.Row) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (k trackers) SaveHost(_ context.Context, x store.Tx, r tracker.Record) (tracker.Record, error) {
	t, err := k.s.of(x)
	if err != nil {
		return tracker.Record{}, err
	}
	old := k.s.tracker.hosts[r.Host]
	if (old == nil) != (r.Generation == 0) || old != nil && old.Generation != r.Generation {
		return tracker.Record{}, store.ErrConflict
	}
	r.Generation++
	r.At = t.now
	put(t, &k.s.tracker.hosts, r.Host, &r)
	for _, row := range k.rows(r.Host) {
		if row.State == tracker.Expired && row.Expires.Add(tracker.Keep).Before(t.now) {
			put(t, &k.s.tracker.claims, row.ID, nil)
		}
	}
	return r, nil
}

func (k trackers) PutClaim(_ context.Context, x store.Tx, r tracker.Row, bound tracker.Amount, ttl time.Duration,
) (tracker.Row, tracker.Record, error) {
	t, err := k.s.of(x)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	page := book.Page{ByID: k.s.tracker.claims[r.ID]}
	if rec := k.s.tracker.hosts[r.Host]; rec != nil {
		page.Found, page.Record = true, *rec
	}
	for _, row := range k.rows(r.Host) {
		if row.Workload == r.Workload && row.Counted() {
			page.Same = &row
		}
		if row.State == tracker.Held && row.Expires.Before(t.now) {
			page.Over = append(page.Over, row)
		}
	}
	o, err := page.Put(r, bound, ttl, t.now)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return k.write(t, o)
}

func (k trackers) SetClaim(_ context.Context, x store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	t, err := k.s.of(x)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	row := k.s.tracker.claims[c.ID]
	if c.ID == "" {
		for _, r := range k.rows(c.Host) {
			if r.Workload == c.Workload && r.Counted() {
				row = &r
			}
		}
	}
	if row == nil {
		return tracker.Row{}, tracker.Record{}, fmt.Errorf("%w: claim %s%s", tracker.ErrNotFound, c.ID, c.Workload)
	}
	o, err := book.Set(*k.s.tracker.hosts[row.Host], *row, c, t.now)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return k.write(t, o)
}

func (k trackers) write(t *tx, o book.Outcome) (tracker.Row, tracker.Record, error) {
	for _, r := range o.Rows {
		if r.State == tracker.Gone {
			put(t, &k.s.tracker.claims, r.ID, nil)
			continue
		}
		put(t, &k.s.tracker.claims, r.ID, &r)
	}
	if o.Changed {
		put(t, &k.s.tracker.hosts, o.Record.Host, &o.Record)
	}
	return o.Row, o.Record, nil
}
