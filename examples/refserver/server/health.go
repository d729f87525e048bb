package server

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// health answers without authentication and without details beyond the names of checks.
type health struct {
	s        *Server
	draining atomic.Bool // by an operator's word
}

// alive is 200 unless a component has been stuck for long.
func (h *health) alive(w http.ResponseWriter, _ *http.Request) {
	if !h.s.service.Live() {
		reply(w, http.StatusServiceUnavailable, map[string]bool{"alive": false})
		return
	}
	reply(w, http.StatusOK, map[string]bool{"alive": true})
}

// ready is 200 while the node takes work.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	failing := []string{}
	switch state := h.s.service.State(); {
	case state == "new" || state == "starting":
		failing = append(failing, "starting")
	case state != "running" || h.draining.Load():
		failing = append(failing, "draining")
	}
	if _, err := h.s.session.Held(); err != nil {
		failing = append(failing, "session")
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := h.s.bun.PingContext(ctx); err != nil {
		failing = append(failing, "store")
	}
	if len(failing) > 0 {
		reply(w, http.StatusServiceUnavailable, map[string][]string{"failing": failing})
		return
	}
	reply(w, http.StatusOK, map[string]bool{"ready": true})
}

func (h *health) version(w http.ResponseWriter, _ *http.Request) {
	v := map[string]string{"version": "devel"}
	if info, ok := debug.ReadBuildInfo(); ok {
		v["version"], v["go"] = info.Main.Version, info.GoVersion
	}
	reply(w, http.StatusOK, v)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
