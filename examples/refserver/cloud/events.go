package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/store"
)

// eventTypes are the types of events by the command that causes them.
var eventTypes = map[string]string{
	"deployVirtualMachine": "VM.CREATE", "startVirtualMachine": "VM.START", "stopVirtualMachine": "VM.STOP",
	"rebootVirtualMachine": "VM.REBOOT", "destroyVirtualMachine": "VM.DESTROY", "expungeVirtualMachine": "VM.EXPUNGE",
	"recoverVirtualMachine": "VM.RECOVER", "updateVirtualMachine": "VM.UPDATE", "changeServiceForVirtualMachine": "VM.UPGRADE",
	"scaleVirtualMachine": "VM.UPGRADE", "migrateVirtualMachine": "VM.MIGRATE", "createTags": "CREATE_TAGS", "deleteTags": "DELETE_TAGS",
	"addHost": "HOST.ADD", "updateHost": "HOST.UPDATE", "deleteHost": "HOST.DELETE",
	"prepareHostForMaintenance": "MAINT.PREPARE", "cancelHostMaintenance": "MAINT.CANCEL", "reconnectHost": "HOST.RECONNECT",
	"declareHostAsDegraded": "HOST.DEGRADED", "cancelHostAsDegraded": "HOST.DEGRADED.CANCEL",
	"prepareForShutdown": "MS.DRAIN", "cancelShutdown": "MS.DRAIN", "cancelAsyncJob": "JOB.CANCEL",
	"vm.power": "VM.STATE.SYNC", "createVMSchedule": "VM.SCHEDULE.CREATE", "deleteVMSchedule": "VM.SCHEDULE.DELETE",
}

// eventRow is what happened. Those of a job are Scheduled, Started and Completed, each once.
type eventRow struct {
	bun.BaseModel `bun:"table:rs_event"`
	base
	Type        string `bun:"type"`
	Level       string `bun:"level"` // INFO or ERROR
	State       string `bun:"state"`
	Description string `bun:"description"`
	Account     string `bun:"account"` // id
	Username    string `bun:"username"`
	Kind        string `bun:"resource_type"`
	Resource    string `bun:"resource"`
	Job         string `bun:"job,nullzero"`
	Parent      string `bun:"parent"` // the Scheduled event
}

// Publish writes the events of a command's job, in the transaction that makes them true. See dispatch.Sink.
func (c *Cloud) Publish(ctx context.Context, x store.Tx, e dispatch.Event) error {
	q, err := c.open(x)
	if err != nil {
		return err
	}
	row := eventRow{Type: eventTypes[e.Command], Level: "INFO", Description: e.Command, Job: e.JobID, Parent: e.ID}
	row.base = base{ID: c.env.NewID(), Created: q.now, Version: 1}
	row.Kind, row.Resource, _ = strings.Cut(e.Job.Resource, "/")
	row.Account, row.Username = e.Job.Identity["accountid"], e.Job.Identity["user"]
	switch e.Phase {
	case dispatch.Scheduled:
		row.State, row.Description, row.ID, row.Parent = "Scheduled", "scheduled "+e.Command, e.ID, ""
	case dispatch.Started:
		row.State = "Started"
	case dispatch.Completed:
		row.State = "Completed"
		if e.Code != "" {
			row.Level, row.Description = "ERROR", cutText(e.Command+": "+e.Job.Error.Text, 1024)
		}
	}
	// A commit that was not heard of is done again: what is there already is this event.
	if _, err := q.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
		return fmt.Errorf("cloud: event: %w", err)
	}
	return nil
}

// note adds an event of the caller.
func (c *Cloud) note(ctx context.Context, q *tx, u Caller, e eventRow) error {
	e.base = base{ID: c.env.NewID(), Created: q.now, Version: 1}
	e.Account, e.Username = u.AccountID, u.Username
	if e.Level == "" {
		e.Level = "INFO"
	}
	return q.insert(ctx, &e)
}

// done is the event of a command that is no job.
func (c *Cloud) done(ctx context.Context, q *tx, command, kind, id string) error {
	return c.note(ctx, q, CallerOf(ctx), eventRow{Type: eventTypes[command], State: "Completed", Description: command, Kind: kind, Resource: id})
}

func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// Event is an event as answers show it.
type Event struct {
	ID           string     `json:"id"`
	Type         string     `json:"type"`
	Level        string     `json:"level"`
	State        string     `json:"state"`
	Description  string     `json:"description"`
	Account      string     `json:"account"`
	Domain       string     `json:"domain"`
	DomainID     string     `json:"domainid"`
	DomainPath   string     `json:"domainpath"`
	Username     string     `json:"username"`
	Created      csapi.Time `json:"created"`
	ResourceID   string     `json:"resourceid,omitempty"`
	ResourceType string     `json:"resourcetype,omitempty"`
	Archived     bool       `json:"archived"`
	JobID        string     `json:"jobid,omitempty"`
	ParentID     string     `json:"parentid,omitempty"`
}

// ObjectName is the key of a list of them.
func (Event) ObjectName() string { return "event" }

type listEvents struct {
	csapi.Paging
	ID           dispatch.UUID `param:"id"`
	Type         string        `param:"type"`
	Level        string        `param:"level,oneof=INFO|WARN|ERROR"`
	State        string        `param:"state,oneof=Created|Scheduled|Started|Completed"`
	ResourceID   dispatch.UUID `param:"resourceid"`
	ResourceType string        `param:"resourcetype"`
	Start        time.Time     `param:"startdate,layout=datetime"`
	End          time.Time     `param:"enddate,layout=datetime,endof"`
	Keyword      string        `param:"keyword" doc:"part of type or description"`
	JobID        dispatch.UUID `param:"jobid"`
}

func (c *Cloud) listEvents(ctx context.Context, p listEvents) (out dispatch.Page[Event], err error) {
	var rows []eventRow
	me := CallerOf(ctx)
	if out.Total, err = pageOf(ctx, p.Paging, func() *bun.SelectQuery { return p.where(me, c.bun.NewSelect().Model(&rows)) },
		"created DESC, CASE state WHEN 'Completed' THEN 0 WHEN 'Started' THEN 1 ELSE 2 END, id DESC", &rows); err != nil {
		return out, err
	}
	if len(rows) == 0 {
		if err := p.known(ctx, c); err != nil {
			return out, err
		}
	}
	s := c.inv.now()
	for _, e := range rows {
		a := s.account(e.Account)
		if e.Account == System.AccountID {
			a = accountRow{Name: System.Account, Domain: System.Domain, DomainID: s.accounts[0].DomainID}
		}
		if e.Level == "ERROR" && !me.Admin { // details are for admins
			e.Description, _, _ = strings.Cut(e.Description, ":")
		}
		out.Items = append(out.Items, Event{
			ID: e.ID, Type: e.Type, Level: e.Level, State: e.State, Description: e.Description, Account: a.Name, Domain: a.Domain, DomainID: a.DomainID,
			DomainPath: a.Domain, Username: e.Username, Created: csapi.Time(at(e.Created)), ResourceID: e.Resource, ResourceType: e.Kind,
			JobID: e.Job, ParentID: e.Parent,
		})
	}
	return out, nil
}

func (p listEvents) where(me Caller, q *bun.SelectQuery) *bun.SelectQuery {
	if !me.Admin {
		q = q.Where("account = ?", me.AccountID)
	}
	q = equals(q, map[string]string{
		"id": string(p.ID), "type": p.Type, "level": p.Level, "state": p.State, "resource": string(p.ResourceID), "resource_type": p.ResourceType, "job": string(p.JobID),
	})
	if !p.Start.IsZero() {
		q = q.Where("created >= ?", p.Start.UnixMicro())
	}
	if !p.End.IsZero() {
		q = q.Where("created <= ?", p.End.UnixMicro())
	}
	return like(q, p.Keyword, "type", "description")
}

// known refuses the id of nothing that any event of the caller is about.
func (p listEvents) known(ctx context.Context, c *Cloud) error {
	for _, x := range []struct {
		param, id string
		only      listEvents
	}{
		{"id", string(p.ID), listEvents{ID: p.ID}}, {"jobid", string(p.JobID), listEvents{JobID: p.JobID}},
		{"resourceid", string(p.ResourceID), listEvents{ResourceID: p.ResourceID}},
	} {
		if x.id == "" {
			continue
		}
		n, err := x.only.where(CallerOf(ctx), c.bun.NewSelect().Model((*eventRow)(nil))).Count(ctx)
		if err != nil {
			return fmt.Errorf("cloud: events: %w", err)
		}
		if err := unknownID(int(n), x.param, x.id); err != nil {
			return err
		}
	}
	return nil
}

// EventType is one of the types.
type EventType struct {
	Name string `json:"name"`
}

// ObjectName is the key of a list of them.
func (EventType) ObjectName() string { return "eventtype" }

type listEventTypes struct{}

func (c *Cloud) listEventTypes(context.Context, listEventTypes) (out dispatch.Page[EventType], err error) {
	var names []string
	for _, t := range eventTypes {
		names = append(names, t)
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		out.Items = append(out.Items, EventType{n})
	}
	out.Total = len(out.Items)
	return out, nil
}
