package sim

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

const (
	defaultGrace = 60 * time.Second
	askAgain     = 10 * time.Second
	softReboot   = 120 * time.Second
	rebootPoll   = time.Second
	forceTries   = 4 // the first and three repeats
)

// Stop ends a VM; see hypervisor.Driver.
func (d *Driver) Stop(ctx context.Context, id string, o hypervisor.StopOptions) error {
	if o.Grace == hypervisor.Default {
		o.Grace = defaultGrace
	}
	limit := hypervisor.ForceLimit
	if o.Grace > 0 {
		limit += o.Grace
	}
	return d.change(ctx, "stop", hypervisor.VM{ID: id}, limit, func(c *call) error {
		g, err := c.stoppable(o)
		if err != nil || g.Incarnation < 0 {
			return err
		}
		c.sent = true
		if o.Grace <= 0 {
			return c.force(g, o)
		}
		return c.ask(g, o)
	})
}

// stoppable reads the VM; one without a process needs no work.
func (c *call) stoppable(o hypervisor.StopOptions) (g guest, err error) {
	err = c.d.h.view(c.ctx, func(w *world) error {
		var ok bool
		if g, ok = w.VMs[c.vm]; !ok {
			g.Incarnation = -1
			return nil
		}
		if g.Incarnation < 0 {
			return nil
		}
		if o.Epoch != 0 && o.Epoch < g.Epoch {
			return c.stale(g, o.Epoch)
		}
		if o.Incarnation != 0 && g.Incarnation != o.Incarnation {
			g.Incarnation = -1 // another one runs: not ours
		}
		return nil
	})
	return g, err
}

// ask requests a shutdown until the guest obeys or Grace has passed.
func (c *call) ask(g guest, o hypervisor.StopOptions) error {
	for left := o.Grace; left > 0; left -= askAgain {
		if g.Power == hypervisor.On && c.d.h.obeys(c.vm) {
			if err := c.sleep(c.d.h.cfg.Times.Stop); err != nil {
				return err
			}
			_, err := c.end(g.Incarnation, "shutdown")
			return err
		}
		if err := c.sleep(min(left, askAgain)); err != nil {
			return err
		}
	}
	if o.NoForce {
		return c.error(hypervisor.ErrTimeout, "the guest did not shut down")
	}
	return c.force(g, o)
}

// force destroys until Off is seen.
func (c *call) force(g guest, o hypervisor.StopOptions) error {
	for range forceTries {
		if err := c.sleep(c.d.h.cfg.Times.Stop); err != nil {
			return err
		}
		now, err := c.end(g.Incarnation, "destroyed")
		if err != nil || now.Incarnation < 0 || o.Incarnation != 0 {
			return err
		}
		g = now // it runs again
	}
	return c.error(hypervisor.ErrBusy, "the guest comes back again and again")
}

// end takes the process of that incarnation away and tells what is there then.
func (c *call) end(incarnation int64, reason string) (now guest, err error) {
	err = c.d.h.update(c.ctx, func(w *world) error {
		g, ok := w.VMs[c.vm]
		if !ok {
			now.Incarnation = -1
			return nil
		}
		if g.Incarnation == incarnation {
			g = g.off(hypervisor.Off, reason)
		}
		now = g
		w.VMs[c.vm] = g
		return nil
	})
	if err != nil || now.Incarnation >= 0 || !c.d.h.comesBack(c.vm) {
		return now, err
	}
	err = c.d.h.update(c.ctx, func(w *world) error {
		now = w.boot(w.VMs[c.vm], hypervisor.On)
		w.VMs[c.vm] = now
		return nil
	})
	return now, err
}

// Reboot restarts a guest; see hypervisor.Rebooter. A reset keeps the process and so the incarnation.
func (d *Driver) Reboot(ctx context.Context, id string, o hypervisor.RebootOptions) error {
	return d.change(ctx, "reboot", hypervisor.VM{ID: id}, softReboot+hypervisor.ChangeLimit, func(c *call) error {
		g, err := c.rebootable(o)
		if err != nil {
			return err
		}
		c.sent = true
		if !o.Soft {
			return c.sleep(d.h.cfg.Times.Start)
		}
		if g.Power == hypervisor.On && d.h.obeys(id) {
			return c.sleep(d.h.cfg.Times.Reboot)
		}
		for waited := time.Duration(0); waited < softReboot; waited += rebootPoll {
			if err := c.sleep(rebootPoll); err != nil {
				return err
			}
			now, err := c.rebootable(hypervisor.RebootOptions{Epoch: o.Epoch})
			if err == nil && now.Incarnation != g.Incarnation {
				return nil
			}
		}
		return c.sleep(d.h.cfg.Times.Start)
	})
}

func (c *call) rebootable(o hypervisor.RebootOptions) (g guest, err error) {
	err = c.d.h.view(c.ctx, func(w *world) error {
		if g, err = c.find(w); err != nil {
			return err
		}
		if o.Epoch < g.Epoch {
			return c.stale(g, o.Epoch)
		}
		if g.Incarnation < 0 {
			return c.error(hypervisor.ErrState, "is "+string(g.Power))
		}
		return nil
	})
	return g, err
}
