package conductor

import (
	"fmt"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// faces are the Stores by whoever does their operations. Each takes transactions of the same value only.
type faces struct {
	f face
}

// Jobs is a job.Store and job.Finisher.
func (s faces) Jobs() job.Store { return jobs(s) }

// Queues are the lines of jobs.
func (s faces) Queues() syncqueue.Store { return queues(s) }

// Leases are sessions and named leases.
func (s faces) Leases() lease.Store { return leases(s) }

// Ledger is of due times.
func (s faces) Ledger() lease.LedgerStore { return ledger(s) }

// Tracker is of hosts and claims on them.
func (s faces) Tracker() tracker.Store { return trackers(s) }

// Outbox keeps events of transactions.
func (s faces) Outbox() bus.Outbox { return outbox(s) }

// inner are a node's own stores, by the name of their table.
type inner map[string]any

// innerOf finds the accessors of a store package.
func innerOf(s any) inner {
	in := inner{}
	if o, ok := s.(interface{ Jobs() job.Store }); ok {
		in["job"] = o.Jobs()
	}
	if o, ok := s.(interface{ Queues() syncqueue.Store }); ok {
		in["queue"] = o.Queues()
	}
	if o, ok := s.(interface{ Leases() lease.Store }); ok {
		in["lease"] = o.Leases()
	}
	if o, ok := s.(interface{ Ledger() lease.LedgerStore }); ok {
		in["ledger"] = o.Ledger()
	}
	if o, ok := s.(interface{ Tracker() tracker.Store }); ok {
		in["tracker"] = o.Tracker()
	}
	if o, ok := s.(interface{ Outbox() bus.Outbox }); ok {
		in["outbox"] = o.Outbox()
	}
	if o, ok := s.(interface{ Members() servicegroup.Driver }); ok {
		in["member"] = o.Members()
	}
	return in
}

// tables are the methods of drover's own stores.
var tables = map[string]table{
	"job": jobMethods, "queue": queueMethods, "lease": leaseMethods, "ledger": ledgerMethods, "tracker": trackerMethods, "outbox": outboxMethods,
}

func missing(m *method) error { return fmt.Errorf("conductor: %s: %w", m, bus.ErrUnsupported) }

var _ store.Runner = (*Checked)(nil)
