// Package sqlite is the embedded durable store, by way of bun: one writer, one node.
package sqlite

import (
	"context"
	"io/fs"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Store implements store.Runner and job.Store, syncqueue.Store, … on one
// *bun.DB the host owns. Nothing is opened or closed here.
type Store struct{ db *bun.DB }

type Config struct {
	Prefix string // of table names; "" = none
	Env    drover.Env
}

func New(db *bun.DB, cfg Config) *Store { return &Store{db: db} }

// Join lets the SDK take part in the host's own transaction; wakeups are found by polling
// when the host commits by itself.
func (s *Store) Join(tx bun.Tx) store.Tx { panic("sketch") }

func (s *Store) Migrate(ctx context.Context) error { panic("sketch") } // idempotent
func Migrations() fs.FS                            { panic("sketch") } // for hosts with their own migrator
func (s *Store) Notifier() store.Notifier          { panic("sketch") } // in process; hints only

func (s *Store) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	panic("sketch")
}

// One accessor for each component's Store interface; also Tracker (hypervisor/tracker).
func (s *Store) Jobs() job.Store           { panic("sketch") }
func (s *Store) Queues() syncqueue.Store   { panic("sketch") }
func (s *Store) Leases() lease.Store       { panic("sketch") }
func (s *Store) Ledger() lease.LedgerStore { panic("sketch") }

var _ store.Runner = (*Store)(nil)
