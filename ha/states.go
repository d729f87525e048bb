package ha

import "time"

// state does what is due in the state that the host is in; on is the trigger of its last beat, which moved nothing.
func (d *decider) state(h *Watched, on trigger) {
	switch h.State {
	case Up, Draining:
		switch {
		case h.State == Draining && h.Seen.Drained && d.move(h, onDrained):
		case h.Seen.Hinted && d.move(h, onHint):
		default:
			d.silence(h)
		}
	case Suspect:
		d.slot(h, onSlot)
	case Investigating:
		d.investigate(h)
	case Checking:
		d.check(h)
	case Degraded:
		d.degraded(h)
	case Repairing:
		d.repairing(h)
	case Condemned:
		d.condemned(h)
	case Fencing:
		d.fencing(h)
	case Blocked:
		d.blocked(h)
	case Fenced:
		if d.closed(h) {
			d.move(h, onClosed)
		}
	case Rejoining:
		d.rejoining(h, on)
	}
}

// silence suspects a host that is silent for too long. What this monitor could not have heard does not count.
func (d *decider) silence(h *Watched) bool {
	switch {
	case !d.silent(h):
		return false
	case d.p.bare(h.Host):
		return d.move(h, onGoodbye)
	}
	return d.move(h, onSilence)
}

// silent also asks to be called when the host will be.
func (d *decider) silent(h *Watched) bool {
	if d.s.Self.Stalled {
		return false
	}
	since := later(later(h.Seen.Last, h.Seen.Since), d.s.Self.Good)
	if !d.passed(since, d.p.silence(d.s.Self.Score)) {
		return false
	}
	thawed := d.domain(h.Host).Thawed
	return thawed.IsZero() || d.due(thawed.Add(d.p.silence(1)))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// slot sends a probe out if one is free.
func (d *decider) slot(h *Watched, on trigger) {
	if d.slots > 0 && d.move(h, on) {
		d.slots--
		d.look(h)
	}
}

func (d *decider) look(h *Watched) { d.act(Action{Kind: Look, Host: h.Host.ID, From: h.State}) }

// found is what the last probe says: the trigger of evidence, "" if it saw neither life nor death; in: it is over and fresh.
func (d *decider) found(h *Watched) (on trigger, in bool) {
	p := h.Seen.Probe
	switch {
	case p == nil, !p.Ended.IsZero() && d.now.Sub(p.Ended) > d.p.Timing.Stale:
		d.look(h) // the last one was lost with its monitor, or is too old
		return "", false
	case p.Ended.IsZero():
		return "", false
	}
	return p.evidence(), true
}

// evidence is the trigger that the findings are, "" if they are neither of life nor of death. Their order does not count.
func (p *Probe) evidence() trigger {
	alive, dead := false, false
	for _, f := range p.Findings {
		alive = alive || f.Verdict == Alive
		dead = dead || f.Verdict == Dead && f.Proof != nil
	}
	switch {
	case alive && dead:
		return onConflict
	case alive:
		return onAlive
	case dead:
		return onDead
	}
	return ""
}

// witnesses counts the channels on which the host is silent, the control network with them.
func (d *decider) witnesses(h *Watched) (n int) {
	seen := []string{}
	if !h.Seen.Sick || d.now.Sub(h.Seen.Last) > d.p.silence(1) {
		n++
	}
next:
	for _, f := range h.Seen.Probe.Findings {
		if f.Verdict != Silent || f.Channel == "" {
			continue
		}
		for _, c := range seen {
			if c == f.Channel {
				continue next
			}
		}
		seen = append(seen, f.Channel)
		n++
	}
	return n
}

func (d *decider) investigate(h *Watched) {
	on, in := d.found(h)
	switch {
	case !in:
		return
	case on == onDead && !d.warm(h):
		return
	case on != "":
		d.move(h, on)
		return
	}
	p := h.Seen.Probe
	ailing := h.Seen.Sick && d.now.Sub(h.Seen.Last) <= d.p.silence(1)
	n, want := d.witnesses(h), d.domain(h.Host).Channels
	switch {
	case d.p.Checker:
		d.move(h, onNothing)
	case ailing:
		d.move(h, onAiling)
	case n < want:
		d.unwitnessed(h, n, want)
	case n < 2 && !d.past(p.Ended, d.p.Timing.Window):
	case d.silent(h) && d.warm(h):
		d.move(h, onNobody)
	}
}

// past tells whether wait has gone by since, by the monitor's clock: exactly so is enough.
func (d *decider) past(since time.Time, wait time.Duration) bool {
	if left := since.Add(wait).Sub(d.now); left > 0 {
		d.in(left)
		return false
	}
	return true
}

// unwitnessed keeps a host whose domain wants more silent channels under investigation.
func (d *decider) unwitnessed(h *Watched, n, want int) {
	if d.due(h.Since.Add(d.p.ChannelAlarm)) && h.Alarmed.Before(h.Since) {
		h.Alarmed = d.s.Store
		d.alarm(h, "host %s is silent on %d of the %d channels that its domain has", h.Host.ID, n, want)
		d.save(h, "")
		return
	}
	if d.past(h.Seen.Probe.Ended, d.p.ChannelRetry) {
		d.look(h)
	}
}

// warm says that this monitor has watched the host for long enough to condemn it.
func (d *decider) warm(h *Watched) bool {
	return !d.s.Self.Stalled && d.past(h.Seen.Since, d.p.Timing.WarmUp)
}

// check counts samples of activity.
func (d *decider) check(h *Watched) {
	t := d.p.Timing
	if s := h.Seen.Sample; s != nil && d.now.Sub(s.At) <= t.Stale {
		if s.Err != "" {
			d.move(h, onBadCheck)
			return
		}
		h.Samples, h.Sampled = h.Samples+1, d.s.Store
		if !s.Active {
			h.Idle++
		}
		if h.Samples < t.Samples {
			d.save(h, "")
			return
		}
	}
	switch {
	case h.Samples < t.Samples:
		if !h.Seen.Asking && d.due(h.Sampled.Add(t.ActivityInterval)) {
			d.act(Action{Kind: Measure, Host: h.Host.ID, From: h.State})
		}
	case float64(h.Idle) <= float64(t.Samples)*t.Ratio:
		d.move(h, onActive)
	case d.p.Repairer && h.Repairs < t.RepairAttempts:
		d.move(h, onIdle)
	case d.warm(h):
		d.move(h, onIdleDone)
	}
}

func (d *decider) degraded(h *Watched) {
	lost := later(h.Lost, h.Alarmed)
	switch {
	case !lost.IsZero() && d.due(lost.Add(d.p.Timing.AlertWait)):
		h.Alarmed = d.s.Store
		d.alarm(h, "host %s is without a healthy agent since %s: %s", h.Host.ID, h.Lost.UTC().Format(time.RFC3339), h.Reason)
		d.save(h, "")
	case d.p.bare(h.Host):
	case d.due(h.Until):
		d.slot(h, onRecheck)
	}
}

func (d *decider) repairing(h *Watched) {
	switch r := h.Seen.Repair; {
	case r == nil:
	case r.Proof != nil:
		d.moveWith(h, onRepairOff, func(rec *Record) { rec.Proof = r.Proof.at(rec.Epoch) })
	case r.Err == "":
		d.move(h, onRepaired)
	case h.Repairs < d.p.Timing.RepairAttempts:
		h.Repairs++
		d.save(h, OrderRepair)
	case d.warm(h):
		d.move(h, onUseless)
	}
}

// at is a copy of p for the epoch that it caused.
func (p *Proof) at(epoch int64) *Proof {
	c := *p
	c.Epoch = epoch
	return &c
}

func (d *decider) rejoining(h *Watched, on trigger) {
	if on == onBeat && !h.Rejoin.IsZero() { // it has come back from its repair
		h.Rejoin = time.Time{}
		d.save(h, "")
		return
	}
	switch {
	case !h.Rejoin.IsZero():
		if d.due(h.Rejoin) && d.warm(h) {
			d.move(h, onNoReturn)
		}
	case h.Seen.HookError != "":
		d.move(h, onHookError)
	case d.silence(h):
	case !h.Seen.Connected:
		if !h.Seen.Connecting {
			d.act(Action{Kind: Connect, Host: h.Host.ID, From: h.State})
		}
	case d.due(h.Until):
		d.move(h, onReady)
	}
}
