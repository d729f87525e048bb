package tracker

import (
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
)

// Status is what this node's tracker is at.
type Status struct {
	Hosts []HostStatus // sorted by host
	Locks []LockStatus // held now; none of a healthy tracker is held for long
}

// HostStatus is one host's.
type HostStatus struct {
	Host       string
	Generation int64         // of the snapshot; 0 = none
	Age        time.Duration // of the last successful audit, or since the first sight
	Stale      bool          // the last audit could not read the host
	Phase      string        // of the audit that runs; "" = none does
	Since      time.Time     // when that began
	Err        error         // of the last audit
}

// LockStatus is a lock that is held.
type LockStatus struct {
	Lock, Operation string
	Host, Claim     string // what for
	Age             time.Duration
	Waiting         int
}

// Status tells. It does no I/O and never blocks.
func (t *Tracker) Status() Status {
	var s Status
	now := t.env.Clock.Now()
	hosts := *t.hosts.Load()
	for _, id := range sortedKeys(hosts) {
		h := hosts[id]
		a := h.audit.Load()
		x := HostStatus{Host: id, Stale: a.stale, Err: a.err}
		if r := h.snap.Load(); r != nil {
			x.Generation = r.Generation
		}
		if !a.since.IsZero() {
			x.Age = now.Sub(a.since)
		}
		if a.done != nil {
			x.Since, x.Phase = a.began, h.phaseNow()
		}
		s.Hosts = append(s.Hosts, x)
	}
	for _, l := range t.watch.Held() {
		s.Locks = append(s.Locks, LockStatus{l.Lock, l.Op, l.Host, l.Claim, l.Age, l.Waiting})
	}
	return s
}

func (h *host) phaseNow() string {
	if p := h.phase.Load(); p != nil {
		return *p
	}
	return "starting"
}

// Health is ready while every host that is audited has been within the last three spacings, degraded up to ten, then failing. Its
// error names the host that waits longest, since when, and what its audit is at. It does no I/O and never blocks.
func (t *Tracker) Health() drover.Health {
	now := t.env.Clock.Now()
	h := drover.Health{Name: "tracker", State: "ready"}
	hosts := *t.hosts.Load()
	for _, id := range sortedKeys(hosts) {
		a := hosts[id].audit.Load()
		age := now.Sub(a.since)
		if a.since.IsZero() || age < 3*t.cfg.Spacing || h.State != "ready" && !a.since.Before(h.Since) {
			continue
		}
		h.State, h.Since = "degraded", a.since
		if age >= 10*t.cfg.Spacing {
			h.State = "failing"
		}
		at := "waiting for the next"
		if a.done != nil {
			at = hosts[id].phaseNow()
		}
		if a.err != nil && a.done == nil {
			at += ", the last: " + a.err.Error()
		}
		h.Err = fmt.Errorf("tracker: audit stalled: host %s, since %s, %s", id, a.since.UTC().Format(time.RFC3339), at)
	}
	return h
}
