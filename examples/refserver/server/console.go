package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// page makes the console, and mounts its page unless that is off. The page answers loopback only; its API is part of /v1 too,
// for those who are known there.
func (s *Server) page(mux *http.ServeMux) (err error) {
	s.console, err = console.New(console.Config{
		Env: s.env, Title: "refserver", Jobs: s.jobs, Queues: s.turns, Leases: s.session, Members: members{s.members}, Periodic: &s.tasks, ReadOnly: s.cfg.Console == "readonly", Auth: s.principal,
	})
	if err != nil {
		return err
	}
	if s.cfg.Console != "off" {
		mux.Handle("/console/", s.guarded(http.StripPrefix("/console", s.console)))
	}
	return nil
}

// Publish hands the jobs' events to the console, which is made after the manager.
func (s *Server) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	if s.console == nil {
		return nil
	}
	return s.console.Publish(ctx, tx, e)
}

// pageLine says where the console is.
func (s *Server) pageLine() string {
	if s.cfg.Console == "off" {
		return ""
	}
	return fmt.Sprintf("console:       %s/console/\n", s.URL())
}
