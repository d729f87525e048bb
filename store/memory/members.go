package memory

import (
	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
	members "github.com/drover-cloud/drover/servicegroup/memory"
)

// Members is package servicegroup's memory driver on this store's clock.
func (s *Store) Members() servicegroup.Driver {
	s.init()
	return s.members
}

func (s *Store) newMembers() { s.members = &members.Driver{Env: drover.Env{Clock: s.clock}} }
