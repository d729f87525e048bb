package cloud

import (
	"context"
	"errors"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/tracker"
)

type migrateVM struct {
	VM   dispatch.UUID `param:"virtualmachineid,required,entity=virtualmachine"`
	Host dispatch.UUID `param:"hostid,entity=host" doc:"to this host or not at all"`
	Auto bool          `param:"autoselect,default=true" doc:"without hostid: choose the host"`
}

func (p migrateVM) vm() string { return string(p.VM) }

// Validate wants a target, or leave to choose one.
func (p migrateVM) Validate() error {
	if p.Host == "" && !p.Auto {
		return csapi.BadParam("hostid", dispatch.Missing, "", "missing parameter hostid, without autoselect")
	}
	return nil
}

func (c *Cloud) migrateVM(ctx context.Context, p migrateVM) (VMResult, error) {
	m := &move{VM: p.vm(), Only: string(p.Host)}
	if err := c.moveFlow.Run(ctx, m); err != nil {
		return VMResult{}, verdict(err)
	}
	return c.result(ctx, m.VM)
}

// move is the state of the flow that moves a running machine; it is stored after every step.
type move struct {
	VM   string
	Only string // to this host or none
	From string
	To   string
}

func (c *Cloud) newMoveFlow() *flow.Flow[move] {
	return flow.New[move]("migrate").Env(c.env).
		Then("begin", c.beginMove, c.endMove).
		Then("place", c.placeMove, c.unplaceMove).
		Then("move", c.moveGuest, c.settleMove).
		Then("record", c.landed, nil, flow.Retry(quick, 5))
}

func (c *Cloud) beginMove(ctx context.Context, m *move) error {
	v, err := c.begin(ctx, m.VM, Migrating, Running)
	if err != nil {
		return err
	}
	if m.From = v.Host; m.From == m.Only {
		return dispatch.Errorf(dispatch.WrongState, "VM %s is on that host already", v.title())
	}
	return nil
}

// endMove is the end of a move that did not happen.
func (c *Cloud) endMove(ctx context.Context, m *move) error {
	return c.change(ctx, m.VM, func(_ context.Context, _ *tx, v *vmRow) error {
		if v.State == Migrating {
			v.State = Running
		}
		return nil
	})
}

// placeMove claims room at the target and notes it with the machine, both or neither.
func (c *Cloud) placeMove(ctx context.Context, m *move) error {
	v, err := vmByID(ctx, c.bun, m.VM)
	if err != nil {
		return err
	}
	fit := []string{v.Target} // by an earlier run
	if v.Target == "" {
		if fit, err = c.candidates(ctx, v, m.Only); err != nil {
			return err
		}
	}
	last := errors.New("no host fits")
	for _, host := range fit {
		err := c.change(ctx, m.VM, func(ctx context.Context, q *tx, v *vmRow) error {
			v.Target = host
			return c.hold(ctx, q, v, host)
		})
		switch {
		case err == nil:
			m.To = host
			return nil
		case !full(err):
			return failed(ctx, err)
		}
		last = err
	}
	return noCapacity(m.VM, last)
}

func (c *Cloud) unplaceMove(ctx context.Context, m *move) error {
	return c.change(ctx, m.VM, func(ctx context.Context, q *tx, v *vmRow) error {
		if v.Target == "" { // it has landed
			return nil
		}
		v.Target = ""
		return c.tracker.ReleaseTx(ctx, q.tx, m.To, m.VM, epoch(ctx))
	})
}

func (c *Cloud) moveGuest(ctx context.Context, m *move) error {
	from, to, err := c.ends(ctx, m)
	if err != nil {
		return err
	}
	able, ok := from.(hypervisor.Migrator)
	if !ok {
		return dispatch.Errorf(dispatch.Unsupported, "host %s cannot move machines", m.From)
	}
	target, err := to.Info(ctx)
	if err != nil {
		return failed(ctx, err)
	}
	row, err := hostByID(ctx, c.bun, m.To)
	if err != nil {
		return err
	}
	spec := hypervisor.MigrateSpec{ToHost: target.ID, Target: to, Epoch: epoch(ctx)}
	spec.To, spec.TransferURI = row.reached()
	going, err := able.Migrate(ctx, m.VM, spec)
	if err == nil {
		err = going.Wait(ctx)
	}
	return failed(ctx, err)
}

// settleMove asks both hosts where the machine is after all: it stays there.
func (c *Cloud) settleMove(ctx context.Context, m *move) error {
	from, to, err := c.ends(ctx, m)
	if err != nil {
		return err
	}
	switch vm, err := from.Get(ctx, m.VM); {
	case err == nil && vm.HasProcess():
		if err := to.Stop(ctx, m.VM, hypervisor.StopOptions{}); err != nil {
			return err
		}
		return to.Undefine(ctx, m.VM)
	case err != nil && !errors.Is(err, hypervisor.ErrNotFound):
		return err
	}
	if err := c.moveGuest(ctx, m); err != nil { // the source has let go: there is only forward
		return err
	}
	return c.landed(ctx, m)
}

func (c *Cloud) ends(ctx context.Context, m *move) (from, to hypervisor.Driver, err error) {
	if from, err = c.hosts.driver(ctx, m.From); err == nil {
		to, err = c.hosts.driver(ctx, m.To)
	}
	return from, to, err
}

// landed makes the claim at the target the machine's allocation and gives the source's room back, in one transaction.
func (c *Cloud) landed(ctx context.Context, m *move) error {
	err := c.change(ctx, m.VM, func(ctx context.Context, q *tx, v *vmRow) error {
		if v.Target == "" { // an earlier run has done it
			return nil
		}
		v.State, v.Host, v.LastHost, v.Target = Running, m.To, m.To, ""
		if err := c.tracker.CommitTx(ctx, q.tx, claimID(ctx), epoch(ctx)); err != nil {
			return err
		}
		return c.tracker.ReleaseTx(ctx, q.tx, m.From, m.VM, epoch(ctx))
	})
	return failed(ctx, err)
}

// full tells that a host cannot take a machine, so that the next one is asked.
func full(err error) bool {
	return errors.Is(err, tracker.ErrNoRoom) || errors.Is(err, tracker.ErrDisabled) || errors.Is(err, tracker.ErrNotFound)
}
