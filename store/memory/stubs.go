package memory

import (
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func (s *Store) Jobs() job.Store         { panic("sketch") }
func (s *Store) Queues() syncqueue.Store { panic("sketch") }

// sessionBusy tells whether a running job refers to the session: its row must not be forgotten. Comes with Jobs.
func (s *Store) sessionBusy(epoch int64) bool { return false }
