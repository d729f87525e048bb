// Package db is the servicegroup driver on a *bun.DB: PostgreSQL or SQLite. Its table, drover_members, is made by the
// migrations of store/postgres and store/sqlite, whose Members is this driver on their database.
//
// # Guarantees
//
//   - It keeps every obligation of [servicegroup.Driver]; each write is one statement, race-safe by itself.
//   - PostgreSQL: Seen and Age are by the server's clock. SQLite, which has one node: by Env.Clock.
//   - A beat is one update that touches no index. In PostgreSQL beats have a connection of their own, taken from the pool
//     once, so that they never wait behind other work, and do not wait for the server's disk.
//
// # Not guaranteed
//
//   - The record of a member that was silent for longer than Config.Retain.
//   - A beat survives a crash of the server: the next one repeats it.
//   - Hints, without Config.Notify and Config.Hint: then watchers poll.
package db

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// Config of a Driver; the zero value is ready for tables in the connection's search path.
type Config struct {
	Env    drover.Env // Clock is the driver's clock on SQLite; PostgreSQL has its own
	Schema string     // of the table, PostgreSQL; lower-case letters, digits and _
	Prefix string     // of the table's name, SQLite; likewise

	// Retain is for how long silent members' records are kept; 0: servicegroup.Retain, negative: for ever. It must be much longer
	// than any Group's Down.
	Retain time.Duration

	// Notify wakes on what Hint sends, as store.Notifier does; nil: watchers poll.
	Notify interface {
		Wake(topic string) (c <-chan struct{}, stop func())
	}
	// Hint wakes the sleepers on topic, of every process; nil: nobody is told.
	Hint func(ctx context.Context, topic string) error
}

// Driver is safe for concurrent use. It opens and closes nothing; the *bun.DB is the host's.
type Driver struct {
	cfg Config
	db  *bun.DB
	pg  bool
	own chan *sql.Conn // of beats, PostgreSQL
	sql map[string]string

	mu     sync.Mutex
	here   int       // members joined through this driver
	purged time.Time // when silent members' records were last looked for
}

var names = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// New touches no database. [servicegroup.ErrConfig] names the field.
func New(db *bun.DB, cfg Config) (*Driver, error) {
	bad := func(field, reason string) (*Driver, error) {
		return nil, fmt.Errorf("%w: db: %s: %s", servicegroup.ErrConfig, field, reason)
	}
	switch {
	case db == nil:
		return bad("DB", "is nil")
	case cfg.Schema != "" && !names.MatchString(cfg.Schema):
		return bad("Schema", fmt.Sprintf("%.64q does not match %s", cfg.Schema, names))
	case cfg.Prefix != "" && !names.MatchString(cfg.Prefix):
		return bad("Prefix", fmt.Sprintf("%.64q does not match %s", cfg.Prefix, names))
	}
	cfg.Env = cfg.Env.Defaults()
	if cfg.Retain == 0 {
		cfg.Retain = servicegroup.Retain
	}
	d := &Driver{cfg: cfg, db: db, own: make(chan *sql.Conn, 1), sql: map[string]string{}}
	switch db.Dialect().Name() {
	case dialect.PG:
		d.pg = true
	case dialect.SQLite:
	default:
		return bad("DB", "dialect "+db.Dialect().Name().String()+" is neither PostgreSQL nor SQLite")
	}
	table := cfg.Prefix + "drover_members"
	if cfg.Schema != "" {
		table = `"` + cfg.Schema + `".` + table
	}
	for _, q := range []string{sqlJoin, sqlBeat, sqlLook, sqlLeave, sqlMembers, sqlMark, sqlForget, sqlPurge} {
		d.sql[q] = d.text(strings.ReplaceAll(q, "@members", table))
	}
	d.own <- nil
	return d, nil
}

const (
	// The conflict's row lock makes two joins of one ID take turns. Index: drover_members_pkey.
	sqlJoin = `INSERT INTO @members AS m (grp, key, id, instance, incarnation, addr, version, meta, health, beat, joined, seen, state, mark, banned)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, @now, @now, 'joined', '', 0)
ON CONFLICT (grp, key) DO UPDATE SET id = excluded.id, instance = excluded.instance, addr = excluded.addr, version = excluded.version,
  meta = excluded.meta, health = excluded.health, beat = 1, joined = excluded.joined, seen = excluded.seen, state = 'joined',
  incarnation = CASE WHEN m.incarnation >= excluded.incarnation THEN m.incarnation + 1 ELSE excluded.incarnation END
WHERE m.banned = 0 AND NOT (m.state = 'joined' AND m.instance = excluded.instance)
RETURNING incarnation, beat, joined, seen, mark`

	// No indexed column changes: heap-only. Index: drover_members_pkey.
	sqlBeat = `UPDATE @members SET beat = beat + 1, seen = @now, health = ?, meta = ?
WHERE grp = ? AND key = ? AND incarnation = ? AND instance = ? AND state = 'joined' AND banned = 0`

	sqlLook  = `SELECT incarnation, instance, state, banned, beat, joined, seen, mark FROM @members WHERE grp = ? AND key = ?`
	sqlLeave = `UPDATE @members SET state = 'left' WHERE grp = ? AND key = ? AND incarnation = ? AND instance = ? AND state = 'joined'`

	sqlMembers = `SELECT id, instance, incarnation, addr, version, meta, health, beat, joined, seen, state, mark, @now
FROM @members WHERE grp = ? AND (state <> 'none' OR mark <> '') ORDER BY key`

	sqlMark = `INSERT INTO @members (grp, key, id, instance, incarnation, addr, version, meta, health, beat, joined, seen, state, mark, banned)
VALUES (?, ?, ?, '', 0, '', '', '', '', 0, 0, 0, 'none', ?, 0) ON CONFLICT (grp, key) DO UPDATE SET mark = excluded.mark`

	// The row stays, for its incarnation.
	sqlForget = `INSERT INTO @members (grp, key, id, instance, incarnation, addr, version, meta, health, beat, joined, seen, state, mark, banned)
VALUES (?, ?, ?, '', 0, '', '', '', '', 0, 0, 0, 'none', '', ?)
ON CONFLICT (grp, key) DO UPDATE SET state = 'none', mark = '', banned = excluded.banned`

	// Once an hour and process: index drover_members_pkey, all of the group.
	sqlPurge = `DELETE FROM @members WHERE grp = ? AND seen < @now - ? AND banned = 0 AND mark NOT IN ('forced-down', 'maintenance')`
)

// text is q for the dialect, but for SQLite's time.
func (d *Driver) text(q string) string {
	if !d.pg {
		return q
	}
	q = strings.ReplaceAll(q, "@now", `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`)
	var b strings.Builder
	n := 0
	for _, r := range q {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

// now is q with the time in it, where the server has none.
func (d *Driver) now(q string) string {
	q = d.sql[q]
	if d.pg {
		return q
	}
	return strings.ReplaceAll(q, "@now", strconv.FormatInt(d.cfg.Env.Clock.Now().UnixMicro(), 10))
}

// exec answers how many rows it touched.
func (d *Driver) exec(ctx context.Context, q string, args ...any) (int64, error) {
	r, err := d.db.DB.ExecContext(ctx, d.now(q), args...)
	if err != nil {
		return 0, unavailable(err)
	}
	return r.RowsAffected()
}

func unavailable(err error) error { return fmt.Errorf("%w: db: %w", servicegroup.ErrUnavailable, err) }

// Topic is the topic of hints about a group.
func Topic(group string) string { return "members/" + group }

// hint tells the others; a lost hint is healed by their next read.
func (d *Driver) hint(ctx context.Context, group string) {
	if d.cfg.Hint != nil {
		_ = d.cfg.Hint(ctx, Topic(group))
	}
}

// Watch hints joins, leaves and marks. [servicegroup.ErrUnsupported] without Config.Notify.
func (d *Driver) Watch(ctx context.Context, group string) (<-chan struct{}, error) {
	if d.cfg.Notify == nil {
		return nil, fmt.Errorf("%w: db: no Notify", servicegroup.ErrUnsupported)
	}
	c, stop := d.cfg.Notify.Wake(Topic(group))
	context.AfterFunc(ctx, stop)
	return c, nil
}

var _ interface {
	servicegroup.Driver
	servicegroup.Watcher
	servicegroup.Marker
	servicegroup.Forgetter
} = (*Driver)(nil)
