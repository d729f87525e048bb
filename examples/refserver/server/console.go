package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// page mounts the console. Without Auth it answers loopback only.
func (s *Server) page(mux *http.ServeMux) (err error) {
	if s.cfg.Console == "off" {
		return nil
	}
	s.console, err = console.New(console.Config{
		Env: s.env, Title: "refserver", Jobs: s.jobs, Queues: s.turns, Leases: s.session, ReadOnly: s.cfg.Console == "readonly",
	})
	if err != nil {
		return err
	}
	mux.Handle("/console/", http.StripPrefix("/console", s.console))
	return nil
}

// Publish hands the jobs' events to the console, which is made after the manager.
func (s *Server) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	if s.console == nil {
		return nil
	}
	return s.console.Publish(ctx, tx, e)
}

func (s *Server) addPage(g *drover.Group) error {
	if s.console == nil {
		return nil
	}
	return g.Add("console", s.console)
}

// pageLine says where the console is.
func (s *Server) pageLine() string {
	if s.console == nil {
		return ""
	}
	return fmt.Sprintf("console:       %s/console/\n", s.URL())
}
