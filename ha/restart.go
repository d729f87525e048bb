package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Facts are what the job of a restart finds before it acts, in the transaction in which it decides.
type Facts struct {
	Now      time.Time // the store's clock
	Host     Record    // the old host
	Newer    bool      // a row of a newer epoch is there for the VM
	Held     bool      // another operation holds the VM's turn
	VM       *VM       // as it is now; nil: it is gone
	Error    bool      // it is in a state that cannot be started again
	Verdict  Verdict   // what investigators say of the VM itself
	Stopped  bool      // the old copy has been stopped, by this row
	StopFail string    // its stop failed: not for want of a copy
}

// cancellable are the reasons for which a row is cancelled when its host turns out to be up.
var cancellable = map[Why]bool{HostDown: true, HostDegraded: true, UnderMaintenance: true}

// Reasons for which a row was opened.
const (
	HostDown         Why = "host-down"
	HostDegraded     Why = "host-degraded"
	UnderMaintenance Why = "maintenance"
)

// Step is what a restart does next.
type Step string

// Steps.
const (
	Exit    Step = ""      // nothing more: the row is closed, or waits
	DoStop  Step = "stop"  // the old copy
	DoStart Step = "start" // place, start and verify it
)

// wait for another look, by why.
const (
	aliveWait = time.Minute
	proofWait = time.Minute
)

// Next is the fixed order of a restart: where r ends early, or what is to be done. A row that waits costs no attempt; Alarm says that
// somebody is to be told. The order of what is looked at is part of the contract: nothing is stopped before it is known that the VM
// is to be recovered, and nothing started before it is proved that the old copy cannot run.
func (p Policy) Next(r Row, f Facts) (n Row, do Step, alarm bool) {
	end := func(s RowState, why Why) (Row, Step, bool) {
		r.State, r.Reason = s, why
		return r, Exit, false
	}
	wait := func(why Why, d time.Duration) (Row, Step, bool) {
		r.State, r.Reason, r.Until = Waiting, why, f.Now.Add(d)
		return r, Exit, false
	}
	hostUp := f.Host.State == Up || f.Host.State == Draining
	switch {
	case f.Newer: // e1
		return end(Superseded, NewerEpoch)
	case f.Held: // e2
		return wait(ForTurn, 0)
	case f.VM == nil: // e3
		return end(Skipped, Gone)
	case f.Error:
		return end(Skipped, NotRestartable)
	case hostUp && !f.Stopped && !fencedAt(f.Host, r.Epoch) && cancellable[r.Cause]: // e4
		return end(Cancelled, HostIsBack)
	case f.VM.Generation != r.VM.Generation && f.VM.Generation != r.Wrote: // e5
		return end(Superseded, Changed)
	case f.VM.Host != "" && f.VM.Host != r.Host && f.VM.Generation != r.Wrote: // e6
		return end(Skipped, Moved)
	case f.Verdict == Alive && hostUp: // e7
		return end(Skipped, LivesOn)
	case f.Verdict == Alive:
		return wait(ForAlive, aliveWait)
	case !proven(&r, &f.Host): // e8
		n, do, _ = wait(ForHost, proofWait)
		return n, do, true
	case !f.VM.Protected && !f.VM.Forced: // e9
		return end(Skipped, NotProtected)
	case f.VM.Stuck != "": // e10
		return end(Skipped, LocalDisk)
	case f.StopFail != "": // e11
		return p.failed(r, f.Now)
	case !f.Stopped:
		return r, DoStop, false
	}
	r.State, r.Reason = Placing, "" // e12
	return r, DoStart, false
}

// fencedAt says that the host has been proved dead at epoch.
func fencedAt(h Record, epoch int64) bool { return h.Proof != nil && h.Proof.Epoch == epoch }

// failed counts an attempt; the last one leaves the row to an operator.
func (p Policy) failed(r Row, now time.Time) (Row, Step, bool) {
	r.Attempts++
	if r.Attempts >= p.Timing.RowAttempts {
		r.State, r.Reason = NeedsOperator, ""
		return r, Exit, true
	}
	r.State, r.Reason = Waiting, ForTime
	r.Until = now.Add(backoff(p.Timing.RetryMin, p.Timing.RetryMax, r.Attempts-1))
	return r, Exit, false
}

// Acyclic refuses VMs whose After go round in a circle, with [ErrCycle] and the circle.
func Acyclic(vms []VM) error {
	after := map[string][]string{}
	for _, v := range vms {
		after[v.ID] = v.After
	}
	w := walker{after: after, done: map[string]bool{}, at: map[string]int{}}
	for _, v := range vms {
		if c := w.walk(v.ID); c != nil {
			return fmt.Errorf("%w: %s", ErrCycle, strings.Join(append(c, c[0]), " after "))
		}
	}
	return nil
}

// walker looks for a circle, depth first.
type walker struct {
	after map[string][]string
	done  map[string]bool
	at    map[string]int // place on the path, from 1
	path  []string
}

func (w *walker) walk(id string) []string {
	if w.done[id] {
		return nil
	}
	if n := w.at[id]; n > 0 {
		return slices.Clone(w.path[n-1:])
	}
	w.path = append(w.path, id)
	w.at[id] = len(w.path)
	for _, b := range w.after[id] {
		if c := w.walk(b); c != nil {
			return c
		}
	}
	w.path, w.done[id], w.at[id] = w.path[:len(w.path)-1], true, 0
	return nil
}
