package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
)

// Outbox is a bus.Outbox on the tables drover_outbox and drover_relay.
type Outbox struct{ Dialect }

// Add appends rows; see bus.Outbox.
func (k Outbox) Add(ctx context.Context, tx store.Tx, rows []bus.Row) error {
	o, err := k.open(tx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if _, err := o.exec(ctx, `INSERT INTO drover_outbox (id, ord, data, added, tries, due, text, died) VALUES (?, ?, ?, ?, 0, 0, '', 0)
			ON CONFLICT (id) DO NOTHING`, r.ID, r.Order, r.Data, o.now); err != nil {
			return err
		}
	}
	return nil
}

// Claim gives the relay rows; see bus.Outbox.
func (k Outbox) Claim(ctx context.Context, tx store.Tx, c bus.OutboxClaim) (out bus.OutboxClaimed, err error) {
	o, err := k.open(tx)
	if err != nil {
		return out, err
	}
	if out.Pending, err = o.pending(ctx); err != nil {
		return out, err
	}
	if _, err := o.row(ctx, `SELECT count(*) FROM drover_outbox WHERE died > 0 AND seq > 0`, nil, &out.Dead); err != nil {
		return out, err
	}
	if out.Dead > 0 {
		if _, err := o.exec(ctx, `DELETE FROM drover_outbox WHERE seq IN (SELECT seq FROM drover_outbox WHERE died > 0 AND seq > 0 AND died < ? ORDER BY seq LIMIT 100)`,
			tx.Now().Add(-bus.DeadFor).UnixMicro()); err != nil {
			return out, err
		}
	}
	if out.Pending == 0 {
		return out, nil
	}
	if out.Epoch, out.Wait, err = o.lead(ctx, c.Relay, c.TTL.Microseconds()); err != nil || out.Wait > 0 {
		return out, err
	}
	if out.Rows, err = o.outboxRows(ctx, `WHERE died = 0 AND seq > 0 AND ord NOT IN (SELECT ord FROM drover_outbox WHERE died = 0 AND due > 0 AND due > ?) ORDER BY seq LIMIT ?`,
		o.now, c.Max); err != nil || len(out.Rows) > 0 {
		return out, err
	}
	var due int64
	_, err = o.row(ctx, `SELECT coalesce(min(due), 0) FROM drover_outbox WHERE died = 0 AND due > 0 AND due > ?`, []any{o.now}, &due)
	if due > 0 {
		out.Wait = time.Duration(due-o.now) * time.Microsecond
	}
	return out, err
}

// pending is from the first to the last row: no walk over what is between.
func (o *open) pending(ctx context.Context) (int64, error) {
	var first, last int64
	found, err := o.row(ctx, `SELECT seq FROM drover_outbox WHERE died = 0 AND seq > 0 ORDER BY seq LIMIT 1`, nil, &first)
	if err != nil || !found {
		return 0, err
	}
	_, err = o.row(ctx, `SELECT seq FROM drover_outbox WHERE died = 0 AND seq > 0 ORDER BY seq DESC LIMIT 1`, nil, &last)
	return last - first + 1, err
}

// lead takes or keeps the claim, or says how long another's lasts.
func (o *open) lead(ctx context.Context, who string, ttl int64) (int64, time.Duration, error) {
	var holder string
	var epoch, until int64
	for {
		found, err := o.row(ctx, `SELECT holder, epoch, until FROM drover_relay WHERE name = 'outbox'`+o.Lock, nil, &holder, &epoch, &until)
		if err != nil {
			return 0, 0, err
		}
		if found {
			break
		}
		if _, err := o.exec(ctx, `INSERT INTO drover_relay (name, holder, epoch, until) VALUES ('outbox', '', 0, 0) ON CONFLICT (name) DO NOTHING`); err != nil {
			return 0, 0, err
		}
	}
	switch left := until - o.now; {
	case left > 0 && holder != who:
		return 0, time.Duration(left) * time.Microsecond, nil
	case left > ttl/2:
		return epoch, 0, nil
	case left <= 0:
		epoch++
	}
	_, err := o.exec(ctx, `UPDATE drover_relay SET holder = ?, epoch = ?, until = ? WHERE name = 'outbox'`, who, epoch, o.now+ttl)
	return epoch, 0, err
}

type outboxRow struct {
	Seq   int64  `bun:"seq"`
	ID    string `bun:"id"`
	Ord   string `bun:"ord"`
	Data  []byte `bun:"data"`
	Added int64  `bun:"added"`
	Tries int    `bun:"tries"`
	Due   int64  `bun:"due"`
	Text  string `bun:"text"`
	Died  int64  `bun:"died"`
}

func (o *open) outboxRows(ctx context.Context, where string, args ...any) ([]bus.Row, error) {
	var rows []outboxRow
	if err := o.all(ctx, &rows, `SELECT seq, id, ord, data, added, tries, due, text, died FROM drover_outbox `+where, args...); err != nil {
		return nil, err
	}
	out := make([]bus.Row, len(rows))
	for i, r := range rows {
		out[i] = bus.Row{ID: r.ID, Order: r.Ord, Data: r.Data, Seq: r.Seq, Added: at(r.Added), Tries: r.Tries, Text: r.Text, Dead: r.Died > 0}
		if r.Due > 0 {
			out[i].Due = at(r.Due)
		}
	}
	return out, nil
}

// leads is store.ErrConflict unless epoch is the relay's last.
func (o *open) leads(ctx context.Context, epoch int64) error {
	var last int64
	if _, err := o.row(ctx, `SELECT epoch FROM drover_relay WHERE name = 'outbox'`+o.Lock, nil, &last); err != nil {
		return err
	}
	if last != epoch {
		return fmt.Errorf("store: outbox: %w", store.ErrConflict)
	}
	return nil
}

// Done deletes what was sent; see bus.Outbox.
func (k Outbox) Done(ctx context.Context, tx store.Tx, epoch int64, ids []string) error {
	o, err := k.open(tx)
	if err != nil {
		return err
	}
	if err := o.leads(ctx, epoch); err != nil || len(ids) == 0 {
		return err
	}
	_, err = o.exec(ctx, `DELETE FROM drover_outbox WHERE id IN (?)`, bun.List(ids))
	return err
}

// Fail notes failures and revivals; see bus.Outbox.
func (k Outbox) Fail(ctx context.Context, tx store.Tx, epoch int64, fs []bus.OutboxFailure) error {
	o, err := k.open(tx)
	if err != nil {
		return err
	}
	if epoch != 0 {
		if err := o.leads(ctx, epoch); err != nil {
			return err
		}
	}
	for _, f := range fs {
		if epoch == 0 {
			n, err := o.exec(ctx, `UPDATE drover_outbox SET died = 0, due = 0, tries = 0, added = ? WHERE id = ? AND died > 0`, o.now, f.ID)
			if err == nil && n == 0 {
				err = fmt.Errorf("%w: no dead row %s", store.ErrNotFound, f.ID)
			}
			if err != nil {
				return err
			}
			continue
		}
		died := int64(0)
		if f.Dead {
			died = o.now
		}
		if _, err := o.exec(ctx, `UPDATE drover_outbox SET tries = tries + 1, due = ?, text = ?, died = ? WHERE id = ?`,
			o.now+f.Wait.Microseconds(), f.Text, died, f.ID); err != nil {
			return err
		}
	}
	return nil
}

// List gives rows; see bus.Outbox.
func (k Outbox) List(ctx context.Context, tx store.Tx, dead bool, after int64, limit int) ([]bus.Row, error) {
	o, err := k.open(tx)
	if err != nil {
		return nil, err
	}
	if dead {
		return o.outboxRows(ctx, `WHERE died > 0 AND seq > ? ORDER BY seq LIMIT ?`, after, limit)
	}
	return o.outboxRows(ctx, `WHERE died = 0 AND seq > ? ORDER BY seq LIMIT ?`, after, limit)
}
