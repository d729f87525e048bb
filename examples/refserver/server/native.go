package server

import (
	"net/http"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/native"
)

// mountNative mounts /v1: the commands of the registry, and the operations of the console.
func (s *Server) mountNative(mux *http.ServeMux, r *dispatch.Registry) (err error) {
	s.native, err = native.New(native.Config{
		Env: s.env, Registry: r, Jobs: s.jobs, Keys: s.cloud, Operations: s.console, MaxWaits: s.cfg.MaxHolds,
		Authenticate: s.known, Rate: s.rate, Refused: s.refused, Address: s.cfg.address,
	})
	if err != nil {
		return err
	}
	mux.Handle("/v1/", s.native)
	return nil
}
