package cloud

import (
	"context"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
)

// atOnce is how many machines leave a host at the same time.
const atOnce = 4

// prepareHost closes the host and moves its machines off, each in a job of its own, and parks meanwhile: it starts again from the
// top when they have ended, here or on another node. One that is cancelled opens the host again.
func (c *Cloud) prepareHost(ctx context.Context, p hostTarget) (HostResult, error) {
	id := string(p.ID)
	if err := ctx.Err(); err != nil {
		return HostResult{}, c.reopen(ctx, id)
	}
	if err := c.turnHost(ctx, id, HostPreparing, HostEnabled, HostFailed, HostDegraded); err != nil {
		return HostResult{}, err
	}
	left, moving, err := c.moveOff(ctx, id)
	switch {
	case ctx.Err() != nil:
		return HostResult{}, c.reopen(ctx, id)
	case err != nil:
		return HostResult{}, err
	case moving > 0:
		return HostResult{}, job.Park(job.OnChildren())
	case left > 0:
		if err := c.turnHost(ctx, id, HostFailed, HostPreparing); err != nil {
			return HostResult{}, err
		}
		return HostResult{}, dispatch.Errorf(dispatch.WrongState, "%d machines could not be moved off the host", left)
	}
	if err := c.turnHost(ctx, id, HostMaintenance, HostPreparing); err != nil {
		return HostResult{}, err
	}
	return c.hostResult(ctx, id)
}

// reopen is what a cancelled preparation leaves; the job ends with the context's error.
func (c *Cloud) reopen(ctx context.Context, id string) error {
	cause := context.Cause(ctx)
	if handedOn(ctx) {
		return cause
	}
	ctx, cancel := aside(ctx)
	defer cancel()
	if err := c.turnHost(ctx, id, HostEnabled, HostPreparing); err != nil {
		c.env.Logger.ErrorContext(ctx, "cloud: a host stays closed", "host", id, "err", err)
	}
	return cause
}

// moveOff begins the moves that there is room for, and tells how many machines are left that were tried, and how many are moving.
func (c *Cloud) moveOff(ctx context.Context, host string) (left, moving int, err error) {
	vms, err := all[vmRow](ctx, c.bun, "host = ?", host)
	if err != nil {
		return 0, 0, err
	}
	tried := map[string]bool{}
	for j, err := range c.jobs.List(ctx, job.Query{Parent: jobID(ctx), States: allStates}) {
		if err != nil {
			return 0, 0, err
		}
		tried[j.Resource] = true
		if !j.State.Final() {
			moving++
		}
	}
	for _, v := range vms {
		switch {
		case tried[vmResource(v.ID)]:
			left++
		case moving < atOnce:
			_, err := c.registry.Dispatch(ctx, &dispatch.Command{
				Name: "migrateVirtualMachine", Caller: System, Params: map[string]string{"virtualmachineid": v.ID},
			})
			if err != nil && dispatch.CodeOf(err) != dispatch.NotFound { // expunged meanwhile
				return 0, 0, err
			}
			moving++
		}
	}
	return left, moving, nil
}

var allStates = []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded, job.Failed, job.Cancelled}

func (c *Cloud) cancelMaintenance(ctx context.Context, p hostTarget) (HostResult, error) {
	if err := c.turnHost(ctx, string(p.ID), HostEnabled, HostMaintenance, HostFailed); err != nil {
		return HostResult{}, err
	}
	return c.hostResult(ctx, string(p.ID))
}
