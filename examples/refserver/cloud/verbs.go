package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
)

// State of a machine.
type State string

// The states.
const (
	Starting  State = "Starting"
	Running   State = "Running"
	Stopping  State = "Stopping"
	Stopped   State = "Stopped"
	Destroyed State = "Destroyed"
	Expunging State = "Expunging"
	Failed    State = "Error"
	Migrating State = "Migrating"
	Unknown   State = "Unknown"
)

// jobID is the job that runs here.
func jobID(ctx context.Context) string {
	if j, ok := job.FromContext(ctx); ok {
		return j.ID
	}
	return ""
}

func epoch(ctx context.Context) int64 { return job.Token(ctx).Epoch }

// begin marks the machine as this job's and moves it to the state it has meanwhile, if it is in one of from. A machine that this
// job has marked before, in an earlier run, is answered as it is.
func (c *Cloud) begin(ctx context.Context, id string, meanwhile State, from ...State) (v *vmRow, err error) {
	err = c.in(ctx, func(ctx context.Context, q *tx) error {
		if v, err = vmByID(ctx, q, id); err != nil {
			return err
		}
		if v.Job == jobID(ctx) {
			return nil
		}
		if !slices.Contains(from, v.State) {
			return dispatch.Errorf(dispatch.WrongState, "VM %s is in state %s", v.title(), v.State)
		}
		v.Before, v.Job = v.State, jobID(ctx)
		if meanwhile != "" {
			v.State = meanwhile
		}
		return q.save(ctx, v)
	})
	return v, err
}

// title is name and display name for error texts.
func (v *vmRow) title() string {
	if v.Display == "" || v.Display == v.Name {
		return v.Name
	}
	return v.Name + " (" + v.Display + ")"
}

// change reads the machine, which is this job's, and writes what f makes of it.
func (c *Cloud) change(ctx context.Context, id string, f func(ctx context.Context, q *tx, v *vmRow) error) error {
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, id)
		if err != nil {
			return err
		}
		if v.Job != jobID(ctx) {
			return dispatch.Errorf(dispatch.Conflict, "VM %s is moved by another job", v.title())
		}
		if err := f(ctx, q, v); err != nil {
			return err
		}
		return q.save(ctx, v)
	})
}

// result is the answer of a job about the machine.
func (c *Cloud) result(ctx context.Context, id string) (VMResult, error) {
	v, err := vmByID(ctx, c.bun, id)
	if err != nil {
		return VMResult{}, err
	}
	parts, err := partsOf(ctx, c.bun, id)
	if err != nil {
		return VMResult{}, err
	}
	return VMResult{c.show(ctx, v, parts, false)}, nil
}

// release gives the machine's room back.
func (c *Cloud) release(ctx context.Context, q *tx, v *vmRow) error {
	if v.Host == "" {
		return nil
	}
	if err := c.tracker.ReleaseTx(ctx, q.tx, v.Host, v.ID, epoch(ctx)); err != nil {
		return err
	}
	v.LastHost, v.Host = v.Host, ""
	return nil
}

// handedOn tells that the job goes on elsewhere or later: nothing may be settled here.
func handedOn(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, job.ErrLost) || errors.Is(cause, job.ErrStopping)
}

// aside is a context for settling what a job that is over its time, or cancelled, leaves.
func aside(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// truth gives the state that the host reports; Unknown if it cannot be read.
func (c *Cloud) truth(ctx context.Context, v *vmRow) State {
	if v.Host == "" {
		return Stopped
	}
	d, err := c.hosts.driver(ctx, v.Host)
	if err != nil {
		return Unknown
	}
	vm, err := d.Get(ctx, v.ID)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		return Stopped
	case err != nil:
		return Unknown
	case vm.Power == hypervisor.On:
		return Running
	case !vm.HasProcess():
		return Stopped
	}
	return Unknown
}

// failed gives the error of a host or of the tracker its code. What the context ended stays as it is.
func failed(ctx context.Context, err error) error {
	var e *dispatch.Error
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &e):
		return err
	case errors.Is(err, hypervisor.ErrNoResources), errors.Is(err, tracker.ErrNoRoom):
		return dispatch.Errorf(dispatch.NoCapacity, "%w", err)
	case errors.Is(err, hypervisor.ErrGone), errors.Is(err, hypervisor.ErrTimeout), errors.Is(err, hypervisor.ErrClosed), errors.Is(err, hypervisor.ErrBusy):
		return dispatch.Errorf(dispatch.Unavailable, "%w", err)
	case errors.Is(err, hypervisor.ErrState):
		return dispatch.Errorf(dispatch.WrongState, "%w", err)
	case errors.Is(err, hypervisor.ErrStaleEpoch), errors.Is(err, tracker.ErrStaleEpoch), errors.Is(err, tracker.ErrExpired):
		return dispatch.Errorf(dispatch.Conflict, "%w", err)
	}
	return err
}

// verdict is what the job of a flow fails with: the step's error as the step gave it.
func verdict(err error) error {
	var fe *flow.Error
	var e *dispatch.Error
	if errors.As(err, &fe) && errors.As(fe.Err, &e) {
		return e
	}
	return err
}

// final keeps the job's policy from retrying what will not change by itself.
func final(err error) error {
	if err != nil && !dispatch.CodeOf(err).Info().Retryable && dispatch.CodeOf(err) != dispatch.Internal {
		return job.Permanent(err)
	}
	return err
}

// domain is the machine's definition on a host.
func (c *Cloud) domain(v *vmRow, host string, nics []nicRow, epoch int64) hypervisor.Spec {
	o := c.inv.now().offering(v.Offering)
	s := hypervisor.Spec{ID: v.ID, Name: domainName(v), VCPU: int(o.CPUs), MemoryMiB: o.MemoryMiB, Console: true, Epoch: epoch}
	for _, n := range nics {
		s.NICs = append(s.NICs, hypervisor.NIC{Bridge: "br-" + n.Network[:8], MAC: n.MAC})
	}
	s.NICs = c.inv.now().host(host).ports(s.NICs)
	return s
}

// domainName is unique on every host, unlike the machine's own name, which it begins with.
func domainName(v *vmRow) string {
	suffix := fmt.Sprintf(".i-2-%d-VM", v.Seq)
	return v.Name[:min(len(v.Name), 63-len(suffix))] + suffix
}

// vmName is the machine's name in a domain's.
func vmName(domain string) string {
	return domain[:max(0, strings.LastIndexByte(domain, '.'))]
}
