package sim

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

var (
	_ hypervisor.Saver       = (*Driver)(nil)
	_ hypervisor.Snapshotter = (*Driver)(nil)
)

// Save puts a guest's memory on disk; see hypervisor.Saver.
func (d *Driver) Save(ctx context.Context, id string) error {
	return d.change(ctx, "save", hypervisor.VM{ID: id}, hypervisor.SaveLimit, func(c *call) error {
		var mine guest
		err := d.h.view(c.ctx, func(w *world) (err error) {
			mine, err = c.find(w)
			if err == nil && !mine.Saved && mine.Power != hypervisor.On && mine.Power != hypervisor.Paused {
				return c.error(hypervisor.ErrState, "is "+string(mine.Power))
			}
			return err
		})
		if err != nil || mine.Saved {
			return err
		}
		c.sent = true
		if err := c.sleep(d.h.cfg.Times.Save); err != nil {
			return err
		}
		return d.h.update(c.ctx, func(w *world) error {
			g, err := c.find(w)
			if err != nil {
				return err
			}
			if g.Incarnation != mine.Incarnation {
				return c.error(hypervisor.ErrState, "ended meanwhile")
			}
			g = g.off(hypervisor.Off, "saved")
			g.Saved = true
			w.VMs[id] = g
			return nil
		})
	})
}

// DropSaved forgets a guest's memory.
func (d *Driver) DropSaved(ctx context.Context, id string) error {
	return d.change(ctx, "dropsaved", hypervisor.VM{ID: id}, hypervisor.ChangeLimit, func(c *call) error {
		return d.h.update(c.ctx, func(w *world) error {
			g, err := c.find(w)
			if err != nil {
				return err
			}
			g.Saved = false
			w.VMs[id] = g
			return nil
		})
	})
}

// snapshot is a state kept of a guest.
type snapshot struct {
	Description string
	At          time.Time
	Power       hypervisor.Power
	Parent      string
}

// CreateSnapshot keeps the guest's state; see hypervisor.Snapshotter. A VM without a disk has snapshots, too.
func (d *Driver) CreateSnapshot(ctx context.Context, id string, s hypervisor.SnapshotSpec) error {
	if err := s.Validate(); err != nil {
		return (&call{d: d, op: "snapshot", vm: id}).fail(err)
	}
	return d.change(ctx, "snapshot", hypervisor.VM{ID: id}, hypervisor.SaveLimit, func(c *call) error {
		check := func(w *world) (g guest, err error) {
			if g, err = c.find(w); err == nil {
				if _, there := g.Snapshots[s.Name]; there {
					err = c.error(hypervisor.ErrExists, "snapshot "+s.Name)
				}
			}
			return g, err
		}
		if err := d.h.view(c.ctx, func(w *world) error { _, err := check(w); return err }); err != nil {
			return err
		}
		c.sent = true
		if err := c.sleep(d.h.cfg.Times.Snapshot); err != nil {
			return err
		}
		now := d.env.Clock.Now()
		return d.h.update(c.ctx, func(w *world) error {
			g, err := check(w)
			if err != nil {
				return err
			}
			kept := map[string]snapshot{s.Name: {Description: s.Description, At: now, Power: g.Power, Parent: youngest(g.Snapshots)}}
			for name, old := range g.Snapshots {
				kept[name] = old
			}
			g.Snapshots = kept
			w.VMs[id] = g
			return nil
		})
	})
}

// youngest names the snapshot that a new one comes after.
func youngest(m map[string]snapshot) (name string) {
	for n, s := range m {
		if name == "" || s.At.After(m[name].At) || s.At.Equal(m[name].At) && n > name {
			name = n
		}
	}
	return name
}

// RevertSnapshot takes the guest back; see hypervisor.Snapshotter. One that is fenced is not started by it.
func (d *Driver) RevertSnapshot(ctx context.Context, id, name string) error {
	return d.change(ctx, "revert", hypervisor.VM{ID: id}, hypervisor.SaveLimit, func(c *call) error {
		find := func(w *world) (g guest, s snapshot, err error) {
			if g, err = c.find(w); err != nil {
				return g, s, err
			}
			s, there := g.Snapshots[name]
			switch on := s.Power == hypervisor.On || s.Power == hypervisor.Paused; {
			case !there:
				err = c.error(hypervisor.ErrNotFound, "snapshot "+name)
			case on && g.Fenced:
				err = c.stale(g, g.Epoch)
			case on && g.Incarnation < 0 && g.Spec.MemoryMiB > d.h.memory()-w.usedMiB():
				err = c.error(hypervisor.ErrNoResources, "memory")
			}
			return g, s, err
		}
		if err := d.h.view(c.ctx, func(w *world) error { _, _, err := find(w); return err }); err != nil {
			return err
		}
		c.sent = true
		if err := c.sleep(d.h.cfg.Times.Revert); err != nil {
			return err
		}
		now := d.env.Clock.Now()
		return d.h.update(c.ctx, func(w *world) error {
			g, s, err := find(w)
			if err != nil {
				return err
			}
			switch {
			case s.Power != hypervisor.On && s.Power != hypervisor.Paused:
				g = g.off(hypervisor.Off, "reverted")
			case g.Incarnation >= 0:
				g.Power = s.Power
			default:
				g = w.boot(g, s.Power)
				g.Mode, g.Booted = started, now
			}
			w.VMs[id] = g
			return nil
		})
	})
}

// DeleteSnapshot forgets a state.
func (d *Driver) DeleteSnapshot(ctx context.Context, id, name string) error {
	return d.change(ctx, "dropsnapshot", hypervisor.VM{ID: id}, hypervisor.SaveLimit, func(c *call) error {
		return d.h.update(c.ctx, func(w *world) error {
			g, err := c.find(w)
			if err != nil {
				return err
			}
			kept := map[string]snapshot{}
			for n, s := range g.Snapshots {
				if s.Parent == name {
					s.Parent = g.Snapshots[name].Parent
				}
				if n != name {
					kept[n] = s
				}
			}
			g.Snapshots = kept
			w.VMs[id] = g
			return nil
		})
	})
}

// Snapshots lists the states kept, by name.
func (d *Driver) Snapshots(ctx context.Context, id string) (out []hypervisor.Snapshot, err error) {
	err = d.read(ctx, "snapshots", id, hypervisor.QueryLimit, func(c *call) error {
		return d.h.view(c.ctx, func(w *world) error {
			g, err := c.find(w)
			if err != nil {
				return err
			}
			out = []hypervisor.Snapshot{}
			for name, s := range g.Snapshots {
				out = append(out, hypervisor.Snapshot{Name: name, Description: s.Description, At: s.At, Power: s.Power, Parent: s.Parent})
			}
			slices.SortFunc(out, func(a, b hypervisor.Snapshot) int { return strings.Compare(a.Name, b.Name) })
			return nil
		})
	})
	return out, err
}
