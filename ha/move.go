package ha

import (
	"slices"
	"time"
)

// steady is how long a host must be up for its flaps to be forgotten.
const steady = time.Hour

// move is r after the trigger on, at the store's instant at; false: the table has no such line, and nothing changes.
func (p Policy) move(r Record, on trigger, at time.Time) (Record, bool) {
	e := next(&r, on)
	if e == nil {
		return r, false
	}
	from, why := r.State, r.Reason
	r.State, r.Reason, r.Since, r.Until, r.Tries = e.to, e.reason, at, time.Time{}, 0
	if r.Lost.IsZero() && (from == Up || from == Draining) {
		r.Lost = at
	}
	if from == Degraded && r.Unprotected == string(CheckerError) {
		r.Unprotected = ""
	}
	if e.to == Fenced && (from == Repairing || from == Blocked && why != Exhausted) { // killed without a fencing
		r.Epoch, r.Fenced = r.Epoch+1, r.Incarnation
	}
	p.enter(&r, from, on, at)
	return r, true
}

// enter sets what belongs to the state that r comes to.
func (p Policy) enter(r *Record, from State, on trigger, at time.Time) {
	switch r.State {
	case Up:
		r.healed(at)
		if on == byResume {
			r.Draining = false
		}
		if r.Draining {
			r.State = Draining
		}
	case Draining:
		r.Draining = true
	case Maintenance:
		r.Draining = false
	case Checking:
		r.Samples, r.Idle, r.Sampled = 0, 0, time.Time{}
	case Degraded:
		r.Until = at.Add(p.Timing.Recheck)
		if r.Reason == CheckerError && r.Protected() {
			r.Unprotected = string(CheckerError)
		}
	case Repairing:
		r.Repairs, r.Destructive = r.Repairs+1, p.Kills
	case Condemned:
		r.Evident = on == onDead
	case Fencing:
		r.Epoch, r.Fences, r.Ordered, r.Begun, r.Proof = r.Epoch+1, 0, false, false, nil
		if from == Condemned {
			r.Fenced = r.Incarnation
		}
		if on == onGhost { // its guard, if it has one, did not stop it
			r.Renewed = time.Time{}
		}
	case Blocked:
		r.Until = at.Add(p.BlockedRetry)
	case Fenced:
		r.Repairs, r.Destructive = 0, false
	case Rejoining:
		p.rejoin(r, from, at)
	}
}

// healed forgets what was held against r.
func (r *Record) healed(at time.Time) {
	r.Lost, r.Alarmed, r.Rejoin, r.Sampled = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	r.Repairs, r.Samples, r.Idle, r.Fences = 0, 0, 0, 0
	r.Evident, r.Destructive, r.Ordered, r.Begun = false, false, false, false // the proof stays: of the fenced incarnation it is true
	r.Steady = at
}

// rejoin begins the hold-down, which doubles with each flap. Who was never away, or asked to be, has none.
func (p Policy) rejoin(r *Record, from State, at time.Time) {
	if from == Repairing {
		r.Rejoin = at.Add(p.Timing.RepairWait)
	}
	if from == Fresh || from == Maintenance || from == Degraded || from == Repairing {
		return
	}
	if !r.Steady.IsZero() && at.Sub(r.Lost) >= 0 && r.Lost.Sub(r.Steady) >= steady {
		r.Flaps = 0
	}
	r.Until = at.Add(backoff(p.HoldDown, p.HoldCap, r.Flaps))
	r.Flaps++
}

// backoff is d × 2^n, at most limit.
func backoff(d, limit time.Duration, n int) time.Duration {
	for ; n > 0 && d < limit; n-- {
		d *= 2
	}
	return min(d, limit)
}

// bare says that hosts of that kind have no VMs.
func (p Policy) bare(h Host) bool { return slices.Contains(p.Bare, h.Kind) }

// accept is r with a beat that came in, and the trigger that the beat is; "" and the same record if the beat is old, or a second
// copy. A healthy beat that the table ignores still counts.
func (r Record) accept(b Beat) (Record, trigger) {
	switch {
	case b.Incarnation < r.Incarnation, b.Incarnation == r.Incarnation && b.Seq <= r.Seq:
		return r, ""
	}
	fenced := r.State == Fenced || r.State == Offline
	on := onBeat
	switch {
	case fenced && b.Incarnation <= r.Fenced:
		on = onGhost
	case fenced && b.Healthy && !b.Goodbye:
		on = onNewer
	case b.Goodbye:
		on = onGoodbye
	case !b.Healthy:
		on = onSick
	}
	r.Incarnation, r.Seq = b.Incarnation, b.Seq
	return r, on
}
