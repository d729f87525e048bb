package cloud

import (
	"cmp"
	"context"
	"errors"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// edit changes a machine at once, outside of its turn, and notes the event of the command.
func (c *Cloud) edit(ctx context.Context, command string, id dispatch.UUID, f func(ctx context.Context, q *tx, v *vmRow) error) (VMResult, error) {
	err := c.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, string(id))
		if err != nil {
			return err
		}
		if err := f(ctx, q, v); err != nil {
			return err
		}
		if err := q.save(ctx, v); err != nil {
			return err
		}
		return c.done(ctx, q, command, "VirtualMachine", v.ID)
	})
	if err != nil {
		return VMResult{}, err
	}
	return c.result(ctx, string(id))
}

// must refuses what only a machine in one of the states may be told.
func (v *vmRow) must(what string, states ...State) error {
	for _, s := range states {
		if v.State == s {
			return nil
		}
	}
	return dispatch.Errorf(dispatch.WrongState, "%s: VM %s is in state %s", what, v.title(), v.State)
}

type updateVM struct {
	target
	Name     string            `param:"name,max=63,pattern=[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?" doc:"host name; of a stopped machine only"`
	Display  string            `param:"displayname"`
	Group    string            `param:"group"`
	HAEnable *bool             `param:"haenable"`
	UserData string            `param:"userdata,max=65536,secret" doc:"base64, at most 32 KiB decoded; of a stopped machine only"`
	Details  map[string]string `param:"details" doc:"all of them anew"`
	Cleanup  bool              `param:"cleanupdetails" doc:"removes all details"`
}

// Validate checks the user data.
func (p updateVM) Validate() error { return checkUserData(p.UserData) }

func (c *Cloud) updateVM(ctx context.Context, p updateVM) (VMResult, error) {
	return c.edit(ctx, "updateVirtualMachine", p.ID, func(_ context.Context, _ *tx, v *vmRow) error {
		if p.Name != "" || p.UserData != "" {
			if err := v.must("name and userdata", Stopped); err != nil {
				return err
			}
		}
		v.Name, v.Display, v.Group = cmp.Or(p.Name, v.Name), cmp.Or(p.Display, v.Display), cmp.Or(p.Group, v.Group)
		v.UserData = cmp.Or(c.master.sealText(v.ID, p.UserData), v.UserData)
		if p.HAEnable != nil {
			v.HAEnable = *p.HAEnable
		}
		if len(p.Details) > 0 || p.Cleanup {
			return v.setDetails(p.Details)
		}
		return nil
	})
}

type recoverVM struct{ target }

func (c *Cloud) recoverVM(ctx context.Context, p recoverVM) (VMResult, error) {
	return c.edit(ctx, "recoverVirtualMachine", p.ID, func(ctx context.Context, q *tx, v *vmRow) error {
		if err := v.must("recover", Destroyed); err != nil {
			return err
		}
		v.State, v.Job = Stopped, "" // a job that goes on to expunge it has lost it
		n, err := q.exec(ctx, `UPDATE rs_volume SET state = 'Ready', version = version + 1 WHERE vm = ?`, v.ID)
		if err == nil && n == 0 {
			err = dispatch.Errorf(dispatch.WrongState, "recover: VM %s never came up, nothing of it is left", v.title())
		}
		return err
	})
}

type changeService struct {
	target
	Offering dispatch.UUID `param:"serviceofferingid,required,entity=offering"`
}

func (c *Cloud) changeService(ctx context.Context, p changeService) (VMResult, error) {
	return c.edit(ctx, "changeServiceForVirtualMachine", p.ID, func(_ context.Context, _ *tx, v *vmRow) error {
		v.Offering = string(p.Offering)
		return v.must("change of service", Stopped)
	})
}

type scaleVM struct {
	target
	Offering dispatch.UUID `param:"serviceofferingid,required,entity=offering"`
}

// scaleVM gives a stopped machine another size, or a running one a larger one, where its host has the room. The host is told
// first, since what it is told counts from the next start only and can be told otherwise.
func (c *Cloud) scaleVM(ctx context.Context, p scaleVM) (VMResult, error) {
	v, err := c.begin(ctx, string(p.ID), "", Running, Stopped)
	if err != nil {
		return VMResult{}, err
	}
	old, now := c.inv.now().offering(v.Offering), c.inv.now().offering(string(p.Offering))
	if v.State == Stopped {
		err := c.change(ctx, v.ID, func(_ context.Context, _ *tx, v *vmRow) error { v.Offering = now.ID; return nil })
		if err != nil {
			return VMResult{}, err
		}
		return c.result(ctx, v.ID)
	}
	if now.CPUs < old.CPUs || now.MemoryMiB < old.MemoryMiB {
		return VMResult{}, dispatch.Errorf(dispatch.WrongState, "VM %s is running: it can grow, not shrink", v.title())
	}
	if err := c.tell(ctx, v, now); err != nil {
		return VMResult{}, failed(ctx, err)
	}
	err = c.change(ctx, v.ID, func(ctx context.Context, q *tx, v *vmRow) error {
		v.Offering = now.ID
		_, err := c.tracker.ClaimTx(ctx, q.tx, tracker.Request{
			ID: claimID(ctx), Host: v.Host, Workload: v.ID, Amount: c.amount(now), Epoch: epoch(ctx), Owner: v.Name,
		})
		if err != nil {
			return err
		}
		return c.tracker.CommitTx(ctx, q.tx, claimID(ctx), epoch(ctx))
	})
	if err != nil {
		ctx, cancel := aside(ctx)
		defer cancel()
		return VMResult{}, errors.Join(failed(ctx, err), c.tell(ctx, v, old))
	}
	return c.result(ctx, v.ID)
}

// tell defines the machine on its host in another size.
func (c *Cloud) tell(ctx context.Context, v *vmRow, size offeringRow) error {
	d, err := c.hosts.driver(ctx, v.Host)
	if err != nil {
		return err
	}
	nics, err := nicsOf(ctx, c.bun, v.ID)
	if err != nil {
		return err
	}
	resized := *v
	resized.Offering = size.ID
	_, err = d.Define(ctx, c.domain(&resized, v.Host, nics[v.ID], epoch(ctx)))
	return err
}
