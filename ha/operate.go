package ha

import (
	"fmt"
	"time"
)

// Check refuses a beat that cannot be one, and names the field.
func (b Beat) Check() error {
	switch {
	case b.Host == "":
		return fmt.Errorf("ha: Beat.Host is empty")
	case len(b.Host) > 256:
		return fmt.Errorf("ha: Beat.Host has %d bytes, must be at most 256", len(b.Host))
	case b.Incarnation < 0:
		return fmt.Errorf("ha: Beat.Incarnation %d is negative", b.Incarnation)
	case b.Seq < 0:
		return fmt.Errorf("ha: Beat.Seq %d is negative", b.Seq)
	}
	return nil
}

// Renew says whether a beat may renew the lease of r's host: not from the fencing of its incarnation on, which is [ErrFenced], whatever
// becomes of the beat.
func (r Record) Renew(b Beat) error {
	if err := b.Check(); err != nil {
		return err
	}
	switch r.State {
	case Fencing, Fenced, Offline:
	case Blocked:
		if r.Reason != Exhausted {
			return nil
		}
	default:
		return nil
	}
	if b.Incarnation <= r.Fenced {
		return fmt.Errorf("%w: %s, incarnation %d, was fenced at epoch %d", ErrFenced, b.Host, b.Incarnation, r.Epoch)
	}
	return nil
}

// Verb is what an operator asks of a host.
type Verb string

// Verbs.
const (
	Maintain Verb = "maintain"
	Resume   Verb = "resume"
	Disable  Verb = "disable"
	Enable   Verb = "enable"
	Remove   Verb = "remove"
)

// Operate is r after an operator's verb at the store's instant at; one that means nothing in its state changes nothing. Disable while it
// is fenced, and Remove while protected VMs, vms of them, are recorded there and it is neither offline nor in maintenance, are
// [ErrNotFenced].
func (p Policy) Operate(r Record, v Verb, vms int, at time.Time) (Record, error) {
	switch {
	case v == Disable && (r.State == Fencing || r.State == Fenced),
		v == Remove && vms > 0 && r.State != Offline && r.State != Maintenance:
		return r, fmt.Errorf("%w: %s is %s, with %d protected VMs", ErrNotFenced, r.Host.ID, r.State, vms)
	}
	n, _ := p.move(r, trigger(v), at)
	return n, nil
}

// Confirm is r after somebody has said that its host runs nothing any more: Fenced, by a proof that names who. [ErrStale] if epoch is not
// the present one, [ErrNotFenced] if the host is neither fenced now nor blocked. Its rows are opened in the same transaction.
func (p Policy) Confirm(r Record, epoch int64, who string, at time.Time) (Record, error) {
	switch {
	case who == "":
		return r, fmt.Errorf("ha: who confirms it must be said")
	case epoch != r.Epoch:
		return r, fmt.Errorf("%w: %s is at epoch %d, not %d", ErrStale, r.Host.ID, r.Epoch, epoch)
	}
	n, ok := p.move(r, onProof, at)
	if !ok {
		return r, fmt.Errorf("%w: %s is %s", ErrNotFenced, r.Host.ID, r.State)
	}
	n.Proof = &Proof{Kind: OperatorConfirmed, By: who, Evidence: "confirmed at epoch " + fmt.Sprint(epoch), At: at, Epoch: n.Epoch}
	return n, nil
}

// Explain says in a sentence why a host is where it is, and what it waits for, at the store's instant at.
func (p Policy) Explain(r Record, at time.Time) string {
	age := at.Sub(r.Since).Truncate(time.Second)
	left := func(t time.Time) string { return max(t.Sub(at), 0).Truncate(time.Second).String() }
	why := map[State]string{
		Fresh:         "It has never beaten.",
		Up:            "It beats, and is healthy.",
		Suspect:       "It is silent, unhealthy, or a connection to it broke; probes go out as soon as one is free.",
		Investigating: "Probes look at it; without evidence it is condemned " + p.Timing.Window.String() + " after they are in.",
		Checking:      fmt.Sprintf("%d of %d samples of activity are in, %d saw none.", r.Samples, p.Timing.Samples, r.Idle),
		Degraded:      fmt.Sprintf("It is alive, but %s; it is looked at again in %s.", r.Reason, left(r.Until)),
		Repairing:     fmt.Sprintf("Repair %d of %d is under way.", r.Repairs, p.Timing.RepairAttempts),
		Condemned:     "It is judged dead, and waits for its domain's turn to be fenced.",
		Fencing:       fmt.Sprintf("It is being fenced at epoch %d: %d attempts, no proof yet.", r.Epoch, r.Fences),
		Fenced:        fmt.Sprintf("It is proved dead at epoch %d by %s; its VMs are being recovered.", r.Epoch, r.Proof.kind()),
		Offline:       fmt.Sprintf("It is proved dead at epoch %d by %s; nothing is left to recover.", r.Epoch, r.Proof.kind()),
		Rejoining:     "It beats again; hooks, inventory and hold-down come first, " + left(r.Until) + " of that.",
		Draining:      "Its VMs are moved away.",
		Maintenance:   "It is in maintenance, and not judged.",
		Disabled:      "It is disabled, and not judged.",
		Removed:       "It is removed; only its epoch is kept.",
	}[r.State]
	if r.State == Blocked {
		why = map[Reason]string{
			Exhausted:     "No fencer has a proof; the next try is in " + left(r.Until) + ". Its VMs are started nowhere until then, or until somebody confirms.",
			Conflict:      "There is evidence of its life and of its death; it is looked at again in " + left(r.Until) + ".",
			ProtectionOff: "It is judged dead, but protection is off: " + r.Unprotected + ".",
		}[r.Reason]
	}
	if !r.Protected() && r.State != Blocked {
		why += " Protection is off: " + r.Unprotected + "."
	}
	return fmt.Sprintf("%s for %v. %s", r.State, age, why)
}
