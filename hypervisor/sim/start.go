package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/hypervisor"
)

// Start runs a VM; see hypervisor.Driver. As on a real host it is made paused with the epoch recorded, read again, and let
// go only if nobody recorded a higher epoch meanwhile.
func (d *Driver) Start(ctx context.Context, id string, o hypervisor.StartOptions) error {
	return d.change(ctx, "start", hypervisor.VM{ID: id}, hypervisor.ChangeLimit, func(c *call) error {
		return c.start(o)
	})
}

func (c *call) start(o hypervisor.StartOptions) error {
	var mine guest
	err := c.d.h.update(c.ctx, func(w *world) (err error) {
		mine, err = c.beginStart(w, o)
		return err
	})
	if err != nil || mine.Mode == started {
		return err
	}
	c.sent = true
	took := c.d.h.cfg.Times.Start
	if mine.Saved {
		took = c.d.h.cfg.Times.Restore
	}
	if err := c.sleep(took); err != nil {
		return err
	}
	var late error
	err = c.d.h.update(c.ctx, func(w *world) error {
		g, err := c.find(w)
		switch {
		case err != nil:
			return err
		case g.Fenced && g.Incarnation == mine.Incarnation && g.Mode == starting && g.Epoch >= o.Epoch: // ours, which never ran
			late = c.stale(g, o.Epoch)
			w.VMs[c.vm] = g.off(hypervisor.Off, "fenced")
			return nil
		case g.Epoch > o.Epoch:
			return c.stale(g, o.Epoch)
		case g.Incarnation != mine.Incarnation:
			return c.error(hypervisor.ErrState, "was stopped while it started")
		case g.Power == hypervisor.Paused && !o.Paused:
			g.Power = hypervisor.On
		}
		g.Mode = started
		w.VMs[c.vm] = g
		return nil
	})
	return errors.Join(late, err)
}

// beginStart records the epoch and makes the process; the answer's Mode is started if nothing is left to do.
func (c *call) beginStart(w *world, o hypervisor.StartOptions) (guest, error) {
	g, err := c.find(w)
	if err != nil {
		return g, err
	}
	if o.Epoch < g.Epoch || o.Epoch == g.Epoch && g.Fenced {
		return g, c.stale(g, o.Epoch)
	}
	switch {
	case g.Power == hypervisor.On:
		g.Mode = started
	case g.Power == hypervisor.Paused && g.Mode == starting: // broken off
	case g.Power == hypervisor.Paused && o.Paused:
		g.Mode = started
	case g.Incarnation >= 0:
		return g, c.error(hypervisor.ErrState, "is "+string(g.Power))
	default:
		if free := c.d.h.memory() - w.usedMiB(); g.Spec.MemoryMiB > free {
			return g, c.error(hypervisor.ErrNoResources, fmt.Sprintf("memory: free %d MiB < %d MiB", free, g.Spec.MemoryMiB))
		}
		saved := g.Saved && !o.Fresh
		g = w.boot(g, hypervisor.Paused)
		g.Mode, g.Epoch, g.Fenced, g.Booted = starting, o.Epoch, false, c.d.env.Clock.Now()
		w.VMs[c.vm] = g
		g.Saved = saved // for how long it takes
		return g, nil
	}
	g.Epoch, g.Fenced = o.Epoch, false
	w.VMs[c.vm] = g
	return g, nil
}

func (c *call) stale(g guest, epoch int64) error {
	return c.error(hypervisor.ErrStaleEpoch, fmt.Sprintf("epoch %d is below %d", epoch, g.Epoch))
}
