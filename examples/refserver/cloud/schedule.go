package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	_ "time/tzdata" // schedules name zones, also where the system knows none

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store"
)

// scheduleRow is a command on a machine at due minutes.
type scheduleRow struct {
	bun.BaseModel `bun:"table:rs_schedule"`
	base
	VM          string `bun:"vm"`
	Action      string `bun:"action"`
	Schedule    string `bun:"schedule"`
	Zone        string `bun:"zone"`
	Description string `bun:"description"`
	Enabled     bool   `bun:"enabled"`
	Start       int64  `bun:"start_at"` // 0 = none
	End         int64  `bun:"end_at"`   // 0 = none
}

// actions are the commands of a schedule's action, and whether by force.
var actions = map[string]struct {
	command string
	force   bool
}{
	"start": {"startVirtualMachine", false}, "stop": {"stopVirtualMachine", false}, "reboot": {"rebootVirtualMachine", false},
	"force_stop": {"stopVirtualMachine", true}, "force_reboot": {"rebootVirtualMachine", true},
}

// VMSchedule is a schedule as answers show it.
type VMSchedule struct {
	ID          string     `json:"id"`
	VMID        string     `json:"virtualmachineid"`
	Action      string     `json:"action"`
	Schedule    string     `json:"schedule"`
	Zone        string     `json:"timezone"`
	Description string     `json:"description"`
	Enabled     bool       `json:"enabled"`
	Start       csapi.Time `json:"startdate,omitzero"`
	End         csapi.Time `json:"enddate,omitzero"`
	Created     csapi.Time `json:"created"`
}

// ObjectName is the key of a list of them.
func (VMSchedule) ObjectName() string { return "vmschedule" }

// VMScheduleResult is the answer of createVMSchedule.
type VMScheduleResult struct {
	Schedule VMSchedule `json:"vmschedule"`
}

func (r scheduleRow) show() VMSchedule {
	return VMSchedule{
		ID: r.ID, VMID: r.VM, Action: r.Action, Schedule: r.Schedule, Zone: r.Zone, Description: r.Description, Enabled: r.Enabled,
		Start: csapi.Time(at(r.Start)), End: csapi.Time(at(r.End)), Created: csapi.Time(at(r.Created)),
	}
}

type createSchedule struct {
	VM          dispatch.UUID `param:"virtualmachineid,required,entity=virtualmachine"`
	Action      string        `param:"action,required,oneof=start|stop|reboot|force_stop|force_reboot"`
	Schedule    string        `param:"schedule,required" doc:"cron: minute hour day month weekday"`
	Zone        string        `param:"timezone,required" doc:"as Europe/Paris"`
	Description string        `param:"description"`
	Enabled     bool          `param:"enabled,default=true"`
	Start       time.Time     `param:"startdate,layout=datetime"`
	End         time.Time     `param:"enddate,layout=datetime,endof"`
}

// calendar reads schedule and zone.
func calendar(schedule, zone string) (periodic.Schedule, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return nil, csapi.BadParam("timezone", dispatch.NoMatch, zone, "a zone such as Europe/Paris or UTC")
	}
	s, err := periodic.Calendar(schedule, loc)
	if err != nil {
		return nil, csapi.BadParam("schedule", dispatch.NoMatch, schedule, "five fields of cron that some date matches")
	}
	return s, nil
}

// Validate reads the schedule.
func (p createSchedule) Validate() error {
	if !p.Start.IsZero() && !p.End.IsZero() && !p.End.After(p.Start) {
		return csapi.BadParam("enddate", dispatch.OutOfRange, p.End.Format(time.RFC3339), "after startdate")
	}
	_, err := calendar(p.Schedule, p.Zone)
	return err
}

func (c *Cloud) createSchedule(ctx context.Context, p createSchedule) (VMScheduleResult, error) {
	r := scheduleRow{VM: string(p.VM), Action: p.Action, Schedule: p.Schedule, Zone: p.Zone, Description: p.Description, Enabled: p.Enabled}
	if !p.Start.IsZero() {
		r.Start = p.Start.UnixMicro()
	}
	if !p.End.IsZero() {
		r.End = p.End.UnixMicro()
	}
	err := c.in(ctx, func(ctx context.Context, q *tx) error {
		r.base = base{ID: c.env.NewID(), Created: q.now, Version: 1}
		if err := q.insert(ctx, &r); err != nil {
			return err
		}
		return c.done(ctx, q, "createVMSchedule", "VirtualMachine", r.VM)
	})
	return VMScheduleResult{r.show()}, err
}

type deleteSchedule struct {
	VM  dispatch.UUID   `param:"virtualmachineid,required,entity=virtualmachine"`
	ID  dispatch.UUID   `param:"id,entity=schedule"`
	IDs []dispatch.UUID `param:"ids,entity=schedule" doc:"default: all of the machine"`
}

func (c *Cloud) deleteSchedule(ctx context.Context, p deleteSchedule) (Success, error) {
	ids := p.IDs
	if p.ID != "" {
		ids = append(slices.Clone(ids), p.ID)
	}
	return Success{Success: true}, c.in(ctx, func(ctx context.Context, q *tx) error {
		d := q.NewDelete().Model((*scheduleRow)(nil)).Where("vm = ?", string(p.VM))
		if len(ids) > 0 {
			d = d.Where("id IN (?)", bun.List(ids))
		}
		if _, err := d.Exec(ctx); err != nil {
			return fmt.Errorf("cloud: schedules: %w", err)
		}
		return c.done(ctx, q, "deleteVMSchedule", "VirtualMachine", string(p.VM))
	})
}

type listSchedules struct {
	csapi.Paging
	VM dispatch.UUID `param:"virtualmachineid,required,entity=virtualmachine"`
	ID dispatch.UUID `param:"id,entity=schedule"`
}

func (c *Cloud) listSchedules(ctx context.Context, p listSchedules) (dispatch.Page[VMSchedule], error) {
	rows, err := all[scheduleRow](ctx, c.bun, "vm = ?", string(p.VM))
	if err != nil {
		return dispatch.Page[VMSchedule]{}, err
	}
	return listed(p.Paging, rows, func(r scheduleRow) bool { return wanted(p.ID, r.ID) }, scheduleRow.show)
}

// Schedules has due commands run; run it on every node. What is due is a job with the schedule and the due time for idempotency
// key, so that however many nodes find it there is one.
func (c *Cloud) Schedules() drover.Component { return scheduler{c} }

// LookAtSchedules submits what is due by now; done is what the node that looks has settled.
func (c *Cloud) LookAtSchedules(ctx context.Context, now time.Time, done map[string]time.Time) error {
	return scheduler{c}.look(ctx, now, done)
}

type scheduler struct{ *Cloud }

const (
	lookEvery = 5 * time.Second
	lookBack  = 2 * time.Minute // so long a due time is looked for that no node was there for
)

// Run looks until ctx ends.
func (s scheduler) Run(ctx context.Context) error {
	done := map[string]time.Time{} // the last due time of each schedule that is settled
	for s.env.Sleep(ctx, lookEvery) == nil {
		if err := s.look(ctx, s.env.Clock.Now(), done); err != nil && ctx.Err() == nil {
			s.env.Logger.WarnContext(ctx, "cloud: schedules are late", "err", err)
		}
	}
	return nil
}

// look submits what is due and not done.
func (s scheduler) look(ctx context.Context, now time.Time, done map[string]time.Time) (failed error) {
	rows, err := all[scheduleRow](ctx, s.bun, "enabled")
	if err != nil {
		return err
	}
	for _, r := range rows {
		last := now.Add(-lookBack)
		for _, t := range []time.Time{at(r.Created), at(r.Start).Add(-time.Microsecond), done[r.ID]} {
			if t.After(last) {
				last = t
			}
		}
		for due := r.next(last); !due.IsZero() && !due.After(now); due = r.next(due) {
			if err := s.submit(ctx, r, due); err != nil {
				failed = errors.Join(failed, err)
				break // again at the next look
			}
			done[r.ID] = due
		}
	}
	return failed
}

// next is the first due time behind last; zero if there is none.
func (r scheduleRow) next(last time.Time) time.Time {
	s, err := calendar(r.Schedule, r.Zone)
	if err != nil {
		return time.Time{}
	}
	due, ok := s.Next(periodic.Run{Due: last})
	if !ok || r.End > 0 && due.After(at(r.End)) {
		return time.Time{}
	}
	return due
}

func (s scheduler) submit(ctx context.Context, r scheduleRow, due time.Time) error {
	a := actions[r.Action]
	p := map[string]string{"id": r.VM}
	if a.force {
		p["forced"] = "true"
	}
	_, err := s.registry.Dispatch(ctx, &dispatch.Command{Name: a.command, Caller: System, Params: p, Idem: fmt.Sprintf("%s/%d", r.ID, due.Unix())})
	if dispatch.CodeOf(err) == dispatch.NotFound {
		return nil // the machine is gone, and the schedule with it
	}
	return err
}

// scheduleOwner is the account of the machine that has the schedule.
func (c *Cloud) scheduleOwner(ctx context.Context, id string) (string, error) {
	r, err := rowByID(ctx, c.bun, "schedule", id, new(scheduleRow))
	if err != nil {
		return "", err
	}
	v, err := vmByID(ctx, c.bun, r.VM)
	if err != nil {
		return "", errors.Join(err, store.ErrNotFound)
	}
	return v.Account, nil
}
