package ha

import (
	"fmt"
	"time"
)

// Decide is the policy: what to do about s at now, by the monitor's clock. At most one transition per host; call it again once the
// actions are applied, at the latest when Wake says.
func Decide(s Snapshot, now time.Time) []Action {
	d := &decider{s: &s, p: &s.Policy, now: now, slots: s.Slots, byHost: byHost{}, moved: map[string]bool{}}
	for i := range s.Rows {
		d.byHost.add(&s.Rows[i])
	}
	d.pace()
	for i := range s.Hosts {
		if h := s.Hosts[i]; h.Mine {
			d.host(&h)
		}
	}
	d.rows()
	if !d.wake.IsZero() {
		d.out = append(d.out, Action{Kind: Wake, At: d.wake})
	}
	return d.out
}

// decider is one Decide.
type decider struct {
	s       *Snapshot
	p       *Policy
	now     time.Time // the monitor's clock
	slots   int
	domains []domain // sorted
	byHost  byHost
	moved   map[string]bool // hosts with a transition: their rows are looked at the next time
	out     []Action
	wake    time.Time
}

// in wants to be called again after wait.
func (d *decider) in(wait time.Duration) {
	if at := d.now.Add(max(wait, 0)); d.wake.IsZero() || at.Before(d.wake) {
		d.wake = at
	}
}

// due tells whether at, by the store's clock, has come; else it asks to be called then.
func (d *decider) due(at time.Time) bool {
	if wait := at.Sub(d.s.Store); wait > 0 {
		d.in(wait)
		return false
	}
	return true
}

// passed tells whether more than wait has passed since, by the monitor's clock.
func (d *decider) passed(since time.Time, wait time.Duration) bool {
	if left := since.Add(wait).Sub(d.now); left >= 0 {
		d.in(left + 1)
		return false
	}
	return true
}

func (d *decider) act(a Action) { d.out = append(d.out, a) }

func (d *decider) alarm(h *Watched, format string, args ...any) {
	d.act(Action{Kind: Alarm, Host: h.Host.ID, From: h.State, Text: fmt.Sprintf(format, args...)})
}

// host decides on one host: the first thing that is to be done.
func (d *decider) host(h *Watched) {
	if h.State == Removed {
		return
	}
	if h.Owner != d.s.Self.Owner {
		r := h.Record
		r.Owner = d.s.Self.Owner
		r.Samples, r.Idle, r.Repairs, r.Sampled = 0, 0, 0, time.Time{} // of the former owner
		d.act(Action{Kind: Claim, Host: r.Host.ID, From: r.State, To: r.State, Record: &r})
		return
	}
	on := trigger("")
	if b := h.Seen.Beat; b != nil {
		h.Record, on = h.accept(*b)
	}
	if on != "" && d.move(h, on) {
		return
	}
	if d.protect(h) {
		return
	}
	d.state(h, on)
}

// protect stores a change of protection; once, not with each look.
func (d *decider) protect(h *Watched) bool {
	off := h.Off
	if off == "" && h.State == Degraded && h.Unprotected == string(CheckerError) {
		off = h.Unprotected // until the next recheck
	}
	if off == h.Unprotected {
		return false
	}
	h.Unprotected = off
	d.save(h, "")
	return true
}

func (d *decider) save(h *Watched, order Order) {
	r := h.Record
	d.act(Action{Kind: Save, Host: r.Host.ID, From: r.State, To: r.State, Reason: r.Reason, Record: &r, Order: order})
	d.in(0)
}

// move makes the transition, with what belongs to it; false: there is none.
func (d *decider) move(h *Watched, on trigger) bool { return d.moveWith(h, on, nil) }

// moveWith also changes the new record.
func (d *decider) moveWith(h *Watched, on trigger, change func(r *Record)) bool {
	was := h.Record
	r, ok := d.p.move(was, on, d.s.Store)
	if !ok {
		return false
	}
	if change != nil {
		change(&r)
	}
	a := Action{Kind: Move, Host: r.Host.ID, From: was.State, To: r.State, Reason: r.Reason, Text: string(on), Record: &r}
	switch {
	case r.State == Fencing:
		if a.Order = d.fence(&r, h); a.Order != "" {
			r.Ordered = true
		}
	case r.State == Fenced:
		a.Order = OrderRows
	case r.State == Repairing:
		a.Order = OrderRepair
	case was.State == Fencing && on == onBeat && was.Ordered:
		a.Order = OrderCancel
	}
	h.Record, d.moved[r.Host.ID] = r, true
	d.act(a)
	switch {
	case on == onGhost:
		d.alarm(h, "host %s beats as incarnation %d, which was proved dead by %s: nothing more is started until it is fenced again",
			r.Host.ID, r.Incarnation, was.Proof.kind())
	case r.State == Blocked:
		d.alarm(h, "host %s is blocked: %s", r.Host.ID, r.Reason)
	}
	d.in(0)
	return true
}

func (p *Proof) kind() ProofKind {
	if p == nil {
		return "nothing"
	}
	return p.Kind
}
