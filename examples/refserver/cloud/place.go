package cloud

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/drover-cloud/drover/hypervisor/tracker"
)

// claimID names the job's claim; a job brings up one machine once.
func claimID(ctx context.Context) string { return jobID(ctx) + "/place" }

// place chooses a host and claims room on it, together with the machine's row: the last host if it fits, else the one with most
// free memory, lowest id first; one that filled up meanwhile is passed over.
func (c *Cloud) place(ctx context.Context, r *bringUp) error {
	v, err := vmByID(ctx, c.bun, r.VM)
	if err != nil {
		return err
	}
	if v.Host != "" && v.Job == jobID(ctx) { // by an earlier run
		r.Host = v.Host
		return failed(ctx, c.claim(ctx, r.VM, v.Host))
	}
	fit, err := c.candidates(ctx, v, r.Only)
	if err != nil {
		return err
	}
	last := errors.New("no host fits")
	for _, host := range fit {
		err := c.claim(ctx, r.VM, host)
		switch {
		case err == nil:
			r.Host = host
			return nil
		case full(err):
			last = err
		default:
			return failed(ctx, err)
		}
	}
	return noCapacity(r.VM, last)
}

// candidates are the hosts, other than its own, where the machine fits as far as this node knows, best first.
func (c *Cloud) candidates(ctx context.Context, v *vmRow, only string) ([]string, error) {
	if err := c.tracker.Refresh(ctx); err != nil {
		return nil, err
	}
	hosts, err := all[hostRow](ctx, c.bun, "")
	if err != nil {
		return nil, err
	}
	amount := c.amount(c.inv.now().offering(v.Offering))
	var fit []tracker.Usage
	for _, h := range hosts {
		u, _ := c.tracker.Usage(h.ID)
		if ok, _ := c.tracker.Fits(h.ID, amount, nil); ok && h.open() && h.ID != v.Host && (only == "" || h.ID == only) {
			fit = append(fit, u)
		}
	}
	slices.SortStableFunc(fit, func(a, b tracker.Usage) int {
		last := func(u tracker.Usage) int {
			if u.Host == v.LastHost {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(b.Free.MemoryMiB, a.Free.MemoryMiB), cmp.Compare(a.Host, b.Host))
	})
	ids := make([]string, len(fit))
	for i, u := range fit {
		ids[i] = u.Host
	}
	return ids, nil
}

// claim holds room on the host and notes it with the machine, both or neither.
func (c *Cloud) claim(ctx context.Context, vm, host string) error {
	return c.change(ctx, vm, func(ctx context.Context, q *tx, v *vmRow) error {
		v.Host = host
		return c.hold(ctx, q, v, host)
	})
}

// hold claims room for the machine on a host that is open for it.
func (c *Cloud) hold(ctx context.Context, q *tx, v *vmRow, host string) error {
	if err := q.lockOpen(ctx, host); err != nil {
		return err
	}
	_, err := c.tracker.ClaimTx(ctx, q.tx, tracker.Request{
		ID: claimID(ctx), Host: host, Workload: v.ID, Amount: c.amount(c.inv.now().offering(v.Offering)), Epoch: epoch(ctx), Owner: v.Name,
	})
	return err
}

func (c *Cloud) unplace(ctx context.Context, r *bringUp) error {
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, r.VM)
		if err != nil || v.Job != jobID(ctx) || v.Host == "" {
			return err
		}
		if err := c.release(ctx, q, v); err != nil {
			return err
		}
		return q.save(ctx, v)
	})
}
