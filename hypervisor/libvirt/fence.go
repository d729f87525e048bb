package libvirt

import (
	"context"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// Fence records epoch for a VM without a process, so that only a higher one may start it, and takes its autostart away. A VM that is
// unknown is nil, one with a process ErrState; an epoch below the recorded one is ErrStaleEpoch.
func (d *Driver) Fence(ctx context.Context, id string, epoch int64) error {
	return d.alter(ctx, "fence", id, hypervisor.ChangeLimit, func(c *call) error {
		vm, dom, rec, err := c.get()
		switch {
		case errors.Is(err, hypervisor.ErrNotFound):
			return nil
		case err != nil:
			return err
		case vm.HasProcess() || vm.Power == hypervisor.Unknown:
			return c.state(vm)
		case epoch < rec.Epoch:
			return c.error(hypervisor.ErrStaleEpoch, fmt.Sprintf("epoch %d, recorded is %d %s", epoch, rec.Epoch, rec.Mode))
		}
		if vm.Autostart {
			if _, err := c.do(rpc.DomainSetAutostart, rpc.Args{}.Dom(dom).I32(0)); err != nil {
				return err
			}
		}
		return c.record(dom, record{Epoch: epoch, Mode: modeFenced}, affectConfig)
	})
}

var (
	_ hypervisor.Dialer = (*Driver)(nil)
	_ hypervisor.Fencer = (*Driver)(nil)
)

// Dial gives a driver of the same host that shares nothing with this one. It connects when it is used.
func (d *Driver) Dial(context.Context) (hypervisor.Driver, error) {
	if d.life.Err() != nil {
		return nil, (&call{d: d, op: "dial"}).name(hypervisor.ErrClosed)
	}
	cfg := d.cfg
	cfg.Env, cfg.Socket = d.env, d.socket
	fresh, err := New(cfg)
	if err != nil {
		return nil, err
	}
	fresh.local = d.local
	return fresh, nil
}

// Origin says whom this driver expects: Config.HostID, or the host that it met.
func (d *Driver) Origin() hypervisor.Origin {
	return hypervisor.Origin{HostID: d.hostID(), Local: d.local, Clock: d.env.Clock}
}
