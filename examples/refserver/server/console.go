package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover/console"
)

// page makes the console, and mounts its page unless that is off. The page answers loopback only; its API is part of /v1 too,
// for those who are known there.
func (s *Server) page(mux *http.ServeMux) (err error) {
	cfg := console.Config{
		Env: s.env, Title: "refserver", Jobs: s.jobs, Queues: s.turns, Leases: s.session, Members: members{s.members}, Periodic: &s.tasks, ReadOnly: s.cfg.Console == "readonly", Auth: s.principal,
		Bus:    s.bus,
		Drain:  func(ctx context.Context) error { return s.cloud.Drain(ctx, true) },
		Resume: func(ctx context.Context) error { return s.cloud.Drain(ctx, false) },
	}
	if s.link != nil {
		cfg.Nodes = nodes{s}
	}
	if s.console, err = console.New(cfg); err != nil {
		return err
	}
	if s.link != nil {
		s.link.Handle(consoleTopic, "ask", s.console.Answer)
	}
	if s.cfg.Console != "off" {
		mux.Handle("/console/", s.guarded(http.StripPrefix("/console", s.console)))
	}
	return nil
}

// pageLine says where the console is.
func (s *Server) pageLine() string {
	if s.cfg.Console == "off" {
		return ""
	}
	return fmt.Sprintf("console:       %s/console/\n", s.URL())
}
