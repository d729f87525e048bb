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

// sweeper settles machines that no job will settle any more: those whose deploy ended before it ever ran, as one cancelled in its
// queue, which have rows and an address, and those whose stop ended while nothing could be recorded. It has those expunged that were destroyed long ago, and puts right what
// is not as its row says.
type sweeper struct {
	*Cloud
	jobs *job.Manager

	told map[string]string // what was last said of machines that only an operator can put right
	mute map[string]bool   // hosts that could not be read
}

// Tasks are what the cluster does by the clock, each once wherever it runs: single says on which node.
func (c *Cloud) Tasks(jobs *job.Manager, single periodic.Decorator) []periodic.Task {
	s := &sweeper{Cloud: c, jobs: jobs, told: map[string]string{}}
	return []periodic.Task{
		periodic.Every(sweepEvery, "settle", s.sweep, single, periodic.Spread(0)),
		periodic.Every(sweepEvery, "expunge", s.expunge, single, periodic.Spread(0)),
		periodic.Every(powerEvery, "vm.power", s.power, single, periodic.Spread(0)),
	}
}

func (s *sweeper) sweep(ctx context.Context) error {
	vms, err := all[vmRow](ctx, s.bun, "state = ? AND job = '' OR state = ?", Starting, Stopping)
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
			if err := s.abandon(ctx, &vms[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// expunge submits a job for each machine that is due, the same on all nodes; one that failed is tried again after a while.
func (s *sweeper) expunge(ctx context.Context) error {
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

// abandon leaves a machine that never ran in Error with nothing allocated, and one whose job could not say how its stop ended to
// vm.power, unless a job has had it meanwhile.
func (s *sweeper) abandon(ctx context.Context, seen *vmRow) error {
	return s.in(ctx, func(ctx context.Context, q *tx) error {
		v, err := vmByID(ctx, q, seen.ID)
		if err != nil || v.Version != seen.Version {
			return err
		}
		if v.State == Stopping {
			v.State = Unknown
			return q.save(ctx, v)
		}
		v.State = Failed
		if err := q.strip(ctx, v.ID); err != nil {
			return err
		}
		return q.save(ctx, v)
	})
}
