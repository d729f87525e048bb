package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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

func (k trackers) DeleteHost(_ context.Context, x store.Tx, host string, generation int64) error {
	t, err := k.s.of(x)
	if err != nil {
		return err
	}
	rec := k.s.tracker.hosts[host]
	if rec == nil {
		return fmt.Errorf("%w: host %s", tracker.ErrNotFound, host)
	}
	rows := k.rows(host)
	if err := book.Deletable(*rec, rows, generation, t.now); err != nil {
		return err
	}
	put(t, &k.s.tracker.hosts, host, nil)
	for _, row := range rows {
		put(t, &k.s.tracker.claims, row.ID, nil)
	}
	return nil
}

func (k trackers) PutClaim(_ context.Context, x store.Tx, c tracker.Put) (tracker.Row, tracker.Record, error) {
	t, err := k.s.of(x)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	r := c.Row
	page := book.Page{ByID: k.s.tracker.claims[r.ID]}
	if rec := k.s.tracker.hosts[r.Host]; rec != nil {
		page.Found, page.Record = true, *rec
	}
	for _, row := range k.rows(r.Host) {
		if row.Workload == r.Workload && row.Role == r.Role && row.Counted() {
			page.Same = &row
		}
		if row.Over(t.now) {
			page.Over = append(page.Over, row)
		}
		if len(row.Devices) > 0 {
			page.Others = append(page.Others, row)
		}
	}
	o, err := page.Put(c, t.now)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	k.write(t, o)
	return o.Row, o.Record, nil
}

func (k trackers) SetClaim(_ context.Context, x store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	t, err := k.s.of(x)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	var rows []tracker.Row
	if c.ID == "" {
		rows = k.counted(c.Host, c.Workload)
	} else if r := k.s.tracker.claims[c.ID]; r != nil {
		rows = []tracker.Row{*r}
	}
	if len(rows) == 0 {
		return tracker.Row{}, tracker.Record{}, fmt.Errorf("%w: claim %s%s", tracker.ErrNotFound, c.ID, c.Workload)
	}
	o, err := book.Set(*k.s.tracker.hosts[rows[0].Host], rows, c, t.now)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	k.write(t, o)
	return o.Row, o.Record, nil
}

// counted rows of a workload on a host, by ID.
func (k trackers) counted(host, workload string) []tracker.Row {
	return slices.DeleteFunc(k.rows(host), func(r tracker.Row) bool { return r.Workload != workload || !r.Counted() })
}

func (k trackers) Settle(_ context.Context, x store.Tx, s tracker.Settlement) (tracker.Row, []tracker.Record, error) {
	t, err := k.s.of(x)
	if err != nil {
		return tracker.Row{}, nil, err
	}
	move := k.s.tracker.claims[s.ID]
	if move == nil {
		if s.End == tracker.Reverted {
			return tracker.Row{}, nil, nil
		}
		return tracker.Row{}, nil, fmt.Errorf("%w: claim %s", tracker.ErrNotFound, s.ID)
	}
	p := book.Pair{Move: *move, To: *k.s.tracker.hosts[move.Host], Rows: k.counted(move.Host, move.Workload)}
	if move.From != move.Host {
		p.From = k.s.tracker.hosts[move.From]
		p.Rows = append(p.Rows, k.counted(move.From, move.Workload)...)
	}
	p.Rows = slices.DeleteFunc(p.Rows, func(r tracker.Row) bool { return r.ID == s.ID })
	to, from, err := p.Settle(s, t.now)
	if err != nil {
		return tracker.Row{}, nil, err
	}
	var recs []tracker.Record
	for _, o := range []*book.Outcome{to, from} {
		if o != nil && o.Changed {
			k.write(t, *o)
			recs = append(recs, o.Record)
		}
	}
	return to.Row, recs, nil
}

func (k trackers) write(t *tx, o book.Outcome) {
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
}
