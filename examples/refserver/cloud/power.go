package cloud

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/hypervisor"
)

// grace is how long a guest may take to shut down before it is forced.
const grace = 120 * time.Second

type startVM struct {
	target
	Host dispatch.UUID `param:"hostid,entity=host,roles=admin" doc:"on this host or not at all"`
}

func (c *Cloud) startVM(ctx context.Context, p startVM) (VMResult, error) {
	r := &bringUp{VM: string(p.ID), Power: true, Only: string(p.Host)}
	if err := c.startFlow.Run(ctx, r); err != nil {
		return VMResult{}, verdict(err)
	}
	return c.result(ctx, r.VM)
}

type stopVM struct {
	target
	Forced bool `param:"forced" doc:"cut the power"`
}

func (c *Cloud) stopVM(ctx context.Context, p stopVM) (VMResult, error) {
	if p.Forced && CallerOf(ctx) == System {
		if v, err := c.begin(ctx, string(p.ID), "", Stopped, Destroyed); err == nil && v.Host == "" && v.State == v.Before {
			return c.stopStray(ctx, v)
		}
	}
	from := []State{Running}
	if p.Forced {
		from = []State{Running, Starting, Stopping, Unknown}
	}
	v, err := c.begin(ctx, string(p.ID), Stopping, from...)
	if err != nil {
		return VMResult{}, final(err)
	}
	if v.State != Stopped { // else an earlier run of this job did it
		if err := c.halt(ctx, v, p.Forced, Stopped); err != nil {
			return VMResult{}, final(err)
		}
	}
	return c.result(ctx, v.ID)
}

// stopStray cuts the power of a machine that runs on the host it was on last, though it should not; its row is right already.
func (c *Cloud) stopStray(ctx context.Context, v *vmRow) (VMResult, error) {
	if v.LastHost != "" {
		d, err := c.hosts.driver(ctx, v.LastHost)
		if err == nil {
			err = d.Stop(ctx, v.ID, hypervisor.StopOptions{Epoch: epoch(ctx)})
		}
		if err != nil {
			return VMResult{}, final(failed(ctx, err))
		}
	}
	return c.result(ctx, v.ID)
}

// halt stops the machine on its host and gives its room back. A failure leaves it in the state that the host reports, or, in a
// job that does more than stop, as it was before.
func (c *Cloud) halt(ctx context.Context, v *vmRow, forced bool, end State) error {
	err := c.haltOnHost(ctx, v, forced)
	if err == nil {
		err = c.change(ctx, v.ID, func(ctx context.Context, q *tx, v *vmRow) error {
			if v.State = end; end == Destroyed {
				if _, err := q.exec(ctx, `UPDATE rs_volume SET state = 'Destroy', version = version + 1 WHERE vm = ?`, v.ID); err != nil {
					return err
				}
			}
			return c.release(ctx, q, v)
		})
	}
	if err == nil || handedOn(ctx) {
		return err
	}
	err = failed(ctx, err)
	ctx, cancel := aside(ctx)
	defer cancel()
	leave := v.Before
	if end == Stopped || leave == Running {
		leave = c.truth(ctx, v)
	}
	serr := c.change(ctx, v.ID, func(ctx context.Context, q *tx, v *vmRow) error {
		if v.State = leave; leave == Stopped { // though not all went well
			return c.release(ctx, q, v)
		}
		return nil
	})
	if serr != nil {
		c.env.Logger.ErrorContext(ctx, "cloud: state of a machine not recorded", "vm", v.ID, "err", serr)
	}
	return err
}

func (c *Cloud) haltOnHost(ctx context.Context, v *vmRow, forced bool) error {
	if v.Host == "" {
		return nil
	}
	d, err := c.hosts.driver(ctx, v.Host)
	if err != nil {
		return err
	}
	o := hypervisor.StopOptions{Grace: grace, Epoch: epoch(ctx)}
	if forced {
		o.Grace = 0
	}
	return d.Stop(ctx, v.ID, o)
}

type rebootVM struct {
	target
	Forced bool `param:"forced" doc:"reset it"`
}

func (c *Cloud) rebootVM(ctx context.Context, p rebootVM) (VMResult, error) {
	v, err := c.begin(ctx, string(p.ID), "", Running)
	if err != nil {
		return VMResult{}, err
	}
	d, err := c.hosts.driver(ctx, v.Host)
	if err != nil {
		return VMResult{}, err
	}
	able, ok := d.(hypervisor.Rebooter)
	if !ok {
		return VMResult{}, dispatch.Errorf(dispatch.Unsupported, "host %s cannot reboot machines", c.inv.now().host(v.Host).Name)
	}
	if err := able.Reboot(ctx, v.ID, hypervisor.RebootOptions{Soft: !p.Forced, Epoch: epoch(ctx)}); err != nil {
		return VMResult{}, failed(ctx, err)
	}
	return c.result(ctx, v.ID)
}

type destroyVM struct {
	target
	Expunge bool `param:"expunge,roles=admin" doc:"remove it for good at once"`
}

func (c *Cloud) destroyVM(ctx context.Context, p destroyVM) (VMResult, error) {
	id := string(p.ID)
	v, err := c.begin(ctx, id, "", Running, Stopped, Failed, Unknown)
	if err != nil {
		return VMResult{}, err
	}
	if v.State != Destroyed && v.State != Expunging { // else an earlier run of this job came so far
		if v.Host != "" && v.State != Stopping {
			if err := c.change(ctx, id, func(_ context.Context, _ *tx, v *vmRow) error { v.State = Stopping; return nil }); err != nil {
				return VMResult{}, err
			}
		}
		if err := c.halt(ctx, v, false, Destroyed); err != nil {
			return VMResult{}, err
		}
	}
	if !p.Expunge {
		return c.result(ctx, id)
	}
	r, err := c.result(ctx, id)
	if err != nil {
		return VMResult{}, err
	}
	r.VM.State = Expunging
	return r, c.expunge(ctx, id, r)
}
