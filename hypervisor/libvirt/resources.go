package libvirt

import (
	"context"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// Resources tells capacity and use; of disks only if Config.Pools names pools. What a guest cannot be read of counts as one processor.
func (d *Driver) Resources(ctx context.Context) (res hypervisor.Resources, err error) {
	err = d.read(ctx, "resources", "", hypervisor.BulkLimit, func(c *call) error {
		r, err := c.ask(rpc.NodeGetInfo, nil)
		if err != nil {
			return err
		}
		r.Chars(32)
		res = hypervisor.Resources{MemoryMiB: int64(r.U64() >> 10), VCPUs: int(r.I32()), PerVM: map[string]hypervisor.Resources{}}
		if err := r.Err(); err != nil {
			return err
		}
		vms, err := c.list()
		if err != nil {
			return err
		}
		for _, vm := range vms {
			if !vm.HasProcess() {
				continue
			}
			if vm.VCPUs < 1 {
				d.env.Logger.Warn("hypervisor: a guest's size cannot be read", "host", d.hostID(), "vm", vm.ID)
			}
			use := hypervisor.Resources{VCPUsUsed: max(vm.VCPUs, 1), MemoryMiBUsed: vm.MemoryMiB}
			res.VCPUsUsed, res.MemoryMiBUsed = res.VCPUsUsed+use.VCPUsUsed, res.MemoryMiBUsed+use.MemoryMiBUsed
			res.PerVM[vm.ID] = use
		}
		return c.pools(&res)
	})
	return res, err
}

// pools adds up the storage pools of the configuration.
func (c *call) pools(res *hypervisor.Resources) error {
	for _, name := range c.d.cfg.Pools {
		r, err := c.ask(rpc.StoragePoolLookupByName, rpc.Args{}.Str(name))
		if err != nil {
			return err
		}
		pool := rpc.Args{}.Str(r.Str()).UUID(r.UUID())
		if err := r.Err(); err != nil {
			return err
		}
		if r, err = c.ask(rpc.StoragePoolGetInfo, pool); err != nil {
			return err
		}
		r.U32()
		capacity, allocated := r.U64(), r.U64()
		if err := r.Err(); err != nil {
			return err
		}
		res.DiskMiB, res.DiskMiBUsed = res.DiskMiB+int64(capacity>>20), res.DiskMiBUsed+int64(allocated>>20)
	}
	return nil
}
