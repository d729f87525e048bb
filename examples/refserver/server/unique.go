package server

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/lease"
)

// renewal is the longest time between two renewals of a session, and a little.
const renewal = 11 * time.Second

// unique refuses the name of a node that runs. A session that a killed process left looks alive until its lease is over; it is told
// from a running one by not being renewed.
func (s *Server) unique(ctx context.Context) error {
	if !s.cfg.postgres() {
		return nil // the file is locked
	}
	first, taken, err := s.until(ctx)
	if err != nil || !taken {
		return err
	}
	s.env.Logger.Info("refserver: a session of this name is open; watching whether it lives", "node", s.env.Node)
	for end := s.env.Clock.Now().Add(renewal); s.env.Clock.Now().Before(end); {
		if err := s.env.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		now, taken, err := s.until(ctx)
		switch {
		case err != nil || !taken:
			return err
		case now.After(first):
			return flagError("node", "%q is the name of a node that runs", s.env.Node)
		}
	}
	return nil
}

// until tells when the lease of a live session of this node's name ends.
func (s *Server) until(ctx context.Context) (at time.Time, live bool, err error) {
	sessions, err := s.session.List(ctx)
	for _, i := range sessions {
		if !i.Named && i.Name == s.env.Node && i.State != lease.Dead {
			return i.Until, true, err
		}
	}
	return at, false, err
}
