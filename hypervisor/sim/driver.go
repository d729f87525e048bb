package sim

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

var (
	_ hypervisor.Driver    = (*Driver)(nil)
	_ hypervisor.Pauser    = (*Driver)(nil)
	_ hypervisor.Rebooter  = (*Driver)(nil)
	_ hypervisor.Resourcer = (*Driver)(nil)
	_ hypervisor.Pinger    = (*Driver)(nil)
	_ hypervisor.Statser   = (*Driver)(nil)
	_ hypervisor.Eventer   = (*Driver)(nil)
	_ hypervisor.Dialer    = (*Driver)(nil)
	_ hypervisor.Fencer    = (*Driver)(nil)
)

// abilities are what every simulated host can do.
var abilities = []string{"events", "migrate", "save", "snapshot", "stats"}

// Info describes the host.
func (d *Driver) Info(ctx context.Context) (info hypervisor.HostInfo, err error) {
	err = d.read(ctx, "info", "", hypervisor.QueryLimit, func(*call) error {
		h := d.h
		info = hypervisor.HostInfo{
			ID: h.cfg.ID, Name: h.cfg.Name, Driver: "sim", Arch: "x86_64", Version: "1",
			CPUs: h.cfg.VCPUs, MemoryMiB: h.cfg.MemoryMiB, Abilities: slices.Clone(abilities),
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.wrongID != "" {
			info.ID = h.wrongID
		}
		return nil
	})
	return info, err
}

// Ping makes a round trip.
func (d *Driver) Ping(ctx context.Context) error {
	return d.read(ctx, "ping", "", hypervisor.PingLimit, func(*call) error { return nil })
}

// List gives the VMs that match f, sorted by ID.
func (d *Driver) List(ctx context.Context, f hypervisor.Filter) (vms []hypervisor.VM, err error) {
	err = d.read(ctx, "list", "", hypervisor.BulkLimit, func(c *call) error {
		return d.h.view(c.ctx, func(w *world) error {
			vms = []hypervisor.VM{}
			for _, id := range w.ids() {
				if vm := w.VMs[id].vm(); f.Matches(vm) {
					vms = append(vms, vm)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return vms, nil
}

// Get reads one VM.
func (d *Driver) Get(ctx context.Context, id string) (vm hypervisor.VM, err error) {
	err = d.read(ctx, "get", id, hypervisor.QueryLimit, func(c *call) error {
		return d.h.view(c.ctx, func(w *world) error {
			g, err := c.find(w)
			vm = g.vm()
			return err
		})
	})
	if err != nil {
		return hypervisor.VM{}, err
	}
	return vm, nil
}

// Resources tells capacity and use.
func (d *Driver) Resources(ctx context.Context) (r hypervisor.Resources, err error) {
	err = d.read(ctx, "resources", "", hypervisor.BulkLimit, func(c *call) error {
		return d.h.view(c.ctx, func(w *world) error {
			r = hypervisor.Resources{
				VCPUs: d.h.cfg.VCPUs, MemoryMiB: d.h.cfg.MemoryMiB, DiskMiB: d.h.cfg.DiskMiB,
				PerVM: map[string]hypervisor.Resources{}, Devices: maps.Clone(d.h.cfg.Devices),
			}
			for _, id := range w.ids() {
				if g := w.VMs[id]; g.Incarnation >= 0 {
					r.VCPUsUsed += g.VCPUs
					r.MemoryMiBUsed += g.MemoryMiB
					r.PerVM[id] = hypervisor.Resources{VCPUsUsed: g.VCPUs, MemoryMiBUsed: g.MemoryMiB}
				}
			}
			return nil
		})
	})
	return r, err
}

// Define stores s; see hypervisor.Driver.
func (d *Driver) Define(ctx context.Context, s hypervisor.Spec) (vm hypervisor.VM, err error) {
	if err := s.Validate(hypervisor.Rules{DiskRoots: d.h.cfg.DiskRoots}); err != nil {
		return vm, (&call{d: d, op: "define", vm: s.ID}).fail(err)
	}
	s.Disks, s.NICs = slices.Clone(s.Disks), slices.Clone(s.NICs)
	err = d.change(ctx, "define", hypervisor.VM{ID: s.ID, Name: s.Name}, hypervisor.ChangeLimit, func(c *call) error {
		if err := c.sleep(d.h.cfg.Times.Define); err != nil {
			return err
		}
		return d.h.update(c.ctx, func(w *world) error {
			for _, id := range w.ids() {
				if id != s.ID && w.VMs[id].Spec.Name == s.Name {
					return c.error(hypervisor.ErrExists, "name "+s.Name+" is held by "+id)
				}
			}
			g, ok := w.VMs[s.ID]
			if !ok {
				g = g.off(hypervisor.Off, "")
			}
			g.Spec = s
			w.VMs[s.ID] = g
			vm = g.vm()
			return nil
		})
	})
	if err != nil {
		return hypervisor.VM{}, err
	}
	return vm, nil
}

// Undefine forgets a VM that is Off or Crashed.
func (d *Driver) Undefine(ctx context.Context, id string) error {
	return d.change(ctx, "undefine", hypervisor.VM{ID: id}, hypervisor.ChangeLimit, func(c *call) error {
		return d.h.update(c.ctx, func(w *world) error {
			g, ok := w.VMs[id]
			if ok && g.Incarnation >= 0 {
				return c.error(hypervisor.ErrState, "is "+string(g.Power))
			}
			delete(w.VMs, id)
			return nil
		})
	})
}

// Pause freezes a guest.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.turnTo(ctx, "pause", id, hypervisor.Paused, hypervisor.On)
}

// Resume lets a paused guest go on.
func (d *Driver) Resume(ctx context.Context, id string) error {
	return d.turnTo(ctx, "resume", id, hypervisor.On, hypervisor.Paused)
}

func (d *Driver) turnTo(ctx context.Context, op, id string, goal, from hypervisor.Power) error {
	return d.change(ctx, op, hypervisor.VM{ID: id}, hypervisor.ChangeLimit, func(c *call) error {
		return d.h.update(c.ctx, func(w *world) error {
			g, err := c.find(w)
			if err != nil || g.Power == goal {
				return err
			}
			if g.Power != from {
				return c.error(hypervisor.ErrState, "is "+string(g.Power))
			}
			g.Power, g.Mode = goal, started
			w.VMs[id] = g
			return nil
		})
	})
}

// Fence records an epoch; see hypervisor.Fencer.
func (d *Driver) Fence(ctx context.Context, id string, epoch int64) error {
	return d.change(ctx, "fence", hypervisor.VM{ID: id}, hypervisor.ChangeLimit, func(c *call) error {
		return d.h.update(c.ctx, func(w *world) error {
			g, ok := w.VMs[id]
			switch {
			case !ok:
				return nil
			case epoch < g.Epoch:
				return c.stale(g, epoch)
			}
			g.Epoch, g.Fenced, g.Autostart = epoch, true, false
			w.VMs[id] = g
			return nil
		})
	})
}

// Dial opens another connection to the host.
func (d *Driver) Dial(context.Context) (hypervisor.Driver, error) { return d.h.Open(d.env), nil }

// Origin says whom the driver expects to find.
func (d *Driver) Origin() hypervisor.Origin {
	return hypervisor.Origin{HostID: d.h.cfg.ID, Local: d.h.cfg.Local, Clock: d.env.Clock}
}

// Stats gives figures of guests; see hypervisor.Statser. A guest's processors never rest.
func (d *Driver) Stats(ctx context.Context, q hypervisor.StatsQuery) (out []hypervisor.Stats, err error) {
	err = d.read(ctx, "stats", "", hypervisor.BulkLimit, func(c *call) error {
		now := d.env.Clock.Now()
		return d.h.view(c.ctx, func(w *world) error {
			out = []hypervisor.Stats{}
			for _, id := range w.ids() {
				vm := w.VMs[id].vm()
				if len(q.IDs) > 0 && !slices.Contains(q.IDs, id) {
					continue
				}
				s := hypervisor.Stats{ID: id, Name: vm.Name, Power: vm.Power, Incarnation: vm.Incarnation}
				if vm.HasProcess() {
					s.CPUTime = now.Sub(w.VMs[id].Booted) * time.Duration(vm.VCPUs)
				}
				if q.VCPUs {
					s.VCPUs = vm.VCPUs
				}
				if q.Memory {
					s.MemoryMiB, s.MaxMemoryMiB = vm.MemoryMiB, vm.MaxMemoryMiB
				}
				out = append(out, s)
			}
			return nil
		})
	})
	return out, err
}
