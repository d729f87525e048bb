package cloud

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/hypervisor"
)

// bringUp is the state of the flows that end with a running machine. It is stored after every step.
type bringUp struct {
	VM     string
	Deploy bool   // else start
	Power  bool   // start it, else leave it Stopped
	Only   string // this host or none
	Host   string // chosen
}

// flows of deploy, start and migrate. After a crash the step under way runs again, so each finds what it did before.
func (c *Cloud) flows() {
	c.moveFlow = c.newMoveFlow()
	power := flow.When(func(_ context.Context, r *bringUp) (bool, error) { return r.Power, nil })
	again := []flow.Option{power, flow.Retry(quick, 3), flow.RetryIf(func(err error) bool {
		return errors.Is(err, hypervisor.ErrOutcomeUnknown) || errors.Is(err, hypervisor.ErrBusy)
	})}
	c.deployFlow = flow.New[bringUp]("deploy").Env(c.env).
		Then("begin", c.beginUp, c.giveUp).
		Then("place", c.place, c.unplace, power).
		Then("volume", c.makeVolume, c.dropVolume).
		Then("define", c.on(c.define), c.on(undefine), again...).
		Then("start", c.on(powerOn), c.on(powerOff), again...).
		Then("record", c.record, nil, flow.Retry(quick, 5))
	c.startFlow = flow.New[bringUp]("start").Env(c.env).
		Then("begin", c.beginUp, c.giveUp).
		Then("place", c.place, c.unplace, power).
		Then("define", c.on(c.define), nil, again...).
		Then("start", c.on(powerOn), c.on(powerOff), again...).
		Then("record", c.record, nil, flow.Retry(quick, 5))
}

func quick() backoff.BackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(2*time.Second))
}

func (c *Cloud) beginUp(ctx context.Context, r *bringUp) error {
	from := Stopped
	if r.Deploy {
		from = Starting
	}
	v, err := c.begin(ctx, r.VM, Starting, from)
	if err == nil && v.State != Starting {
		return dispatch.Errorf(dispatch.Conflict, "VM %s is in state %s", v.title(), v.State) // given up by an earlier run
	}
	return err
}

// giveUp leaves a failed deploy in Error with nothing allocated, a failed start in Stopped.
func (c *Cloud) giveUp(ctx context.Context, r *bringUp) error {
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, r.VM)
		if err != nil || v.Job != jobID(ctx) || v.State != Starting {
			return err
		}
		if v.State = Stopped; r.Deploy {
			v.State = Failed
			if err := q.strip(ctx, v.ID); err != nil {
				return err
			}
		}
		return q.save(ctx, v)
	})
}

func (c *Cloud) makeVolume(ctx context.Context, r *bringUp) error {
	return c.write(ctx, `UPDATE rs_volume SET state = 'Ready', version = version + 1 WHERE vm = ? AND state = 'Allocated'`, r.VM)
}

func (c *Cloud) dropVolume(ctx context.Context, r *bringUp) error {
	return c.write(ctx, `DELETE FROM rs_volume WHERE vm = ?`, r.VM)
}

func (c *Cloud) define(ctx context.Context, d hypervisor.Driver, r *bringUp) error {
	v, err := vmByID(ctx, c.bun, r.VM)
	if err != nil {
		return err
	}
	nics, err := nicsOf(ctx, c.bun, r.VM)
	if err != nil {
		return err
	}
	if v.LastHost != "" && v.LastHost != r.Host {
		if err := c.forget(ctx, r.VM); err != nil { // a host that is gone does not keep it from starting elsewhere
			c.env.Logger.WarnContext(ctx, "cloud: a machine stays defined on the host it left", "vm", r.VM, "host", v.LastHost, "err", err)
		}
	}
	if _, err := c.inv.having(ctx, func(s *stock) bool { return s.host(r.Host).ID != "" }); err != nil {
		return err
	}
	_, err = d.Define(ctx, c.domain(v, r.Host, nics[r.VM], epoch(ctx)))
	return err
}

// on does something on the host that was chosen.
func (c *Cloud) on(f func(ctx context.Context, d hypervisor.Driver, r *bringUp) error) func(context.Context, *bringUp) error {
	return func(ctx context.Context, r *bringUp) error {
		d, err := c.hosts.driver(ctx, r.Host)
		if err != nil {
			return err
		}
		return c.cannot(ctx, r, f(ctx, d, r))
	}
}

func undefine(ctx context.Context, d hypervisor.Driver, r *bringUp) error {
	return d.Undefine(ctx, r.VM)
}

func powerOn(ctx context.Context, d hypervisor.Driver, r *bringUp) error {
	return d.Start(ctx, r.VM, hypervisor.StartOptions{Epoch: epoch(ctx)})
}

func powerOff(ctx context.Context, d hypervisor.Driver, r *bringUp) error {
	return d.Stop(ctx, r.VM, hypervisor.StopOptions{Epoch: epoch(ctx)})
}

// record makes the claim the machine's allocation and the machine Running, in one transaction.
func (c *Cloud) record(ctx context.Context, r *bringUp) error {
	err := c.change(ctx, r.VM, func(ctx context.Context, q *tx, v *vmRow) error {
		if !r.Power {
			v.State = Stopped
			return nil
		}
		v.State, v.LastHost = Running, r.Host
		return c.tracker.CommitTx(ctx, q.tx, claimID(ctx), epoch(ctx))
	})
	return failed(ctx, err)
}

// cannot words what a host refuses as CloudStack does.
func (c *Cloud) cannot(ctx context.Context, r *bringUp, err error) error {
	if err = failed(ctx, err); dispatch.CodeOf(err) != dispatch.NoCapacity || ctx.Err() != nil {
		return err
	}
	return noCapacity(r.VM, err)
}

func noCapacity(vm string, err error) error {
	return dispatch.Errorf(dispatch.NoCapacity, "Unable to create a deployment for VM instance %s: %w", vm, err)
}
