package sqlite

import (
	"context"
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
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup/db"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/internal/hub"
	"github.com/drover-cloud/drover/store/internal/sqlstore"
)

// ErrConfig says which field of Config is out of its bounds. It is [drover.ErrConfig] too.
var ErrConfig = fmt.Errorf("sqlite: %w", drover.ErrConfig)

// Config of a Store; the zero value is ready.
type Config struct {
	Prefix string     // of table and index names: lower-case letters, digits and _, at most 32; "" = none (tables are called drover_…)
	Env    drover.Env // Clock is the store's clock; Go is not used
}

// Store implements store.Runner and, by its accessors, every component's Store interface, on one *bun.DB the host owns.
// It may be used concurrently.
type Store struct {
	db    *bun.DB
	env   drover.Env
	pre   string // put before each drover_ in a statement
	bad   error  // of Config
	gate  chan struct{}
	hints hub.Hub
	kept  kept // statements of Read

	members   sync.Once
	member    *db.Driver
	memberErr error

	mu    sync.Mutex
	last  time.Time // the highest Now given out
	epoch int64     // the highest epoch given out, committed or not
}

var prefixes = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

// New makes a store of db. A bad Config is reported by Migrate and by every transaction, as [ErrConfig].
func New(db *bun.DB, cfg Config) *Store {
	s := &Store{db: db, env: cfg.Env.Defaults(), pre: cfg.Prefix, gate: make(chan struct{}, 1)}
	switch {
	case db == nil:
		s.bad = fmt.Errorf("%w: db: nil", ErrConfig)
	case cfg.Prefix != "" && !prefixes.MatchString(cfg.Prefix):
		s.bad = fmt.Errorf("%w: Prefix: %q: lower-case letters, digits and _, not a digit first, at most 32", ErrConfig, cfg.Prefix)
	}
	return s
}

// names puts the prefix before the table and index names of a statement.
func (s *Store) names(query string) string {
	if s.pre == "" {
		return query
	}
	return strings.ReplaceAll(query, "drover_", s.pre+"drover_")
}

// now is Env.Clock cut to microseconds, never below an earlier answer.
func (s *Store) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.env.Clock.Now().Round(0).UTC().Truncate(time.Microsecond); t.After(s.last) {
		s.last = t
	}
	return s.last
}

// Notifier wakes sleepers of this process, after commit.
func (s *Store) Notifier() store.Notifier { return &s.hints }

// Leases keeps sessions and named leases.
func (s *Store) Leases() lease.Store { return sqlstore.Leases{Dialect: s.dialect()} }

// Ledger keeps the due times of periodic tasks.
func (s *Store) Ledger() lease.LedgerStore { return sqlstore.Ledger{Dialect: s.dialect()} }

// Tracker keeps hosts and claims.
func (s *Store) Tracker() tracker.Store { return sqlstore.Trackers{Dialect: s.dialect()} }

// Agents keeps calls of agents that are outstanding.
func (s *Store) Agents() agent.Store { return sqlstore.Agents{Dialect: s.dialect()} }

// Outbox keeps what is sent after commit.
func (s *Store) Outbox() bus.Outbox { return sqlstore.Outbox{Dialect: s.dialect()} }

// Records keeps what services remember between their lives.
func (s *Store) Records() drover.RecordStore {
	return sqlstore.Records{Dialect: s.dialect(), Tx: s}
}

// Commits keeps what a conductor has done for hosts.
func (s *Store) Commits() conductor.Store { return sqlstore.Commits{Dialect: s.dialect()} }

func (s *Store) dialect() sqlstore.Dialect {
	return sqlstore.Dialect{
		Of: s.Bun,
		Epoch: func(ctx context.Context, x store.Tx) (int64, error) {
			t, err := s.of(x)
			if err != nil {
				return 0, err
			}
			return t.nextEpoch(ctx)
		},
		Store: func(ctx context.Context, x store.Tx) (string, error) {
			t, err := s.of(x)
			if err != nil {
				return "", err
			}
			return t.storeID(ctx)
		},
		Names: s.names,
		Busy:  `EXISTS (SELECT 1 FROM drover_job j WHERE j.session_epoch = s.epoch AND j.state = 'running')`,
	}
}

// AfterFailover raises the store's incarnation, as after a restore that may have lost commits: every session is over and
// every token handed out before is lower than any that follows.
func (s *Store) AfterFailover(ctx context.Context) error {
	return s.InTx(ctx, func(ctx context.Context, x store.Tx) error {
		t, err := s.of(x)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE drover_meta SET incarnation = incarnation + 1, epoch = epoch + ?`, int64(1)<<32); err != nil {
			return err
		}
		_, err = t.exec(ctx, `UPDATE drover_session SET until = 0 WHERE state <> 'dead'`)
		return err
	})
}

var _ store.Runner = (*Store)(nil)
