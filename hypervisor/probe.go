package hypervisor

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/drover-cloud/drover"
)

// ProbeLimit is how long a host has to answer a Probe.
const ProbeLimit = 3 * time.Second

// Dialer makes connections of their own, for those who must not believe the one that is open.
type Dialer interface {
	// Dial gives a driver of the same host that shares no connection and no cache with this one. It may connect when first used.
	Dial(ctx context.Context) (Driver, error)
	// Origin says whom it expects to find.
	Origin() Origin
}

// Origin of a driver's answers.
type Origin struct {
	HostID string       // that the host must have; "" = any
	Local  bool         // the host is the machine that asks
	Clock  drover.Clock // the driver's
}

// Answer is what came of a Probe.
type Answer string

// The answers.
const (
	Answering   Answer = "answering"
	WrongHost   Answer = "wrong-host"   // another host's id
	DaemonDown  Answer = "daemon-down"  // something refused, or hung up
	DaemonStuck Answer = "daemon-stuck" // taken, and not answered in time
	HostSilent  Answer = "host-silent"  // nothing came back
)

// Verdict on a host or a VM. There is no verdict that a host is dead: a daemon that is silent never proves it (G7).
type Verdict string

// The verdicts.
const (
	Undecided Verdict = ""
	Alive     Verdict = "alive"
	GuestGone Verdict = "guest-gone" // of a VM: it does not run here
)

// Report of a Probe.
type Report struct {
	Answer Answer
	Host   Verdict            // Alive or Undecided
	VMs    map[string]Sighted // of all ids asked for
	Err    error              // what Answer was made of; nil if Answering
}

// Sighted is a VM as a Probe found it.
type Sighted struct {
	VM      VM // zero if it is not defined there, or nobody answered
	Verdict Verdict
}

// Probe asks a host over a connection of its own, made from nothing, and waits ProbeLimit at most. A driver that is no Dialer is
// asked as it is.
func Probe(ctx context.Context, d Driver, ids []string) Report {
	r := Report{VMs: map[string]Sighted{}}
	for _, id := range ids {
		r.VMs[id] = Sighted{}
	}
	asker := ctx
	ctx, cancel := context.WithTimeout(ctx, ProbeLimit)
	defer cancel()
	var origin Origin
	var vms []VM
	var err error
	if able, ok := d.(Dialer); ok {
		origin = able.Origin()
		if d, err = able.Dial(ctx); err == nil {
			defer shut(d)
		}
	}
	if err == nil {
		vms, err = census(ctx, d, origin)
	}
	if asker.Err() != nil { // who asks has no time: nothing is learnt
		r.Answer, r.Err = HostSilent, context.Cause(asker)
		return r
	}
	r.Answer, r.Err = answer(err), err
	switch r.Answer {
	case Answering:
		r.Host = Alive
	case DaemonDown, DaemonStuck:
		if origin.Local {
			r.Host = Alive
		}
	}
	if r.Answer != Answering {
		return r
	}
	for _, id := range ids {
		r.VMs[id] = Sighted{Verdict: GuestGone}
	}
	for _, vm := range vms {
		if _, asked := r.VMs[vm.ID]; asked {
			r.VMs[vm.ID] = Sighted{vm, vm.verdict()}
		}
	}
	return r
}

// shut closes a driver of one's own.
func shut(d Driver) {
	if c, ok := d.(io.Closer); ok {
		_ = c.Close()
	}
}

// census checks that the host is the one expected, and lists all its VMs.
func census(ctx context.Context, d Driver, o Origin) ([]VM, error) {
	info, err := d.Info(ctx)
	if err != nil {
		return nil, err
	}
	if o.HostID != "" && info.ID != o.HostID {
		return nil, &Error{Class: ErrGone, Op: "probe", Host: o.HostID, Message: "answers as " + info.ID, Err: ErrWrongHost}
	}
	return d.List(ctx, Filter{})
}

// verdict of a VM that its host reports.
func (v VM) verdict() Verdict {
	switch v.Power {
	case On, Paused, Stopping, Suspended:
		return Alive
	case Off, Crashed:
		if !v.HasProcess() {
			return GuestGone
		}
	}
	return Undecided
}

// answer tells what an error of asking says of the host.
func answer(err error) Answer {
	var op *net.OpError
	switch {
	case err == nil:
		return Answering
	case errors.Is(err, ErrWrongHost):
		return WrongHost
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return DaemonDown
	case errors.As(err, &op) && op.Op == "dial":
		return HostSilent
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return DaemonStuck
	case errors.Is(err, ErrGone):
		return HostSilent
	}
	return DaemonDown // it said something
}
