package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/book"
)

// Trackers is a tracker.Store on the tables drover_host and drover_claim. What changes a host's claims locks its row first, so
// that the rules, which are package book's, see it alone.
type Trackers struct{ Dialect }

type hostRow struct {
	Record     string `bun:"record"`
	Generation int64  `bun:"generation"`
	At         int64  `bun:"at"`
}

func (r hostRow) decode() (rec tracker.Record, err error) {
	if err := json.Unmarshal([]byte(r.Record), &rec); err != nil {
		return rec, fmt.Errorf("store: drover_host: %w", err)
	}
	rec.Generation, rec.At = r.Generation, at(r.At)
	return rec, nil
}

type claimRow struct {
	ID       string `bun:"id"`
	Host     string `bun:"host"`
	Workload string `bun:"workload"`
	Role     string `bun:"role"`
	Source   string `bun:"source"`
	State    string `bun:"state"`
	Amount   string `bun:"amount"`
	Devices  string `bun:"devices"`
	Epoch    int64  `bun:"epoch"`
	Owner    string `bun:"owner"`
	Created  int64  `bun:"created"`
	Expires  int64  `bun:"expires"`
}

func (r claimRow) decode() (tracker.Row, error) {
	row := tracker.Row{
		ID: r.ID, Host: r.Host, Workload: r.Workload, Role: tracker.Role(r.Role), From: r.Source, State: tracker.State(r.State),
		Epoch: r.Epoch, Owner: r.Owner, Created: at(r.Created), Expires: at(r.Expires),
	}
	err := json.Unmarshal([]byte(r.Amount), &row.Amount)
	if err == nil && r.Devices != "" {
		err = json.Unmarshal([]byte(r.Devices), &row.Devices)
	}
	if err != nil {
		return row, fmt.Errorf("store: drover_claim: %w", err)
	}
	return row, nil
}

const (
	hostColumns  = `SELECT record, generation, at FROM drover_host `
	claimColumns = `SELECT id, host, workload, role, source, state, amount, devices, epoch, owner, created, expires FROM drover_claim `
)

// Hosts gives all records; see tracker.Store.
func (k Trackers) Hosts(ctx context.Context, tx store.Tx) ([]tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return nil, err
	}
	var rows []hostRow
	if err := o.all(ctx, &rows, hostColumns+`ORDER BY host`); err != nil {
		return nil, err
	}
	out := make([]tracker.Record, len(rows))
	for i, r := range rows {
		if out[i], err = r.decode(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// LoadHost gives a record and its rows; see tracker.Store.
func (k Trackers) LoadHost(ctx context.Context, tx store.Tx, host string) (tracker.Record, []tracker.Row, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Record{}, nil, err
	}
	rec, found, err := o.host(ctx, host, "")
	if err != nil {
		return rec, nil, err
	}
	if !found {
		return rec, nil, fmt.Errorf("%w: host %s", tracker.ErrNotFound, host)
	}
	rows, err := o.claims(ctx, `WHERE host = ? ORDER BY id`, host)
	return rec, rows, err
}

func (o *open) host(ctx context.Context, host, lock string) (tracker.Record, bool, error) {
	var rows []hostRow
	if err := o.all(ctx, &rows, hostColumns+`WHERE host = ?`+lock, host); err != nil || len(rows) == 0 {
		return tracker.Record{}, false, err
	}
	rec, err := rows[0].decode()
	return rec, err == nil, err
}

func (o *open) claims(ctx context.Context, where string, args ...any) ([]tracker.Row, error) {
	var rows []claimRow
	if err := o.all(ctx, &rows, claimColumns+where, args...); err != nil {
		return nil, err
	}
	out := make([]tracker.Row, len(rows))
	for i, r := range rows {
		var err error
		if out[i], err = r.decode(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// SaveHost stores a record by compare-and-set; see tracker.Store.
func (k Trackers) SaveHost(ctx context.Context, tx store.Tx, r tracker.Record) (tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Record{}, err
	}
	if err := o.saveHost(ctx, &r); err != nil {
		return tracker.Record{}, err
	}
	_, err = o.exec(ctx, `DELETE FROM drover_claim WHERE host = ? AND state = 'expired' AND expires < ?`,
		r.Host, tx.Now().Add(-tracker.Keep).UnixMicro())
	return r, err
}

func (o *open) saveHost(ctx context.Context, r *tracker.Record) error {
	before := r.Generation
	r.Generation++
	r.At = o.tx.Now()
	record, err := json.Marshal(*r)
	if err != nil {
		return fmt.Errorf("store: drover_host: %w", err)
	}
	var n int64
	if before == 0 {
		n, err = o.exec(ctx, `INSERT INTO drover_host (host, record, generation, at) VALUES (?, ?, 1, ?) ON CONFLICT (host) DO NOTHING`,
			r.Host, string(record), o.now)
	} else {
		n, err = o.exec(ctx, `UPDATE drover_host SET record = ?, generation = ?, at = ? WHERE host = ? AND generation = ?`,
			string(record), r.Generation, o.now, r.Host, before)
	}
	if err == nil && n == 0 {
		err = store.ErrConflict
	}
	return err
}

// DeleteHost deletes a record with its rows; see tracker.Store.
func (k Trackers) DeleteHost(ctx context.Context, tx store.Tx, host string, generation int64) error {
	o, err := k.open(tx)
	if err != nil {
		return err
	}
	rec, found, err := o.host(ctx, host, o.Lock)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%w: host %s", tracker.ErrNotFound, host)
	}
	rows, err := o.claims(ctx, `WHERE host = ? ORDER BY id`, host)
	if err != nil {
		return err
	}
	if err := book.Deletable(rec, rows, generation, tx.Now()); err != nil {
		return err
	}
	if _, err := o.exec(ctx, `DELETE FROM drover_claim WHERE host = ?`, host); err != nil {
		return err
	}
	_, err = o.exec(ctx, `DELETE FROM drover_host WHERE host = ?`, host)
	return err
}

// PutClaim inserts a claim; see tracker.Store.
func (k Trackers) PutClaim(ctx context.Context, tx store.Tx, c tracker.Put) (tracker.Row, tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	var p book.Page
	r := c.Row
	if p.Record, p.Found, err = o.host(ctx, r.Host, o.Lock); err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	rows, err := o.claims(ctx, `WHERE id = ? OR host = ? AND (workload = ? AND state IN ('held', 'committed')
		OR state = 'held' AND expires < ? OR ? AND devices <> '') ORDER BY id`, r.ID, r.Host, r.Workload, o.now, len(c.Devices) > 0)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	for _, row := range rows {
		if row.ID == r.ID {
			p.ByID = &row
		}
		if row.Host != r.Host {
			continue
		}
		if row.Workload == r.Workload && row.Role == r.Role && row.Counted() {
			p.Same = &row
		}
		if row.Over(tx.Now()) {
			p.Over = append(p.Over, row)
		}
		if len(row.Devices) > 0 {
			p.Others = append(p.Others, row)
		}
	}
	out, err := p.Put(c, tx.Now())
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	if err := o.write(ctx, &out); err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return out.Row, out.Record, nil
}

// SetClaim moves claims on; see tracker.Store.
func (k Trackers) SetClaim(ctx context.Context, tx store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	find := func() ([]tracker.Row, error) {
		if c.ID != "" {
			return o.claims(ctx, `WHERE id = ?`, c.ID)
		}
		return o.counted(ctx, c.Workload, c.Host)
	}
	host := c.Host
	if c.ID != "" {
		rows, err := find()
		if err != nil || len(rows) == 0 {
			return tracker.Row{}, tracker.Record{}, orNotFound(err, c.ID)
		}
		host = rows[0].Host
	}
	rec, found, err := o.host(ctx, host, o.Lock)
	if err != nil || !found {
		return tracker.Row{}, tracker.Record{}, orNotFound(err, c.ID+c.Workload)
	}
	rows, err := find()
	if err != nil || len(rows) == 0 || rows[0].Host != host {
		return tracker.Row{}, tracker.Record{}, orNotFound(err, c.ID+c.Workload)
	}
	out, err := book.Set(rec, rows, c, tx.Now())
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	if err := o.write(ctx, &out); err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return out.Row, out.Record, nil
}

// Settle ends a move; see tracker.Store.
func (k Trackers) Settle(ctx context.Context, tx store.Tx, s tracker.Settlement) (tracker.Row, []tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Row{}, nil, err
	}
	p, found, err := o.pair(ctx, s.ID)
	switch {
	case err != nil:
		return tracker.Row{}, nil, err
	case !found && s.End == tracker.Reverted:
		return tracker.Row{}, nil, nil
	case !found:
		return tracker.Row{}, nil, orNotFound(nil, s.ID)
	}
	to, from, err := p.Settle(s, tx.Now())
	if err != nil {
		return tracker.Row{}, nil, err
	}
	var recs []tracker.Record
	for _, out := range []*book.Outcome{to, from} {
		if out == nil || !out.Changed {
			continue
		}
		if err := o.write(ctx, out); err != nil {
			return tracker.Row{}, nil, err
		}
		recs = append(recs, out.Record)
	}
	return to.Row, recs, nil
}

// pair reads what a settlement may change, under the locks of its hosts, which it takes in order of id.
func (o *open) pair(ctx context.Context, id string) (p book.Pair, found bool, err error) {
	move, err := o.claims(ctx, `WHERE id = ?`, id)
	if err != nil || len(move) == 0 {
		return p, false, err
	}
	hosts := []string{move[0].Host}
	if from := move[0].From; from != "" && from != move[0].Host {
		hosts = append(hosts, from)
	}
	slices.Sort(hosts)
	for _, host := range hosts {
		rec, there, err := o.host(ctx, host, o.Lock)
		switch {
		case err != nil:
			return p, false, err
		case host == move[0].Host && !there:
			return p, false, nil
		case host == move[0].Host:
			p.To = rec
		case there:
			p.From = &rec
		}
	}
	if move, err = o.claims(ctx, `WHERE id = ?`, id); err != nil || len(move) == 0 {
		return p, false, err
	}
	p.Move = move[0]
	rows, err := o.counted(ctx, p.Move.Workload, hosts...)
	p.Rows = slices.DeleteFunc(rows, func(r tracker.Row) bool { return r.ID == id })
	return p, true, err
}

// counted rows of a workload on hosts, by ID.
func (o *open) counted(ctx context.Context, workload string, hosts ...string) ([]tracker.Row, error) {
	return o.claims(ctx, `WHERE host IN (?) AND workload = ? AND state IN ('held', 'committed') ORDER BY id`, bun.List(hosts), workload)
}

func orNotFound(err error, what string) error {
	if err == nil {
		err = fmt.Errorf("%w: claim %s", tracker.ErrNotFound, what)
	}
	return err
}

// write stores an outcome; the host's row is locked.
func (o *open) write(ctx context.Context, out *book.Outcome) error {
	for _, r := range out.Rows {
		if err := o.writeClaim(ctx, r); err != nil {
			return err
		}
	}
	if !out.Changed {
		return nil
	}
	out.Record.Generation--
	return o.saveHost(ctx, &out.Record)
}

func (o *open) writeClaim(ctx context.Context, r tracker.Row) error {
	if r.State == tracker.Gone {
		_, err := o.exec(ctx, `DELETE FROM drover_claim WHERE id = ?`, r.ID)
		return err
	}
	amount, err := json.Marshal(r.Amount)
	if err != nil {
		return fmt.Errorf("store: drover_claim: %w", err)
	}
	devices := ""
	if len(r.Devices) > 0 {
		b, err := json.Marshal(r.Devices)
		if err != nil {
			return fmt.Errorf("store: drover_claim: %w", err)
		}
		devices = string(b)
	}
	n, err := o.exec(ctx, `INSERT INTO drover_claim (id, host, workload, role, source, state, amount, devices, epoch, owner, created, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET role = excluded.role, state = excluded.state, devices = excluded.devices,
			epoch = excluded.epoch, created = excluded.created, expires = excluded.expires
			WHERE drover_claim.host = excluded.host`,
		r.ID, r.Host, r.Workload, string(r.Role), r.From, string(r.State), string(amount), devices, r.Epoch, r.Owner,
		r.Created.UnixMicro(), r.Expires.UnixMicro())
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: %s is on another host", tracker.ErrMismatch, r.ID)
	}
	return err
}
