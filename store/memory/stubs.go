package memory

import (
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/syncqueue"
)

func (s *Store) Jobs() job.Store           { panic("sketch") }
func (s *Store) Queues() syncqueue.Store   { panic("sketch") }
func (s *Store) Leases() lease.Store       { panic("sketch") }
func (s *Store) Ledger() lease.LedgerStore { panic("sketch") }
