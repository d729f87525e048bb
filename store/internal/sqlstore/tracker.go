package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

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
	State    string `bun:"state"`
	Amount   string `bun:"amount"`
	Epoch    int64  `bun:"epoch"`
	Owner    string `bun:"owner"`
	Created  int64  `bun:"created"`
	Expires  int64  `bun:"expires"`
}

func (r claimRow) decode() (tracker.Row, error) {
	row := tracker.Row{
		ID: r.ID, Host: r.Host, Workload: r.Workload, State: tracker.State(r.State), Epoch: r.Epoch, Owner: r.Owner,
		Created: at(r.Created), Expires: at(r.Expires),
	}
	if err := json.Unmarshal([]byte(r.Amount), &row.Amount); err != nil {
		return row, fmt.Errorf("store: drover_claim: %w", err)
	}
	return row, nil
}

const (
	hostColumns  = `SELECT record, generation, at FROM drover_host `
	claimColumns = `SELECT id, host, workload, state, amount, epoch, owner, created, expires FROM drover_claim `
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

// PutClaim inserts a claim; see tracker.Store.
func (k Trackers) PutClaim(ctx context.Context, tx store.Tx, r tracker.Row, bound tracker.Amount, ttl time.Duration,
) (tracker.Row, tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	var p book.Page
	if p.Record, p.Found, err = o.host(ctx, r.Host, o.Lock); err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	rows, err := o.claims(ctx, `WHERE id = ? OR host = ? AND (workload = ? AND state IN ('held', 'committed') OR state = 'held' AND expires < ?)
		ORDER BY id`, r.ID, r.Host, r.Workload, o.now)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	for _, row := range rows {
		if row.ID == r.ID {
			p.ByID = &row
		}
		if row.Host == r.Host && row.Workload == r.Workload && row.Counted() {
			p.Same = &row
		}
		if row.Host == r.Host && row.State == tracker.Held && row.Expires.Before(tx.Now()) {
			p.Over = append(p.Over, row)
		}
	}
	out, err := p.Put(r, bound, ttl, tx.Now())
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return o.write(ctx, out)
}

// SetClaim moves a claim on; see tracker.Store.
func (k Trackers) SetClaim(ctx context.Context, tx store.Tx, c tracker.Change) (tracker.Row, tracker.Record, error) {
	o, err := k.open(tx)
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	find := func() ([]tracker.Row, error) {
		if c.ID != "" {
			return o.claims(ctx, `WHERE id = ?`, c.ID)
		}
		return o.claims(ctx, `WHERE host = ? AND workload = ? AND state IN ('held', 'committed')`, c.Host, c.Workload)
	}
	host := c.Host
	if c.ID != "" {
		rows, err := find()
		if err != nil || len(rows) == 0 {
			return tracker.Row{}, tracker.Record{}, orNotFound(err, c)
		}
		host = rows[0].Host
	}
	rec, found, err := o.host(ctx, host, o.Lock)
	if err != nil || !found {
		return tracker.Row{}, tracker.Record{}, orNotFound(err, c)
	}
	rows, err := find()
	if err != nil || len(rows) == 0 || rows[0].Host != host {
		return tracker.Row{}, tracker.Record{}, orNotFound(err, c)
	}
	out, err := book.Set(rec, rows[0], c, tx.Now())
	if err != nil {
		return tracker.Row{}, tracker.Record{}, err
	}
	return o.write(ctx, out)
}

func orNotFound(err error, c tracker.Change) error {
	if err == nil {
		err = fmt.Errorf("%w: claim %s%s", tracker.ErrNotFound, c.ID, c.Workload)
	}
	return err
}

// write stores an outcome; the host's row is locked.
func (o *open) write(ctx context.Context, out book.Outcome) (tracker.Row, tracker.Record, error) {
	for _, r := range out.Rows {
		if err := o.writeClaim(ctx, r); err != nil {
			return tracker.Row{}, tracker.Record{}, err
		}
	}
	if out.Changed {
		out.Record.Generation--
		if err := o.saveHost(ctx, &out.Record); err != nil {
			return tracker.Row{}, tracker.Record{}, err
		}
	}
	return out.Row, out.Record, nil
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
	n, err := o.exec(ctx, `INSERT INTO drover_claim (id, host, workload, state, amount, epoch, owner, created, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, epoch = excluded.epoch, created = excluded.created,
			expires = excluded.expires WHERE drover_claim.host = excluded.host`,
		r.ID, r.Host, r.Workload, string(r.State), string(amount), r.Epoch, r.Owner, r.Created.UnixMicro(), r.Expires.UnixMicro())
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: %s is on another host", tracker.ErrMismatch, r.ID)
	}
	return err
}
