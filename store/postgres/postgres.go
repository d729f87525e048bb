package postgres

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup/db"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/sqlstore"
	"github.com/drover-cloud/drover/syncqueue"
)

// Store implements store.Runner and the stores of all components on one *bun.DB the host owns. It opens no pool and needs
// no closing; while somebody sleeps on its Notifier it keeps one connection of its own for LISTEN.
type Store struct {
	db     *bun.DB
	env    drover.Env
	schema string
	bad    error // of Config
	prefix string
	hints  *notifier
	pipes  struct {
		once     sync.Once
		prepares bool
	}

	members   sync.Once
	member    *db.Driver
	memberErr error

	mu       sync.Mutex
	sql      map[string]string // statements with their tables' full names
	cursors  map[cursorKey]*cursor
	probes   map[int64]time.Time // when a session last asked
	foreigns map[int64]time.Time
	arrivals map[int64]time.Time
	purges   map[int64]time.Time
	specials map[string]bool // kinds of keys met in drover_regime
}

// Config of a Store; the zero value is ready.
type Config struct {
	// Schema holds drover's tables; Migrate makes it. "" means the connection's search_path. Must match
	// ^[a-z_][a-z0-9_]{0,62}$.
	Schema string
	// Env: Clock paces retries and notifications, Logger, Go and Rand as everywhere. Stored times are the server's.
	Env drover.Env
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// New touches no database. A bad Config is answered, as drover.ErrConfig, by Migrate and by every transaction.
func New(db *bun.DB, cfg Config) *Store {
	s := &Store{db: db, env: cfg.Env.Defaults(), schema: cfg.Schema, cursors: map[cursorKey]*cursor{}, probes: map[int64]time.Time{}, foreigns: map[int64]time.Time{}, arrivals: map[int64]time.Time{}, purges: map[int64]time.Time{}, specials: map[string]bool{}}
	switch {
	case db == nil:
		s.bad = fmt.Errorf("postgres: %w: DB: is nil", drover.ErrConfig)
	case cfg.Schema != "" && !schemaName.MatchString(cfg.Schema):
		s.bad = fmt.Errorf("postgres: %w: Schema: %.64q does not match %s", drover.ErrConfig, cfg.Schema, schemaName)
	}
	prefix := "drover_"
	if s.schema != "" {
		prefix = `"` + s.schema + `".drover_`
	}
	s.sql = map[string]string{}
	s.prefix = prefix
	s.hints = newNotifier(s)
	return s
}

// text is a statement for this store's schema.
func (s *Store) text(q string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	full, ok := s.sql[q]
	if !ok {
		full = strings.ReplaceAll(q, "@", s.prefix)
		s.sql[q] = full
	}
	return full
}

// Jobs is the store of package job; it is a job.Turner and a job.Finisher too.
func (s *Store) Jobs() job.Store { return jobs{s} }

// Queues is the store of package syncqueue.
func (s *Store) Queues() syncqueue.Store { return queues{s} }

// Leases keeps sessions and named leases.
func (s *Store) Leases() lease.Store { return leases{s} }

// Ledger keeps the due times of periodic tasks.
func (s *Store) Ledger() lease.LedgerStore { return ledger{s} }

// Tracker keeps hosts and claims.
func (s *Store) Tracker() tracker.Store {
	return sqlstore.Trackers{Dialect: s.dialect()}
}

// Agents keeps calls of agents that are outstanding.
func (s *Store) Agents() agent.Store { return sqlstore.Agents{Dialect: s.dialect()} }

// Outbox keeps what is sent after commit.
func (s *Store) Outbox() bus.Outbox { return sqlstore.Outbox{Dialect: s.dialect()} }

// Records keeps what services remember between their lives.
func (s *Store) Records() drover.RecordStore { return sqlstore.Records{Dialect: s.dialect(), Tx: s} }

// Commits keeps what a conductor has done for hosts.
func (s *Store) Commits() conductor.Store { return sqlstore.Commits{Dialect: s.dialect()} }

func (s *Store) dialect() sqlstore.Dialect {
	return sqlstore.Dialect{
		Of:    s.Bun,
		Names: func(query string) string { return strings.ReplaceAll(query, "drover_", s.prefix) },
		Lock:  ` FOR UPDATE`,
	}
}

// Notifier wakes sleepers of this process directly and those of others by NOTIFY; hints only.
func (s *Store) Notifier() store.Notifier { return s.hints }

var _ job.DB = (*Store)(nil)
