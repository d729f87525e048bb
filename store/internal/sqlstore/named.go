package sqlstore

import (
	"context"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// named is a row of drover_lease: a name, the epoch of the session that holds it, and its own.
type named struct {
	Name    string `bun:"name"`
	Session int64  `bun:"session"`
	Epoch   int64  `bun:"epoch"`
}

// holds checks that t is a live session of the present store.
func (o *open) holds(ctx context.Context, t lease.Token) error {
	present, err := o.Store(ctx, o.tx)
	if err != nil {
		return err
	}
	if t.Store != present {
		return store.ErrConflict
	}
	var one int
	found, err := o.row(ctx, `SELECT 1 FROM drover_session WHERE epoch = ? AND name = ? AND incarnation = ? AND `+live,
		[]any{t.Epoch, t.Node, t.Incarnation, present, o.now}, &one)
	if err == nil && !found {
		err = store.ErrConflict
	}
	return err
}

// holder is the token of a named lease and whether its session is live; false if nobody ever took it.
func (o *open) holder(ctx context.Context, name string) (n named, t lease.Token, alive, found bool, err error) {
	present, err := o.Store(ctx, o.tx)
	if err != nil {
		return n, t, false, false, err
	}
	var up int
	found, err = o.row(ctx, `SELECT l.name, l.session, l.epoch, COALESCE(s.name, ''), COALESCE(s.incarnation, 0), COALESCE(s.store, ''),
			CASE WHEN s.state <> 'dead' AND s.store = ? AND s.until > ? THEN 1 ELSE 0 END
		FROM drover_lease l LEFT JOIN drover_session s ON s.epoch = l.session WHERE l.name = ?`,
		[]any{present, o.now, name}, &n.Name, &n.Session, &n.Epoch, &t.Node, &t.Incarnation, &t.Store, &up)
	t.Epoch = n.Epoch
	return n, t, up == 1, found, err
}

// Acquire takes a named lease or says who holds it; see lease.Store.
func (l Leases) Acquire(ctx context.Context, tx store.Tx, t lease.Token, name string) (lease.Token, error) {
	o, err := l.open(tx)
	if err != nil {
		return lease.Token{}, err
	}
	if err := o.serial(ctx, "lease/"+name); err != nil {
		return lease.Token{}, err
	}
	if err := o.holds(ctx, t); err != nil {
		return lease.Token{}, err
	}
	n, held, alive, found, err := o.holder(ctx, name)
	switch {
	case err != nil:
		return lease.Token{}, err
	case found && n.Session == t.Epoch:
		return held, nil
	case alive:
		return lease.Token{}, &lease.HeldError{Name: name, Holder: held}
	}
	session := t.Epoch
	if t.Epoch, err = o.Epoch(ctx, tx); err != nil {
		return lease.Token{}, err
	}
	_, err = o.exec(ctx, `INSERT INTO drover_lease (name, session, epoch) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET session = excluded.session, epoch = excluded.epoch`, name, session, t.Epoch)
	if err != nil {
		return lease.Token{}, err
	}
	return t, nil
}

// Release frees a named lease; see lease.Store.
func (l Leases) Release(ctx context.Context, tx store.Tx, t lease.Token, name string) error {
	o, err := l.open(tx)
	if err != nil {
		return err
	}
	_, held, alive, _, err := o.holder(ctx, name)
	if err != nil {
		return err
	}
	if !alive || held != t {
		return store.ErrConflict
	}
	n, err := o.exec(ctx, `DELETE FROM drover_lease WHERE name = ? AND epoch = ?`, name, t.Epoch)
	if err != nil {
		return err
	}
	if n == 0 {
		return store.ErrConflict
	}
	tx.Hint(lease.Topic(name))
	return nil
}
