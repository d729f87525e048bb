package hypervisor

import (
	"context"
	"fmt"
	"time"
)

// EvidenceLasts is how long an Evidence may be acted on.
const EvidenceLasts = 10 * time.Second

// Guarded is a VM that a fence is about. Epoch is the fence job's: above that of every start before it.
type Guarded struct {
	ID    string
	Epoch int64
}

// Fencer keeps a VM from being started by who is late.
type Fencer interface {
	// Fence records epoch, so that only a higher one may start the VM, and takes its autostart away. It does not ask whether the VM runs; a
	// start under way finds the fence at its second reading, and destroys what it made. A VM that is unknown is nil; an epoch below the
	// recorded one is ErrStaleEpoch.
	Fence(ctx context.Context, id string, epoch int64) error
}

// Evidence is the proof that a host runs none of the guarded VMs, and will not for the epochs recorded.
type Evidence struct {
	Host   string
	At     time.Time        // when the proof was begun
	Epochs map[string]int64 // by VM; of those that are defined there, recorded
}

// Holds says whether e may be acted on at now.
func (e Evidence) Holds(now time.Time) bool { return !now.After(e.At.Add(EvidenceLasts)) }

// ProveEmpty proves that a host runs none of vms: it looks, over a connection of its own, records the fence epochs, and looks again, so
// that a start under way is seen by the one or refused by the other. Any doubt is an error, ErrState or ErrGone, and no evidence. The
// driver must be a Dialer, and what it dials a Fencer.
func ProveEmpty(ctx context.Context, d Driver, vms []Guarded) (Evidence, error) {
	able, ok := d.(Dialer)
	if !ok {
		return Evidence{}, &Error{Class: ErrUnsupported, Op: "prove", Message: "the driver makes no fresh connections"}
	}
	origin := able.Origin()
	e := Evidence{Host: origin.HostID, At: origin.Clock.Now(), Epochs: map[string]int64{}}
	fresh, err := able.Dial(ctx)
	if err != nil {
		return Evidence{}, err
	}
	defer shut(fresh)
	fencer, ok := fresh.(Fencer)
	if !ok {
		return Evidence{}, &Error{Class: ErrUnsupported, Op: "prove", Host: origin.HostID, Message: "the driver records no fences"}
	}
	before, err := vacant(ctx, fresh, origin, vms)
	if err != nil {
		return Evidence{}, err
	}
	for _, g := range vms {
		e.Epochs[g.ID] = g.Epoch
		if _, there := before[g.ID]; !there {
			continue
		}
		if err := fencer.Fence(ctx, g.ID, g.Epoch); err != nil {
			return Evidence{}, err
		}
	}
	after, err := vacant(ctx, fresh, origin, vms)
	if err != nil {
		return Evidence{}, err
	}
	for _, g := range vms {
		if _, there := after[g.ID]; there {
			if _, was := before[g.ID]; !was { // and so has no fence
				return Evidence{}, &Error{Class: ErrState, Op: "prove", Host: origin.HostID, VM: g.ID, Message: "was defined meanwhile"}
			}
		}
	}
	if now := origin.Clock.Now(); !e.Holds(now) {
		return Evidence{}, &Error{Class: ErrTimeout, Op: "prove", Host: origin.HostID, Message: fmt.Sprintf("took %v", now.Sub(e.At))}
	}
	return e, nil
}

// vacant lists the guarded VMs that are defined on a host; one with a process is ErrState.
func vacant(ctx context.Context, d Driver, o Origin, vms []Guarded) (map[string]VM, error) {
	all, err := census(ctx, d, o)
	if err != nil {
		return nil, err
	}
	there := map[string]VM{}
	for _, vm := range all {
		for _, g := range vms {
			if vm.ID != g.ID {
				continue
			}
			if there[vm.ID] = vm; vm.verdict() != GuestGone {
				return nil, &Error{Class: ErrState, Op: "prove", Host: o.HostID, VM: vm.ID, Message: "is " + string(vm.Power)}
			}
		}
	}
	return there, nil
}
