package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Whereabouts of a VM.
type Whereabouts struct {
	Power  Power // Off if it runs nowhere, Unknown if that cannot be told
	At     int   // which of the drivers has its process; of one that moves, the source. -1 = none
	Moving bool  // another host is about to take it
	To     int   // which; -1 = none
	VM     VM    // as seen there
}

// Locate asks hosts which of them has a VM's process. Any host that does not answer makes it Unknown and ErrGone. Two that run it are
// ErrTwoCopies, logged as an alarm; nothing is stopped. What no host or two hosts have is read once more: it may have moved meanwhile.
func Locate(ctx context.Context, id string, hosts ...Driver) (Whereabouts, error) {
	w, sure, err := locate(ctx, id, hosts)
	if err == nil && !sure || errors.Is(err, ErrTwoCopies) {
		w, _, err = locate(ctx, id, hosts)
	}
	if errors.Is(err, ErrTwoCopies) {
		slog.Default().ErrorContext(ctx, "hypervisor: a vm runs twice", "vm", id, "err", err)
	}
	return w, err
}

// locate is one reading. sure: one host has it.
func locate(ctx context.Context, id string, hosts []Driver) (w Whereabouts, sure bool, err error) {
	nowhere := Whereabouts{Power: Off, At: -1, To: -1}
	w = nowhere
	for i, d := range hosts {
		vm, err := d.Get(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return Whereabouts{At: -1, To: -1}, false, fmt.Errorf("%w: host %d of %d: %w", ErrGone, i+1, len(hosts), err)
		case vm.Power == Unknown:
			return Whereabouts{At: -1, To: -1}, false, &Error{Class: ErrGone, Op: "locate", VM: id, Message: fmt.Sprintf("host %d of %d cannot tell", i+1, len(hosts))}
		case !vm.HasProcess():
			continue
		case w.At < 0:
			w.At, w.Power, w.VM = i, vm.Power, vm
		case w.Moving || vm.Power != Paused && w.Power != Paused:
			return Whereabouts{At: -1, To: -1}, false, &Error{Class: ErrTwoCopies, Op: "locate", VM: id, Message: fmt.Sprintf("hosts %d and %d of %d", w.At+1, i+1, len(hosts))}
		case vm.Power == Paused:
			w.Moving, w.To = true, i
		default: // the one seen before waits for this one's memory
			w = Whereabouts{Power: vm.Power, At: i, Moving: true, To: w.At, VM: vm}
		}
	}
	return w, w.At >= 0, nil
}
