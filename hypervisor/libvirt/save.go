package libvirt

import (
	"context"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

var _ hypervisor.Saver = (*Driver)(nil)

// Save puts the memory of a guest on the host's disk and ends it; the next start restores it.
func (d *Driver) Save(ctx context.Context, id string) error {
	return d.alter(ctx, "save", id, hypervisor.SaveLimit, func(c *call) error {
		vm, dom, _, err := c.get()
		switch {
		case err != nil:
			return err
		case vm.Saved && !vm.HasProcess():
			return nil
		case !vm.Persistent:
			return c.error(hypervisor.ErrState, "is transient")
		case vm.Power != hypervisor.On && vm.Power != hypervisor.Paused:
			return c.state(vm)
		}
		return c.lasting(rpc.DomainManagedSave, rpc.Args{}.Dom(dom).U32(0), func(vm hypervisor.VM) bool { return vm.Saved && !vm.HasProcess() })
	})
}

// lasting sends a change that takes long on a connection of its own.
func (c *call) lasting(p rpc.Proc, args rpc.Args, goal func(hypervisor.VM) bool) error {
	return c.alone(func(conn *rpc.Conn) error {
		end := c.d.meters.procedure(c.ctx, p)
		_, err := conn.Call(c.ctx, p, args)
		end(err)
		if err != nil {
			return c.judge(err, goal)
		}
		return nil
	})
}

// DropSaved forgets the memory that Save has kept.
func (d *Driver) DropSaved(ctx context.Context, id string) error {
	return d.alter(ctx, "dropsaved", id, hypervisor.ChangeLimit, func(c *call) error {
		vm, dom, _, err := c.get()
		if err != nil || !vm.Saved {
			return err
		}
		if _, err := c.do(rpc.DomainManagedSaveRemove, rpc.Args{}.Dom(dom).U32(0)); err != nil {
			return c.judge(err, func(vm hypervisor.VM) bool { return !vm.Saved })
		}
		return nil
	})
}
