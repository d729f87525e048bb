package ha

import (
	"fmt"
	"time"
)

// condemned waits for all that must hold before a host is fenced.
func (d *decider) condemned(h *Watched) {
	if !h.Protected() {
		d.move(h, onOpen)
		return
	}
	if d.p.Disarmed || !d.warm(h) {
		return
	}
	if dom := d.grant(h); dom != nil {
		at := len(d.out)
		d.move(h, onCleared)
		d.out[at].Domain = dom
	}
}

// leaseDue is in how long the expiry of the host's lease is a proof; none: it never will be, as far as one can see.
func (d *decider) leaseDue(r *Record, h *Watched) (wait time.Duration, none bool) {
	if r.Renewed.IsZero() {
		return 0, true
	}
	wait = r.Renewed.Add(d.p.Expiry()).Sub(d.s.Store) + 1 // older than that, not as old
	for _, c := range h.Seen.Channels {
		still := later(c.Watched, c.Moved).Add(d.p.Expiry()).Sub(d.now) + 1
		wait = max(wait, still)
	}
	return max(wait, 0), false
}

// fence says which fence job to order for r now; "": none, the lease is sooner, or there is no fencer.
func (d *decider) fence(r *Record, h *Watched) Order {
	if wait, none := d.leaseDue(r, h); !none && wait <= d.p.LeaseSoon || !d.p.Fencer {
		return ""
	}
	if !r.LastFence.IsZero() && d.s.Store.Sub(r.LastFence) < d.p.Timing.Quiet {
		return OrderRead
	}
	return OrderFence
}

// proof is one that counts: an operator's or a fencer's of this epoch, or the lease's.
func (d *decider) proof(h *Watched) *Proof {
	if p := h.Seen.Proof; p != nil && p.Epoch == h.Epoch {
		return p
	}
	if h.State == Blocked && h.Reason != Exhausted { // no epoch was raised
		return nil
	}
	wait, none := d.leaseDue(&h.Record, h)
	switch {
	case none:
		return nil
	case wait > 0:
		d.in(wait)
		return nil
	}
	return &Proof{Kind: LeaseExpired, By: d.s.Self.Owner, At: d.s.Store, Epoch: h.Epoch,
		Evidence: fmt.Sprintf("not renewed since %s, %d channels still", h.Renewed.UTC().Format(time.RFC3339Nano), len(h.Seen.Channels))}
}

// proven makes the host Fenced if there is a proof.
func (d *decider) proven(h *Watched) bool {
	p := d.proof(h)
	return p != nil && d.moveWith(h, onProof, func(r *Record) { r.Proof = p.at(r.Epoch) })
}

func (d *decider) fencing(h *Watched) {
	switch {
	case d.proven(h):
	case h.Fences >= d.p.Timing.FenceAttempts, d.due(h.Since.Add(d.p.Timing.FenceBudget)):
		d.move(h, onExhausted)
	case !h.Ordered:
		if order := d.fence(&h.Record, h); order != "" {
			h.Ordered = true
			d.save(h, order)
		}
	}
}

func (d *decider) blocked(h *Watched) {
	if d.proven(h) {
		return
	}
	switch h.Reason {
	case ProtectionOff:
		if h.Protected() {
			d.move(h, onShielded)
		}
	case Conflict:
		if p := h.Seen.Probe; p != nil && h.Tries > 0 && !p.Ended.IsZero() && d.now.Sub(p.Ended) <= d.p.Timing.Stale {
			if on := p.evidence(); on == onAlive || on == onDead && d.warm(h) {
				d.move(h, on)
				return
			}
		}
		if d.again(h) {
			d.look(h)
			d.save(h, "")
		}
	case Exhausted:
		if order := d.fence(&h.Record, h); d.again(h) {
			d.save(h, order)
		}
	}
}

// again says that the retry of a Blocked host is due, and sets the next one.
func (d *decider) again(h *Watched) bool {
	if !d.due(h.Until) {
		return false
	}
	h.Tries++
	h.Until = d.s.Store.Add(backoff(d.p.BlockedRetry, d.p.Cap, h.Tries))
	return true
}
