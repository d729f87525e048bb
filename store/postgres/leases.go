package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
)

type leases struct{ s *Store }

// sqlOrigin names the database as the server sees it: it changes when one is restored, copied, or a standby is promoted.
const sqlOrigin = `(SELECT system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' ||
  (SELECT oid::text FROM pg_database WHERE datname = current_database()) FROM pg_control_system())`

// sqlBorn sets the origin of a new database.
const sqlBorn = `UPDATE @meta SET origin = ` + sqlOrigin + ` WHERE origin = ''`

// sqlReborn: commits may have been lost, so the epochs jump past all that can have been handed out.
const sqlReborn = `UPDATE @meta SET origin = ` + sqlOrigin + `, n = n + 1 WHERE origin <> ` + sqlOrigin

const (
	epochGap = `SELECT setval('@epoch', nextval('@epoch') + 4294967296)`
	allOver  = `UPDATE @session SET until = '-infinity' WHERE NOT dead`
	storeID  = `(SELECT id || '.' || n FROM @meta)`
	live     = ` NOT dead AND until > now() AND store = ` + storeID + ` `
)

// AfterFailover raises the store's incarnation, as after a restore that may have lost commits: every session is over and
// every token handed out before is lower than any that follows. A changed system identifier, timeline or database does the
// same by itself, when the next session is opened.
func (s *Store) AfterFailover(ctx context.Context) error {
	return s.InTx(ctx, func(ctx context.Context, x store.Tx) error {
		t := x.(*tx)
		if _, err := t.exec(ctx, `UPDATE @meta SET n = n + 1`); err != nil {
			return err
		}
		return t.reborn(ctx)
	})
}

func (t *tx) reborn(ctx context.Context) error {
	if err := t.query(ctx, epochGap, func(scan func(...any) error) error { var n int64; return scan(&n) }); err != nil {
		return err
	}
	_, err := t.exec(ctx, allOver)
	return err
}

func (l leases) Open(ctx context.Context, x store.Tx, i lease.Info, process string, ttl time.Duration) (tok lease.Token, err error) {
	t, err := l.s.of(x)
	if err != nil {
		return tok, err
	}
	if err := l.sameDatabase(ctx, t); err != nil {
		return tok, err
	}
	// One Open of a name at a time: two at once would draw the same incarnation.
	if _, err := t.exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 7203))`, "drover session "+l.s.schema+" "+i.Name); err != nil {
		return tok, err
	}
	if i.Holder.Epoch != 0 {
		err := t.query(ctx, `SELECT name, incarnation, store, epoch FROM @session
WHERE name = $1 AND epoch > $2 AND process <> $3 AND NOT gone ORDER BY epoch LIMIT 1`, func(scan func(...any) error) error {
			return scan(&tok.Node, &tok.Incarnation, &tok.Store, &tok.Epoch)
		}, i.Name, i.Holder.Epoch, process)
		if err != nil {
			return tok, err
		}
		if tok.Epoch != 0 {
			return lease.Token{}, &lease.HeldError{Name: i.Name, Holder: tok}
		}
	}
	if _, err := t.exec(ctx, `UPDATE @session SET dead = true, state = 'dead', marked = now() WHERE name = $1 AND NOT dead`, i.Name); err != nil {
		return tok, err
	}
	tok.Node = i.Name
	err = t.query(ctx, `INSERT INTO @session (epoch, name, incarnation, store, process, until, state, kinds, queues)
SELECT nextval('@epoch'), $1, greatest($2, (SELECT max(incarnation) FROM @session WHERE name = $1)) + 1, `+storeID+`, $3, now() + $4::bigint * interval '1 us', $5, $6, $7
RETURNING incarnation, store, epoch`, func(scan func(...any) error) error {
		return scan(&tok.Incarnation, &tok.Store, &tok.Epoch)
	}, i.Name, i.Holder.Incarnation, process, ttl.Microseconds(), i.State, list(i.Kinds), list(i.Queues))
	return tok, err
}

// list is never NULL.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// sameDatabase ends all sessions if this is not the database it was.
func (l leases) sameDatabase(ctx context.Context, t *tx) error {
	var same, born bool
	err := t.query(ctx, `SELECT origin = `+sqlOrigin+`, origin = '' FROM @meta`, func(scan func(...any) error) error { return scan(&same, &born) })
	if err != nil || same {
		return err
	}
	if born {
		_, err = t.exec(ctx, sqlBorn)
		return err
	}
	n, err := t.exec(ctx, sqlReborn)
	if err != nil || n == 0 {
		return err
	}
	l.s.env.Logger.WarnContext(ctx, "postgres: another system identifier, timeline or database: all sessions end")
	return t.reborn(ctx)
}

func (l leases) Renew(ctx context.Context, x store.Tx, tok lease.Token, i lease.Info, ttl time.Duration) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE @session SET until = now() + $5::bigint * interval '1 us', state = $6, kinds = $7, queues = $8
WHERE epoch = $4 AND name = $1 AND incarnation = $2 AND store = $3 AND`+live+`AND EXISTS (SELECT 1 FROM @meta WHERE origin = `+sqlOrigin+`)`,
		tok.Node, tok.Incarnation, tok.Store, tok.Epoch, ttl.Microseconds(), i.State, list(i.Kinds), list(i.Queues))
	if err != nil || n == 1 {
		return err
	}
	var by lease.Token
	err = t.query(ctx, `SELECT name, incarnation, store, epoch FROM @session WHERE name = $1 AND incarnation > $2 AND NOT gone ORDER BY epoch LIMIT 1`,
		func(scan func(...any) error) error { return scan(&by.Node, &by.Incarnation, &by.Store, &by.Epoch) }, tok.Node, tok.Incarnation)
	switch {
	case err != nil:
		return err
	case by.Epoch != 0:
		return &lease.HeldError{Name: tok.Node, Holder: by}
	}
	return store.ErrConflict
}

func (l leases) Close(ctx context.Context, x store.Tx, tok lease.Token) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE @session SET dead = true, state = 'dead', marked = now()
WHERE epoch = $4 AND name = $1 AND incarnation = $2 AND store = $3 AND`+live, tok.Node, tok.Incarnation, tok.Store, tok.Epoch)
	if err != nil || n == 0 {
		return err
	}
	return t.query(ctx, `DELETE FROM @lease WHERE session = $1 RETURNING name`, t.hintLease, tok.Epoch)
}

func (t *tx) hintLease(scan func(...any) error) error {
	var name string
	err := scan(&name)
	t.Hint(lease.Topic(name))
	return err
}

func (l leases) Sweep(ctx context.Context, x store.Tx, limit int) ([]lease.Token, error) {
	t, err := l.s.of(x)
	if err != nil {
		return nil, err
	}
	var over []int64
	err = t.query(ctx, `WITH o AS MATERIALIZED (
  SELECT epoch FROM @session WHERE NOT dead AND (until <= now() OR store <> `+storeID+`) ORDER BY epoch LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE @session s SET dead = true, state = 'dead', marked = now() FROM o WHERE s.epoch = o.epoch AND NOT s.dead AND (s.until <= now() OR s.store <> `+storeID+`)
RETURNING s.epoch`, func(scan func(...any) error) error {
		var e int64
		err := scan(&e)
		over = append(over, e)
		return err
	}, limit)
	if err != nil {
		return nil, err
	}
	if len(over) > 0 {
		if err := t.query(ctx, `SELECT name FROM @lease WHERE session = ANY ($1) ORDER BY name`, t.hintLease, over); err != nil {
			return nil, err
		}
	}
	if _, err := t.sweptOut(ctx); err != nil {
		return nil, err
	}
	var dead []lease.Token
	var old []int64
	err = t.query(ctx, `SELECT name, incarnation, store, epoch, marked <= now() - $1::bigint * interval '1 us' AND swept FROM @session WHERE dead AND NOT gone ORDER BY epoch`,
		func(scan func(...any) error) error {
			var k lease.Token
			var gone bool
			err := scan(&k.Node, &k.Incarnation, &k.Store, &k.Epoch, &gone)
			if gone {
				old = append(old, k.Epoch)
			} else {
				dead = append(dead, k)
			}
			return err
		}, lease.Keep.Microseconds())
	if err != nil || len(old) == 0 {
		return dead, err
	}
	if _, err := t.exec(ctx, `UPDATE @session SET gone = true WHERE epoch = ANY ($1)`, old); err != nil {
		return nil, err
	}
	if _, err = t.exec(ctx, `DELETE FROM @lease WHERE session = ANY ($1)`, old); err != nil {
		return nil, err
	}
	return dead, l.purge(ctx, t)
}

// sqlPurge deletes sessions that no job names any more. It reads all jobs that have run, so it is asked seldom, and only when sessions
// have been forgotten.
const sqlPurge = `
DELETE FROM @session s WHERE gone AND NOT EXISTS (SELECT 1 FROM @done d WHERE d.session = s.epoch)
  AND NOT EXISTS (SELECT 1 FROM @pend p WHERE p.session = s.epoch) AND NOT EXISTS (SELECT 1 FROM @active a WHERE a.session = s.epoch)`

const purgeEvery = time.Hour

func (l leases) purge(ctx context.Context, t *tx) error {
	if !l.s.every(l.s.purges, 0, purgeEvery) {
		return nil
	}
	_, err := t.exec(ctx, sqlPurge)
	return err
}

// sweptOut marks the dead sessions under which nothing runs any more, and tells whether others are left. A claim holds its
// session's row, so that one in flight is never overlooked.
func (t *tx) sweptOut(ctx context.Context) (busy bool, err error) {
	var dirty []int64
	one := func(scan func(...any) error) error {
		var e int64
		err := scan(&e)
		dirty = append(dirty, e)
		return err
	}
	if err := t.query(ctx, `SELECT epoch FROM @session WHERE dead AND NOT swept`, one); err != nil || len(dirty) == 0 {
		return false, err
	}
	dirty = nil
	if err := t.query(ctx, `SELECT epoch FROM @session WHERE dead AND NOT swept ORDER BY epoch FOR UPDATE SKIP LOCKED`, one); err != nil || len(dirty) == 0 {
		return true, err
	}
	_, err = t.exec(ctx, `UPDATE @session s SET swept = true WHERE epoch = ANY ($1) AND NOT EXISTS (SELECT 1 FROM @active a WHERE a.session = s.epoch)`, dirty)
	if err != nil {
		return false, err
	}
	err = t.query(ctx, `SELECT EXISTS (SELECT 1 FROM @active WHERE session = ANY (ARRAY(SELECT epoch FROM @session WHERE dead AND NOT swept)))`,
		func(scan func(...any) error) error { return scan(&busy) })
	return busy, err
}

func (l leases) List(ctx context.Context, x store.Tx) (all []lease.Info, err error) {
	t, err := l.s.of(x)
	if err != nil {
		return nil, err
	}
	err = t.query(ctx, `SELECT name, false, name, incarnation, store, epoch, CASE WHEN`+live+`THEN state ELSE 'dead' END, until, dead AND marked < until, kinds, queues
FROM @session WHERE NOT gone
UNION ALL
SELECT n.name, true, coalesce(s.name, ''), coalesce(s.incarnation, 0), coalesce(s.store, ''), n.epoch,
       CASE WHEN s.epoch IS NOT NULL AND NOT s.dead AND s.until > now() AND s.store = `+storeID+` THEN s.state ELSE 'dead' END, s.until, false, '{}', '{}'
FROM @lease n LEFT JOIN @session s ON s.epoch = n.session
ORDER BY 2, 1, 4`, func(scan func(...any) error) error {
		var i lease.Info
		var until sql.NullTime
		var kinds, queues texts
		err := scan(&i.Name, &i.Named, &i.Holder.Node, &i.Holder.Incarnation, &i.Holder.Store, &i.Holder.Epoch, &i.State, &until, &i.Closed, &kinds, &queues)
		if until.Valid {
			i.Until = until.Time.UTC()
		}
		if !i.Named {
			i.Kinds, i.Queues = kinds, queues
		}
		all = append(all, i)
		return err
	})
	return all, err
}

// mine locks t's session against being marked swept, if it is live.
func (l leases) mine(ctx context.Context, t *tx, tok lease.Token) error {
	n := 0
	err := t.query(ctx, `SELECT 1 FROM @session WHERE epoch = $4 AND name = $1 AND incarnation = $2 AND store = $3 AND`+live+`FOR KEY SHARE`,
		func(scan func(...any) error) error { return scan(&n) }, tok.Node, tok.Incarnation, tok.Store, tok.Epoch)
	if err == nil && n == 0 {
		return store.ErrConflict
	}
	return err
}

func (l leases) Acquire(ctx context.Context, x store.Tx, tok lease.Token, name string) (got lease.Token, err error) {
	t, err := l.s.of(x)
	if err != nil {
		return got, err
	}
	if err := l.mine(ctx, t, tok); err != nil {
		return got, err
	}
	if got, err = l.holder(ctx, t, tok, name); err != nil || got.Epoch != 0 {
		return got, err
	}
	// Free: lock the row, then look again with a fresh snapshot.
	if _, err := t.exec(ctx, `INSERT INTO @lease (name, session, epoch) VALUES ($1, 0, 0) ON CONFLICT (name) DO UPDATE SET name = excluded.name`, name); err != nil {
		return got, err
	}
	if got, err = l.holder(ctx, t, tok, name); err != nil || got.Epoch != 0 {
		return got, err
	}
	got = tok
	err = t.query(ctx, `UPDATE @lease SET session = $2, epoch = nextval('@epoch') WHERE name = $1 RETURNING epoch`,
		func(scan func(...any) error) error { return scan(&got.Epoch) }, name, tok.Epoch)
	return got, err
}

// holder is tok's own lease, *HeldError if another live session holds it, zero if it is to be had.
func (l leases) holder(ctx context.Context, t *tx, tok lease.Token, name string) (lease.Token, error) {
	var h lease.Token
	var session int64
	err := t.query(ctx, `SELECT s.name, s.incarnation, s.store, n.epoch, n.session FROM @lease n JOIN @session s ON s.epoch = n.session
WHERE n.name = $1 AND NOT s.dead AND s.until > now() AND s.store = `+storeID, func(scan func(...any) error) error {
		return scan(&h.Node, &h.Incarnation, &h.Store, &h.Epoch, &session)
	}, name)
	if err == nil && h.Epoch != 0 && session != tok.Epoch {
		return lease.Token{}, &lease.HeldError{Name: name, Holder: h}
	}
	return h, err
}

func (l leases) Release(ctx context.Context, x store.Tx, tok lease.Token, name string) error {
	t, err := l.s.of(x)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `DELETE FROM @lease n USING @session s
WHERE n.name = $1 AND n.epoch = $5 AND s.epoch = n.session AND s.name = $2 AND s.incarnation = $3 AND s.store = $4
  AND NOT s.dead AND s.until > now() AND s.store = `+storeID, name, tok.Node, tok.Incarnation, tok.Store, tok.Epoch)
	if err != nil {
		return err
	}
	if n == 0 {
		return store.ErrConflict
	}
	t.Hint(lease.Topic(name))
	return nil
}
