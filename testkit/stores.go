package testkit

import (
	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// Stores is everything a store package offers.
type Stores interface {
	store.Runner
	Jobs() job.Store
	Queues() syncqueue.Store
	Leases() lease.Store
	Ledger() lease.LedgerStore
	Tracker() tracker.Store
	Outbox() bus.Outbox
	Agents() agent.Store
	Commits() conductor.Store
	Members() servicegroup.Driver
	Records() drover.RecordStore
	Notifier() store.Notifier
}
