package libvirt

import (
	"context"
	"errors"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const startPaused, startForceBoot = 1, 8 // VIR_DOMAIN_START_

// Start runs a VM; see hypervisor.Driver. The epoch is recorded before the guest exists, the guest is made paused, and it is let go
// only if nobody recorded a higher epoch meanwhile: two starters cannot both run it.
func (d *Driver) Start(ctx context.Context, id string, o hypervisor.StartOptions) error {
	return d.alter(ctx, "start", id, hypervisor.ChangeLimit, func(c *call) error { return c.start(o) })
}

func (c *call) start(o hypervisor.StartOptions) error {
	vm, dom, rec, err := c.get()
	if err != nil {
		return err
	}
	if err := rec.refuses(o.Epoch); err != nil {
		return err
	}
	switch {
	case vm.Power == hypervisor.On, vm.Power == hypervisor.Paused && o.Paused && rec.Mode != modeStarting:
		if o.Epoch == rec.Epoch {
			return nil
		}
		return c.record(dom, record{Epoch: o.Epoch, Mode: modeStarted}, c.everywhere(vm))
	case vm.Power == hypervisor.Paused && rec.Mode == modeStarting: // broken off
	case vm.HasProcess() || vm.Power == hypervisor.Unknown:
		return c.state(vm)
	default:
		if err := c.record(dom, record{Epoch: o.Epoch, Mode: modeStarting}, affectConfig); err != nil {
			return err
		}
		if err := c.create(vm, dom, o); err != nil {
			return err
		}
	}
	return c.release(o)
}

// create makes the guest, paused where the host can.
func (c *call) create(vm hypervisor.VM, dom rpc.Domain, o hypervisor.StartOptions) error {
	h, err := c.met()
	if err != nil {
		return err
	}
	flags := uint32(0)
	switch {
	case h.kind != "test":
		flags = startPaused
		if o.Fresh {
			flags |= startForceBoot
		}
	case o.Fresh && vm.Saved:
		if _, err := c.do(rpc.DomainManagedSaveRemove, rpc.Args{}.Dom(dom).U32(0)); err != nil {
			return err
		}
	}
	if _, err := c.do(rpc.DomainCreateWithFlags, rpc.Args{}.Dom(dom).U32(flags)); err != nil {
		return c.judge(err, hypervisor.VM.HasProcess)
	}
	return nil
}

// release reads again, lets the guest go if nobody recorded a higher epoch meanwhile, and records that the start is done.
func (c *call) release(o hypervisor.StartOptions) error {
	vm, dom, rec, err := c.get()
	if err != nil {
		return err
	}
	if err := rec.refuses(o.Epoch); err != nil {
		if rec.Mode == modeFenced { // our copy, which never ran
			_, kill := c.do(rpc.DomainDestroyFlags, rpc.Args{}.Dom(dom).U32(0))
			return errors.Join(err, kill)
		}
		return err
	}
	if vm.Power == hypervisor.Paused && !o.Paused {
		if _, err := c.do(rpc.DomainResume, rpc.Args{}.Dom(dom)); err != nil {
			if err := c.judge(err, func(vm hypervisor.VM) bool { return vm.Power == hypervisor.On }); err != nil {
				return err
			}
		}
	}
	return c.record(dom, record{Epoch: o.Epoch, Mode: modeStarted}, c.everywhere(vm))
}

// everywhere is the guest and, where there is one, its definition.
func (c *call) everywhere(vm hypervisor.VM) uint32 {
	if vm.Persistent {
		return affectLive | affectConfig
	}
	return affectLive
}

// judge decides what a refusal means whose code does not say it: the VM is read again. Nil if the goal is reached nevertheless.
func (c *call) judge(err error, goal func(hypervisor.VM) bool) error {
	e := classify(err, true)
	switch e.Code {
	case codeInternal, codeOperationFailed, codeOperationInvalid:
	default:
		return err
	}
	vm, _, _, again := c.get()
	switch {
	case again != nil:
		return err
	case goal(vm):
		return nil
	case e.Code == codeOperationInvalid || e.Domain == domainTest:
		e.Class = hypervisor.ErrState
	}
	return e
}
