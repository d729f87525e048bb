package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/periodic"
)

const sweepEvery = 2 * time.Second

// sweeper settles machines whose deploy ended before it ever ran, as one cancelled in its queue: they have rows and an address,
// and no job that would ever give them up. And it has those expunged that were destroyed long ago.
type sweeper struct {
	*Cloud
	jobs *job.Manager
}

// Tasks are what the cluster does by the clock, each once wherever it runs: single says on which node.
func (c *Cloud) Tasks(jobs *job.Manager, single periodic.Decorator) []periodic.Task {
	s := sweeper{c, jobs}
	return []periodic.Task{
		periodic.Every(sweepEvery, "settle", s.sweep, single, periodic.Spread(0)),
		periodic.Every(sweepEvery, "expunge", s.expunge, single, periodic.Spread(0)),
	}
}

func (s sweeper) sweep(ctx context.Context) error {
	vms, err := all[vmRow](ctx, s.bun, "state = ? AND job = ''", Starting)
	if err != nil || len(vms) == 0 {
		return err
	}
	resources := make([]string, len(vms))
	for i := range vms {
		resources[i] = vmResource(vms[i].ID)
	}
	live, err := s.jobs.ByResource(ctx, resources) // read after the machines, which come with their jobs
	if err != nil {
		return err
	}
	for i := range vms {
		if live[resources[i]] == nil {
			if err := s.abandon(ctx, vms[i].ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// expunge submits a job for each machine that is due, the same on all nodes; one that failed is tried again after a while.
func (s sweeper) expunge(ctx context.Context) error {
	now := s.env.Clock.Now()
	vms, err := all[vmRow](ctx, s.bun, "state IN (?, ?) AND updated < ?", Destroyed, Expunging, now.Add(-s.cfg.Expunge).UnixMicro())
	if err != nil {
		return err
	}
	for _, v := range vms {
		_, err := s.registry.Dispatch(ctx, &dispatch.Command{
			Name: "expungeVirtualMachine", Caller: System, Params: map[string]string{"id": v.ID},
			Idem: fmt.Sprintf("%s/%d/%d", v.ID, v.Version, now.Unix()/600),
		})
		if code := dispatch.CodeOf(err); err != nil && code != dispatch.NotFound && code != dispatch.Draining {
			return err
		}
	}
	return nil
}

// abandon leaves the machine in Error with nothing allocated, unless its job has run meanwhile.
func (s sweeper) abandon(ctx context.Context, id string) error {
	return s.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, id)
		if err != nil || v.State != Starting || v.Job != "" {
			return err
		}
		if err := q.unwire(ctx, id); err != nil {
			return err
		}
		if _, err := q.exec(ctx, `DELETE FROM rs_volume WHERE vm = ?`, id); err != nil {
			return err
		}
		v.State = Failed
		return q.save(ctx, v)
	})
}
