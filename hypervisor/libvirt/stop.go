package libvirt

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const (
	askEvery    = 10 * time.Second // a guest to shut down
	lookEvery   = 500 * time.Millisecond
	destroyings = 3 // of a guest that starts itself again
)

// Stop ends a VM; see hypervisor.StopOptions.
func (d *Driver) Stop(ctx context.Context, id string, o hypervisor.StopOptions) error {
	if o.Grace == hypervisor.Default {
		o.Grace = 60 * time.Second
	}
	return d.alter(ctx, "stop", id, max(o.Grace, 0)+hypervisor.ForceLimit, func(c *call) error {
		err := c.stop(o)
		if errors.Is(asRead(err), hypervisor.ErrNotFound) {
			return nil
		}
		return err
	})
}

func (c *call) stop(o hypervisor.StopOptions) error {
	vm, dom, rec, err := c.get()
	switch {
	case err != nil:
		return err
	case !vm.HasProcess():
		return nil
	case o.Epoch != 0 && o.Epoch < rec.Epoch:
		return rec.refuses(o.Epoch)
	case o.Incarnation != 0 && vm.Incarnation != o.Incarnation:
		return nil
	}
	if o.Grace > 0 {
		off, err := c.shutDown(vm, dom, o.Grace)
		if off || err != nil {
			return err
		}
		if o.NoForce {
			return c.error(hypervisor.ErrTimeout, "the guest did not shut down")
		}
	}
	return c.destroy(vm, dom, o.Incarnation != 0)
}

// shutDown asks the guest, and asks again, until it is gone or grace has passed.
func (c *call) shutDown(vm hypervisor.VM, dom rpc.Domain, grace time.Duration) (off bool, err error) {
	begin := c.d.env.Clock.Now()
	for asked := -askEvery; ; {
		since := c.d.env.Clock.Now().Sub(begin)
		if since >= grace {
			return false, nil
		}
		if since-asked >= askEvery {
			asked = since
			if _, err := c.do(rpc.DomainShutdownFlags, rpc.Args{}.Dom(dom).U32(0)); err != nil {
				if err := c.judge(err, func(vm hypervisor.VM) bool { return vm.HasProcess() }); err != nil {
					return false, err
				}
			}
		}
		now, _, _, err := c.get()
		if err != nil || now.Incarnation != vm.Incarnation {
			c.sawOff(now, err)
			return err == nil, err
		}
		if err := c.sleep(min(lookEvery, grace-since)); err != nil {
			return false, err
		}
	}
}

// destroy ends the guest by force, and has seen that it is gone. only says that no other incarnation is meant.
func (c *call) destroy(vm hypervisor.VM, dom rpc.Domain, only bool) error {
	for tries := 1; ; {
		if _, err := c.do(rpc.DomainDestroyFlags, rpc.Args{}.Dom(dom).U32(0)); err != nil {
			if err := c.judge(err, func(now hypervisor.VM) bool { return now.Incarnation != vm.Incarnation }); err != nil {
				return err
			}
		}
		for {
			now, d, _, err := c.get()
			if err != nil || !now.HasProcess() {
				c.sawOff(now, err)
				return err
			}
			if now.Incarnation != vm.Incarnation {
				if only {
					return nil
				}
				vm, dom = now, d
				break
			}
			if err := c.sleep(lookEvery); err != nil {
				return err
			}
		}
		if tries++; tries > destroyings+1 {
			return c.error(hypervisor.ErrBusy, "it starts again each time it is stopped")
		}
	}
}

// sawOff tells who listens to events that the stop was ours, and is done.
func (c *call) sawOff(vm hypervisor.VM, err error) {
	if err == nil && !vm.HasProcess() || errors.Is(err, hypervisor.ErrNotFound) {
		c.d.streams.push(occurrence{what: didStop, dom: rpc.Domain{UUID: binaryID(c.vm)}})
	}
}
