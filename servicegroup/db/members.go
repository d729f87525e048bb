package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/internal/stored"
)

// row is what a single record is asked for.
type row struct {
	incarnation, banned, beat, joined, seen int64
	instance, state, mark                   string
}

func (d *Driver) look(ctx context.Context, m servicegroup.Member) (r row, found bool, err error) {
	err = d.db.DB.QueryRowContext(ctx, d.now(sqlLook), m.Group, servicegroup.Fold(m.ID)).
		Scan(&r.incarnation, &r.instance, &r.state, &r.banned, &r.beat, &r.joined, &r.seen, &r.mark)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, false, nil
	case err != nil:
		return r, false, unavailable(err)
	}
	return r, true, nil
}

// Join records m.
func (d *Driver) Join(ctx context.Context, m servicegroup.Member) (servicegroup.Member, error) {
	var r row
	err := d.db.DB.QueryRowContext(ctx, d.now(sqlJoin), m.Group, servicegroup.Fold(m.ID), m.ID, m.Instance, m.Incarnation+1,
		m.Addr, m.Version, encodeMeta(m.Meta), encodeHealth(m.Health)).Scan(&r.incarnation, &r.beat, &r.joined, &r.seen, &r.mark)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		var found bool
		if r, found, err = d.look(ctx, m); err != nil {
			return m, err
		}
		if !found || r.banned != 0 {
			return m, fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
		}
	case err != nil:
		return m, unavailable(err)
	default:
		d.mu.Lock()
		d.here++
		d.mu.Unlock()
		d.purge(ctx, m.Group)
		d.hint(ctx, m.Group)
	}
	m.Incarnation, m.Beat, m.Joined, m.Seen, m.Mark = r.incarnation, r.beat, at(r.joined), at(r.seen), servicegroup.Mark(r.mark)
	return m, nil
}

// purge removes what silent members left. What fails is done by another join.
func (d *Driver) purge(ctx context.Context, group string) {
	now := d.cfg.Env.Clock.Now()
	d.mu.Lock()
	due := d.cfg.Retain > 0 && (d.purged.IsZero() || now.Sub(d.purged) >= time.Hour)
	if due {
		d.purged = now
	}
	d.mu.Unlock()
	if due {
		_, _ = d.exec(ctx, sqlPurge, group, d.cfg.Retain.Microseconds())
	}
}

// Beat counts one.
func (d *Driver) Beat(ctx context.Context, m servicegroup.Member) error {
	n, err := d.beat(ctx, encodeHealth(m.Health), encodeMeta(m.Meta), m.Group, servicegroup.Fold(m.ID), m.Incarnation, m.Instance)
	if err != nil || n == 1 {
		return err
	}
	switch r, found, err := d.look(ctx, m); {
	case err != nil:
		return err
	case found && r.banned != 0:
		return fmt.Errorf("%w: %s is banned", servicegroup.ErrFenced, m.ID)
	case !found || r.state == "none":
		return fmt.Errorf("%w: %s in %s", servicegroup.ErrGone, m.ID, m.Group)
	case r.incarnation != m.Incarnation || r.instance != m.Instance:
		return fmt.Errorf("%w: %s is incarnation %d now", servicegroup.ErrFenced, m.ID, r.incarnation)
	}
	return fmt.Errorf("%w: %s has left %s", servicegroup.ErrGone, m.ID, m.Group)
}

// beat runs on the connection of beats; those of several members of one process take turns.
func (d *Driver) beat(ctx context.Context, args ...any) (int64, error) {
	if !d.pg {
		return d.exec(ctx, sqlBeat, args...)
	}
	var c *sql.Conn
	select {
	case c = <-d.own:
	case <-ctx.Done():
		return 0, unavailable(context.Cause(ctx))
	}
	if ctx.Err() != nil {
		d.own <- c
		return 0, unavailable(context.Cause(ctx))
	}
	var err error
	if c == nil {
		c, err = d.reserve(ctx)
	}
	var r sql.Result
	if err == nil {
		r, err = c.ExecContext(ctx, d.now(sqlBeat), args...)
	}
	if err != nil {
		discard(c)
		d.own <- nil
		return 0, unavailable(err)
	}
	d.own <- c
	return r.RowsAffected()
}

// reserve takes a connection out of the pool. That a beat is on disk is worth no wait: the next one repeats it.
func (d *Driver) reserve(ctx context.Context) (*sql.Conn, error) {
	c, err := d.db.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.ExecContext(ctx, `SET synchronous_commit = off`); err != nil {
		discard(c)
		return nil, err
	}
	return c, nil
}

// discard closes c; it goes back to no pool, for what was set in it.
func discard(c *sql.Conn) {
	if c == nil {
		return
	}
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}

// Leave marks the record left.
func (d *Driver) Leave(ctx context.Context, m servicegroup.Member) error {
	d.mu.Lock()
	d.here--
	last := d.here <= 0
	d.mu.Unlock()
	if last && d.pg {
		select {
		case c := <-d.own:
			discard(c)
			d.own <- nil
		default:
		}
	}
	n, err := d.exec(ctx, sqlLeave, m.Group, servicegroup.Fold(m.ID), m.Incarnation, m.Instance)
	if err == nil && n > 0 {
		d.hint(ctx, m.Group)
	}
	return err
}

// Members reads the group in one statement.
func (d *Driver) Members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	rows, err := d.db.DB.QueryContext(ctx, d.now(sqlMembers), group)
	if err != nil {
		return nil, unavailable(err)
	}
	defer func() { _ = rows.Close() }()
	var all []servicegroup.Member
	for rows.Next() {
		m := servicegroup.Member{Group: group}
		var meta, health, state string
		var joined, seen, now int64
		if err := rows.Scan(&m.ID, &m.Instance, &m.Incarnation, &m.Addr, &m.Version, &meta, &health, &m.Beat, &joined, &seen, &state,
			&m.Mark, &now); err != nil {
			return nil, unavailable(err)
		}
		m.Joined, m.Seen, m.Age = at(joined), at(seen), time.Duration(now-seen)*time.Microsecond
		switch state {
		case "none":
			m.Incarnation = 0
		case "left":
			m.State, m.Reason = servicegroup.Down, servicegroup.Left
		}
		if m.Meta, err = decodeMeta(meta); err == nil {
			m.Health, err = decodeHealth(health)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: db: record of %s: %w", servicegroup.ErrUnavailable, m.ID, err)
		}
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(err)
	}
	return all, nil
}

// Mark sets an operator's mark.
func (d *Driver) Mark(ctx context.Context, group, id string, m servicegroup.Mark) error {
	if _, err := d.exec(ctx, sqlMark, group, servicegroup.Fold(id), id, string(m)); err != nil {
		return err
	}
	d.hint(ctx, group)
	return nil
}

// Forget removes a record; its incarnations rise on.
func (d *Driver) Forget(ctx context.Context, group, id string, ban bool) error {
	banned := 0
	if ban {
		banned = 1
	}
	if _, err := d.exec(ctx, sqlForget, group, servicegroup.Fold(id), id, banned); err != nil {
		return err
	}
	d.hint(ctx, group)
	return nil
}

func at(us int64) time.Time { return time.UnixMicro(us).UTC() }

func encodeMeta(meta map[string]string) string {
	if len(meta) == 0 {
		return ""
	}
	b, _ := json.Marshal(meta) // strings always encode
	return string(b)
}

func decodeMeta(s string) (meta map[string]string, err error) {
	if s != "" {
		err = json.Unmarshal([]byte(s), &meta)
	}
	return meta, err
}

// encodeHealth is "" for ready and nothing more to say.
func encodeHealth(h drover.Health) string {
	if h == (drover.Health{State: "ready"}) {
		return ""
	}
	b, _ := json.Marshal(stored.HealthOf(h)) // text and a time always encode
	return string(b)
}

func decodeHealth(s string) (h drover.Health, err error) {
	if s == "" {
		return drover.Health{State: "ready"}, nil
	}
	var v stored.Health
	if err = json.Unmarshal([]byte(s), &v); err != nil {
		return h, err
	}
	return v.Health(), nil
}
