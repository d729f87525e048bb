package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
)

// page makes the console, and mounts its page unless that is off. The page answers loopback only; its API is part of /v1 too,
// for those who are known there.
func (s *Server) page(mux *http.ServeMux) (err error) {
	cfg := console.Config{
		Env: s.env, Title: "refserver", Jobs: s.jobs, Queues: s.turns, Leases: s.session, Members: members{s.members}, Periodic: &s.tasks, ReadOnly: s.cfg.Console == "readonly", Auth: s.principal,
		Bus:    s.bus,
		Tell:   tell,
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

// tell is what users are told of an error, as everywhere else: what is inside is for administrators.
func tell(e job.Error) job.Error {
	p := dispatch.Public(&dispatch.Error{Code: dispatch.Code(cmp.Or(e.Code, string(dispatch.Internal))), Text: e.Text, Meta: e.Meta}, false)
	return job.Error{Code: e.Code, Text: p.Text, Meta: p.Meta}
}

// pageLine says where the console is.
func (s *Server) pageLine() string {
	if s.cfg.Console == "off" {
		return ""
	}
	return fmt.Sprintf("console:       %s/console/\n", s.URL())
}
