package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

// Leases is a lease.Store on the tables drover_session and drover_lease.
type Leases struct{ Dialect }

// live is the condition of a session that may act; its arguments are the store's incarnation and now.
const live = `state <> 'dead' AND store = ? AND until > ?`

// session is a row of drover_session.
type session struct {
	Epoch       int64  `bun:"epoch"`
	Name        string `bun:"name"`
	Incarnation int64  `bun:"incarnation"`
	Store       string `bun:"store"`
	Process     string `bun:"process"`
	Until       int64  `bun:"until"`
	State       string `bun:"state"`
	Kinds       string `bun:"kinds"`
	Queues      string `bun:"queues"`
	Marked      int64  `bun:"marked"`
}

func (r session) token() lease.Token {
	return lease.Token{Node: r.Name, Incarnation: r.Incarnation, Store: r.Store, Epoch: r.Epoch}
}

const sessions = `SELECT epoch, name, incarnation, store, process, until, state, kinds, queues, marked FROM drover_session `

// Open starts a session; see lease.Store.
func (l Leases) Open(ctx context.Context, tx store.Tx, i lease.Info, process string, ttl time.Duration) (lease.Token, error) {
	o, err := l.open(tx)
	if err != nil {
		return lease.Token{}, err
	}
	if err := o.serial(ctx, "session/"+i.Name); err != nil {
		return lease.Token{}, err
	}
	var kept []session
	if err := o.all(ctx, &kept, sessions+`WHERE name = ? ORDER BY epoch`, i.Name); err != nil {
		return lease.Token{}, err
	}
	t := lease.Token{Node: i.Name, Incarnation: i.Holder.Incarnation}
	for _, r := range kept {
		if i.Holder.Epoch != 0 && r.Epoch > i.Holder.Epoch && r.Process != process {
			return lease.Token{}, &lease.HeldError{Name: i.Name, Holder: r.token()}
		}
		t.Incarnation = max(t.Incarnation, r.Incarnation)
	}
	t.Incarnation++
	if t.Store, err = o.Store(ctx, tx); err != nil {
		return lease.Token{}, err
	}
	if t.Epoch, err = o.Epoch(ctx, tx); err != nil {
		return lease.Token{}, err
	}
	if _, err := o.exec(ctx, `UPDATE drover_session SET state = 'dead', marked = ? WHERE name = ? AND state <> 'dead'`, o.now, i.Name); err != nil {
		return lease.Token{}, err
	}
	_, err = o.exec(ctx, `INSERT INTO drover_session (epoch, name, incarnation, store, process, until, state, kinds, queues, marked)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`,
		t.Epoch, i.Name, t.Incarnation, t.Store, process, tx.Now().Add(ttl).UnixMicro(), i.State, list(i.Kinds), list(i.Queues))
	if err != nil {
		return lease.Token{}, err
	}
	return t, nil
}

// Renew moves the session's end on; see lease.Store.
func (l Leases) Renew(ctx context.Context, tx store.Tx, t lease.Token, i lease.Info, ttl time.Duration) error {
	o, err := l.open(tx)
	if err != nil {
		return err
	}
	present, err := o.Store(ctx, tx)
	if err != nil {
		return err
	}
	n := int64(0)
	if t.Store == present {
		n, err = o.exec(ctx, `UPDATE drover_session SET until = ?, state = ?, kinds = ?, queues = ?
			WHERE epoch = ? AND name = ? AND incarnation = ? AND `+live,
			tx.Now().Add(ttl).UnixMicro(), i.State, list(i.Kinds), list(i.Queues), t.Epoch, t.Node, t.Incarnation, present, o.now)
	}
	if err != nil || n == 1 {
		return err
	}
	var r session
	found, err := o.row(ctx, `SELECT epoch, name, incarnation, store FROM drover_session WHERE name = ? AND incarnation > ?
		ORDER BY epoch LIMIT 1`, []any{t.Node, t.Incarnation}, &r.Epoch, &r.Name, &r.Incarnation, &r.Store)
	switch {
	case err != nil:
		return err
	case found:
		return &lease.HeldError{Name: t.Node, Holder: r.token()}
	}
	return store.ErrConflict
}

// Close ends the session; see lease.Store.
func (l Leases) Close(ctx context.Context, tx store.Tx, t lease.Token) error {
	o, err := l.open(tx)
	if err != nil {
		return err
	}
	present, err := o.Store(ctx, tx)
	if err != nil || t.Store != present {
		return err
	}
	n, err := o.exec(ctx, `UPDATE drover_session SET state = 'dead', marked = ?
		WHERE epoch = ? AND name = ? AND incarnation = ? AND `+live, o.now, t.Epoch, t.Node, t.Incarnation, present, o.now)
	if err != nil || n == 0 {
		return err
	}
	return o.free(ctx, `DELETE FROM drover_lease WHERE session = ? RETURNING name`, t.Epoch)
}

// free hints the named leases that query answers.
func (o *open) free(ctx context.Context, query string, args ...any) error {
	var names []string
	if err := o.all(ctx, &names, query, args...); err != nil {
		return err
	}
	for _, n := range names {
		o.tx.Hint(lease.Topic(n))
	}
	return nil
}

// Sweep marks sessions dead that are over and forgets old ones; see lease.Store.
func (l Leases) Sweep(ctx context.Context, tx store.Tx, limit int) ([]lease.Token, error) {
	o, err := l.open(tx)
	if err != nil {
		return nil, err
	}
	present, err := o.Store(ctx, tx)
	if err != nil {
		return nil, err
	}
	var over []int64
	err = o.all(ctx, &over, `SELECT epoch FROM drover_session WHERE state <> 'dead' AND NOT (`+live+`)
		ORDER BY epoch LIMIT ?`+o.SkipLocked, present, o.now, limit)
	if err != nil {
		return nil, err
	}
	if len(over) > 0 {
		_, err := o.exec(ctx, `UPDATE drover_session SET state = 'dead', marked = ? WHERE epoch IN (?) AND state <> 'dead' AND NOT (`+live+`)`,
			o.now, bun.List(over), present, o.now)
		if err != nil {
			return nil, err
		}
		if err := o.free(ctx, `SELECT name FROM drover_lease WHERE session IN (?) ORDER BY name`, bun.List(over)); err != nil {
			return nil, err
		}
	}
	if err := o.forget(ctx); err != nil {
		return nil, err
	}
	var dead []session
	if err := o.all(ctx, &dead, sessions+`WHERE state = 'dead' ORDER BY epoch`); err != nil {
		return nil, err
	}
	ts := make([]lease.Token, len(dead))
	for i, r := range dead {
		ts[i] = r.token()
	}
	return ts, nil
}

// forget removes what was marked dead lease.Keep ago, if nothing refers to it any more.
func (o *open) forget(ctx context.Context) error {
	var old []int64
	err := o.all(ctx, &old, `SELECT s.epoch FROM drover_session s WHERE s.state = 'dead' AND s.marked <= ? AND NOT (`+o.Busy+`)
		ORDER BY s.epoch LIMIT 1000`+o.SkipLocked, o.tx.Now().Add(-lease.Keep).UnixMicro())
	if err != nil || len(old) == 0 {
		return err
	}
	if _, err := o.exec(ctx, `DELETE FROM drover_lease WHERE session IN (?)`, bun.List(old)); err != nil {
		return err
	}
	_, err = o.exec(ctx, `DELETE FROM drover_session WHERE epoch IN (?)`, bun.List(old))
	return err
}

// List answers sessions, then named leases; see lease.Store.
func (l Leases) List(ctx context.Context, tx store.Tx) ([]lease.Info, error) {
	o, err := l.open(tx)
	if err != nil {
		return nil, err
	}
	present, err := o.Store(ctx, tx)
	if err != nil {
		return nil, err
	}
	var kept []session
	if err := o.all(ctx, &kept, sessions+`ORDER BY name, incarnation`); err != nil {
		return nil, err
	}
	infos := make([]lease.Info, 0, len(kept))
	byEpoch := make(map[int64]lease.Info, len(kept))
	for _, r := range kept {
		i := lease.Info{Name: r.Name, Holder: r.token(), State: r.State, Until: at(r.Until), Kinds: unlist(r.Kinds), Queues: unlist(r.Queues), Closed: r.State == lease.Dead && r.Marked < r.Until}
		if r.Store != present || r.Until <= o.now {
			i.State = lease.Dead
		}
		infos, byEpoch[r.Epoch] = append(infos, i), i
	}
	var ns []named
	if err := o.all(ctx, &ns, `SELECT name, session, epoch FROM drover_lease ORDER BY name`); err != nil {
		return nil, err
	}
	for _, n := range ns {
		i := lease.Info{Name: n.Name, Named: true, State: lease.Dead}
		if s, ok := byEpoch[n.Session]; ok {
			i.Holder, i.State, i.Until = s.Holder, s.State, s.Until
		}
		i.Holder.Epoch = n.Epoch
		infos = append(infos, i)
	}
	return infos, nil
}
