package libvirt

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const softReboot = 120 * time.Second // until it is reset

// Pause freezes a guest.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.toggle(ctx, "pause", id, rpc.DomainSuspend, hypervisor.On, hypervisor.Paused)
}

// Resume lets a frozen guest go on.
func (d *Driver) Resume(ctx context.Context, id string) error {
	return d.toggle(ctx, "resume", id, rpc.DomainResume, hypervisor.Paused, hypervisor.On)
}

func (d *Driver) toggle(ctx context.Context, op, id string, p rpc.Proc, from, to hypervisor.Power) error {
	return d.alter(ctx, op, id, hypervisor.ChangeLimit, func(c *call) error {
		vm, dom, _, err := c.get()
		switch {
		case err != nil || vm.Power == to:
			return err
		case vm.Power != from:
			return c.state(vm)
		}
		if _, err = c.do(p, rpc.Args{}.Dom(dom)); err != nil {
			return c.judge(err, func(vm hypervisor.VM) bool { return vm.Power == to })
		}
		return nil
	})
}

// Reboot restarts a guest; see hypervisor.RebootOptions. The hard one resets the machine, or stops and starts it where the host
// cannot reset.
func (d *Driver) Reboot(ctx context.Context, id string, o hypervisor.RebootOptions) error {
	return d.alter(ctx, "reboot", id, hypervisor.ChangeLimit+softReboot+hypervisor.ForceLimit, func(c *call) error {
		vm, dom, rec, err := c.get()
		switch {
		case err != nil:
			return err
		case !vm.HasProcess():
			return c.state(vm)
		case o.Epoch != 0 && o.Epoch < rec.Epoch:
			return rec.refuses(o.Epoch)
		}
		if o.Soft {
			if done, err := c.softReboot(vm, dom); done || err != nil {
				return err
			}
		}
		return c.hardReboot(vm, dom, o)
	})
}

func (c *call) hardReboot(vm hypervisor.VM, dom rpc.Domain, o hypervisor.RebootOptions) error {
	_, err := c.do(rpc.DomainReset, rpc.Args{}.Dom(dom).U32(0))
	switch {
	case err == nil:
		return nil
	case !errors.Is(asRead(err), hypervisor.ErrUnsupported):
		return c.judge(err, func(hypervisor.VM) bool { return false })
	}
	if err := c.destroy(vm, dom, false); err != nil {
		return err
	}
	return c.start(hypervisor.StartOptions{Epoch: max(o.Epoch, vm.Epoch)})
}

// softReboot asks the guest, and waits until the host tells of a reset or another incarnation runs; false when it does not listen.
func (c *call) softReboot(vm hypervisor.VM, dom rpc.Domain) (bool, error) {
	reset, stop := c.d.streams.await(dom.UUID)
	defer stop()
	if _, err := c.do(rpc.DomainReboot, rpc.Args{}.Dom(dom).U32(0)); err != nil {
		if errors.Is(asRead(err), hypervisor.ErrUnsupported) {
			return false, nil
		}
		return false, c.judge(err, func(hypervisor.VM) bool { return false })
	}
	h, err := c.met()
	if err != nil || h.kind == "test" {
		return err == nil, err // the test driver's guests obey at once
	}
	for range int(softReboot / time.Second) {
		select {
		case <-reset:
			return true, nil
		case <-c.d.env.Clock.After(time.Second):
		case <-c.ctx.Done():
		}
		if err := c.ended(); err != nil {
			return false, err
		}
		now, _, _, err := c.get()
		if err != nil || now.Incarnation != vm.Incarnation && now.Power == hypervisor.On {
			return err == nil, err
		}
	}
	return false, nil
}
