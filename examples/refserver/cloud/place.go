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
	if err := c.tracker.Refresh(ctx); err != nil {
		return err
	}
	last := errors.New("no host fits")
	for _, host := range c.candidates(v, r.Only) {
		err := c.claim(ctx, r.VM, host)
		switch {
		case err == nil:
			r.Host = host
			return nil
		case errors.Is(err, tracker.ErrNoRoom), errors.Is(err, tracker.ErrDisabled), errors.Is(err, tracker.ErrNotFound):
			last = err
		default:
			return failed(ctx, err)
		}
	}
	return noCapacity(r.VM, last)
}

// candidates are the hosts where the machine fits as far as this node knows, best first.
func (c *Cloud) candidates(v *vmRow, only string) []string {
	amount := c.amount(c.inv.now().offering(v.Offering))
	var fit []tracker.Usage
	for _, u := range c.tracker.Hosts() {
		if ok, _ := c.tracker.Fits(u.Host, amount, nil); ok && (only == "" || u.Host == only) && c.hosts.has(u.Host) {
			fit = append(fit, u)
		}
	}
	slices.SortStableFunc(fit, func(a, b tracker.Usage) int {
		if (a.Host == v.LastHost) != (b.Host == v.LastHost) {
			if a.Host == v.LastHost {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Free.MemoryMiB, a.Free.MemoryMiB)
	})
	ids := make([]string, len(fit))
	for i, u := range fit {
		ids[i] = u.Host
	}
	return ids
}

// claim holds room on the host and notes it with the machine, both or neither.
func (c *Cloud) claim(ctx context.Context, vm, host string) error {
	return c.change(ctx, vm, func(ctx context.Context, q *tx, v *vmRow) error {
		v.Host = host
		_, err := c.tracker.ClaimTx(ctx, q.tx, tracker.Request{
			ID: claimID(ctx), Host: host, Workload: vm, Amount: c.amount(c.inv.now().offering(v.Offering)),
			Epoch: epoch(ctx), Owner: v.Name,
		})
		return err
	})
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
