package server

import (
	"net/http"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/native"
)

// mountNative mounts /v1: the commands of the registry, and the operations of the console.
func (s *Server) mountNative(mux *http.ServeMux, r *dispatch.Registry) (err error) {
	s.native, err = native.New(native.Config{
		Env: s.env, Registry: r, Jobs: s.jobs, Keys: s.cloud, Operations: s.console, MaxWaits: s.cfg.MaxHolds,
	})
	if err != nil {
		return err
	}
	mux.Handle("/v1/", s.native)
	return nil
}

// principal is who asks the console: a caller of /v1, who sees what is his account's and changes only as an administrator, or
// whoever sits at this machine.
func principal(r *http.Request) (console.Principal, error) {
	caller := native.CallerOf(r.Context())
	if caller == nil {
		return console.Local(r)
	}
	who, ok := caller.(interface{ Identity() map[string]string })
	if !ok {
		return console.Principal{}, console.ErrForbidden
	}
	id := who.Identity()
	p := console.Principal{Name: id["username"]}
	if !native.IsAdmin(caller) {
		p.Account, p.ReadOnly = id["account"], true
	}
	return p, nil
}
