package cloud

import (
	"context"
	"errors"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

type expungeVM struct{ target }

func (c *Cloud) expungeVM(ctx context.Context, p expungeVM) (Success, error) {
	if _, err := c.begin(ctx, string(p.ID), "", Destroyed, Failed, Expunging); err != nil {
		return Success{}, final(err)
	}
	return Success{Success: true}, final(c.expunge(ctx, string(p.ID), Success{Success: true}))
}

// expunge removes what is left of a destroyed machine. The rows go in the transaction that keeps the job's result, since
// a run after it would not find the machine.
func (c *Cloud) expunge(ctx context.Context, id string, result any) error {
	err := c.change(ctx, id, func(_ context.Context, _ *tx, v *vmRow) error { v.State = Expunging; return nil })
	if err != nil {
		return err
	}
	if err := c.forget(ctx, id); err != nil {
		return failed(ctx, err)
	}
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		if err := q.unwire(ctx, id); err != nil {
			return err
		}
		for _, s := range []string{
			`DELETE FROM rs_tag WHERE resource IN (SELECT id FROM rs_volume WHERE vm = ?)`, `DELETE FROM rs_tag WHERE resource = ?`,
			`DELETE FROM rs_schedule WHERE vm = ?`, `DELETE FROM rs_volume WHERE vm = ?`, `DELETE FROM rs_vm WHERE id = ?`,
		} {
			if _, err := q.exec(ctx, s, id); err != nil {
				return err
			}
		}
		return job.FinishTx(ctx, q.tx, result)
	})
}

// forget undefines the machine on the host where it was last.
func (c *Cloud) forget(ctx context.Context, id string) error {
	v, err := vmByID(ctx, c.bun, id)
	if err != nil || v.LastHost == "" {
		return err
	}
	if _, err := hostByID(ctx, c.bun, v.LastHost); errors.Is(err, store.ErrNotFound) {
		return nil // the host went, and its definitions with it
	}
	d, err := c.hosts.driver(ctx, v.LastHost)
	if err != nil {
		return err
	}
	return d.Undefine(ctx, id)
}
