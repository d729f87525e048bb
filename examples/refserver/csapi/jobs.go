package csapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
)

// ResourceOf is how jobs name what they are about.
func ResourceOf(typ, id string) string { return typ + "/" + id }

// asyncJob is a job as this face shows it.
type asyncJob struct {
	JobID        string          `json:"jobid"`
	Cmd          string          `json:"cmd"`
	JobStatus    int             `json:"jobstatus" doc:"0 unfinished, 1 succeeded, 2 failed or cancelled"`
	ProcStatus   int             `json:"jobprocstatus" doc:"progress, 0 to 100"`
	ResultCode   int             `json:"jobresultcode"`
	ResultType   string          `json:"jobresulttype,omitempty"`
	Result       json.RawMessage `json:"jobresult,omitempty"`
	State        string          `json:"jobstate,omitempty" doc:"cancelled, of a job that was"`
	Created      Time            `json:"created"`
	Completed    Time            `json:"completed,omitzero"`
	AccountID    string          `json:"accountid"`
	Account      string          `json:"account"`
	DomainID     string          `json:"domainid"`
	DomainPath   string          `json:"domainpath"`
	UserID       string          `json:"userid"`
	ServerID     string          `json:"managementserverid,omitempty"`
	ServerName   string          `json:"managementservername,omitempty"`
	InstanceType string          `json:"jobinstancetype,omitempty"`
	InstanceID   string          `json:"jobinstanceid,omitempty"`

	hold time.Duration // the answer may wait so long for the job's end
}

// ObjectName is the key of a list of them.
func (asyncJob) ObjectName() string { return "asyncjobs" }

type queryAsyncJobResult struct {
	JobID        dispatch.UUID `param:"jobid" doc:"the job"`
	ResourceType string        `param:"resourcetype" doc:"with resourceid: the newest job of that resource"`
	ResourceID   dispatch.UUID `param:"resourceid"`
	Wait         *int          `param:"wait,min=0,max=25" doc:"seconds to wait for an unfinished job, instead of the server's"`
}

type listAsyncJobs struct {
	Paging
	Status       string        `param:"jobstatus" doc:"0, 1, 2 or the name of a state; default: unfinished"`
	Start        time.Time     `param:"startdate,layout=datetime" doc:"created at or after"`
	End          time.Time     `param:"enddate,layout=datetime,endof" doc:"created at or before"`
	Keyword      string        `param:"keyword" doc:"part of cmd"`
	ResourceType string        `param:"resourcetype"`
	ResourceID   dispatch.UUID `param:"resourceid"`
	Server       dispatch.UUID `param:"managementserverid,entity=managementserver"`
	LongerThan   int64         `param:"runninglongerthan,min=0,roles=admin" doc:"seconds"`
}

type cancelAsyncJob struct {
	JobID  dispatch.UUID `param:"jobid,required"`
	Reason string        `param:"reason"`
}

var unfinished = []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked}

func (f *Face) register() {
	r := f.cfg.Registry
	dispatch.Sync(r, "queryAsyncJobResult", f.query, dispatch.Doc("Retrieves the current status of an asynchronous job, waiting for its end for a while"),
		dispatch.Since("1.0"), dispatch.Timeout(time.Minute))
	dispatch.Sync(r, "cancelAsyncJob", f.cancel, dispatch.Doc("Cancels an asynchronous job, where its command can still be"), dispatch.Timeout(time.Minute))
	dispatch.List(r, "listAsyncJobs", f.list, dispatch.Doc("Lists asynchronous jobs, by default the unfinished ones"), dispatch.Since("1.0"))
	dispatch.Sync(r, "login", f.login, dispatch.Doc("Opens a session"))
	dispatch.Sync(r, "logout", f.logout, dispatch.Doc("Ends the session"))
	dispatch.List(r, "listApis", f.apis, dispatch.Doc("Lists the commands that the caller may use"), dispatch.Since("1.0"))
}

func (f *Face) query(ctx context.Context, c queryAsyncJobResult) (asyncJob, error) {
	j, err := f.find(ctx, c)
	if err != nil {
		return asyncJob{}, err
	}
	hold := f.cfg.Hold
	if c.Wait != nil {
		hold = time.Duration(*c.Wait) * time.Second
	}
	a := f.show(ctx, dispatch.Caller(ctx), j)
	if !final(j.State) {
		a.hold = hold
	}
	return a, nil
}

// held waits for the job of an answer that may wait. It does so behind the chain of stages, whose frames would be kept by everybody
// who waits.
func (f *Face) held(ctx context.Context, caller, answer any) (any, error) {
	a, ok := answer.(asyncJob)
	if !ok || a.hold <= 0 {
		return answer, nil
	}
	f.holds.wait(ctx, a.JobID, a.hold)
	j, err := f.cfg.Jobs.Get(context.WithoutCancel(ctx), a.JobID)
	if err != nil {
		return nil, noJob(err, dispatch.UUID(a.JobID))
	}
	return f.show(ctx, caller, j), nil
}

// unwinding is how long the answer of a cancel waits for a handler to end.
const unwinding = 5 * time.Second

func (f *Face) cancel(ctx context.Context, c cancelAsyncJob) (asyncJob, error) {
	j, err := f.own(ctx, c.JobID)
	if err != nil {
		return asyncJob{}, err
	}
	if final(j.State) {
		return asyncJob{}, dispatch.Errorf(dispatch.WrongState, "job %s has ended already: %s", j.ID, j.State)
	}
	by := "admin"
	if id, ok := dispatch.Caller(ctx).(interface{ Identity() map[string]string }); ok {
		by = id.Identity()["user"]
	}
	reason := by
	if c.Reason != "" {
		reason += ": " + c.Reason
	}
	if _, err := f.cfg.Jobs.Cancel(ctx, j.ID, reason); err != nil {
		return asyncJob{}, err
	}
	f.holds.wait(ctx, j.ID, unwinding)
	if j, err = f.own(ctx, c.JobID); err != nil {
		return asyncJob{}, err
	}
	return f.show(ctx, dispatch.Caller(ctx), j), nil
}

// own reads a job that the caller may see: any for an admin, else those of its account.
func (f *Face) own(ctx context.Context, id dispatch.UUID) (*job.Job, error) {
	j, err := f.cfg.Jobs.Get(ctx, string(id))
	if err == nil {
		if only := account(ctx); only != "" && j.Identity["account"] != only {
			err = job.ErrNotFound
		}
	}
	return j, noJob(err, id)
}

// account is the only one whose jobs the caller may see; "" = all.
func account(ctx context.Context) string {
	caller := dispatch.Caller(ctx)
	if id, ok := caller.(interface{ Identity() map[string]string }); ok && !IsAdmin(caller) {
		return id.Identity()["account"]
	}
	return ""
}

func (f *Face) find(ctx context.Context, c queryAsyncJobResult) (*job.Job, error) {
	if c.JobID != "" {
		return f.own(ctx, c.JobID)
	}
	if c.ResourceType == "" || c.ResourceID == "" {
		return nil, BadParam("jobid", dispatch.Missing, "", "missing parameter jobid, or resourcetype and resourceid")
	}
	typ, err := resourceType(c.ResourceType)
	if err != nil {
		return nil, err
	}
	q := job.Query{
		Resource: ResourceOf(typ, string(c.ResourceID)), Newest: true, Limit: 1, Account: account(ctx),
		States: append(slices.Clone(unfinished), job.Succeeded, job.Failed, job.Cancelled),
	}
	for j, err := range f.cfg.Jobs.List(ctx, q) {
		return j, err
	}
	return nil, BadParam("resourceid", dispatch.NoSuchEntity, string(c.ResourceID), "")
}

func (f *Face) list(ctx context.Context, c listAsyncJobs) (dispatch.Page[asyncJob], error) {
	q := job.Query{Created: job.Range{From: c.Start, To: c.End}, Older: time.Duration(c.LongerThan) * time.Second, Limit: 500, Account: account(ctx)}
	var err error
	if q.States, err = states(c.Status); err != nil {
		return dispatch.Page[asyncJob]{}, err
	}
	typ := ""
	if c.ResourceType != "" {
		if typ, err = resourceType(c.ResourceType); err != nil {
			return dispatch.Page[asyncJob]{}, err
		}
		if c.ResourceID != "" {
			q.Resource = ResourceOf(typ, string(c.ResourceID))
		}
	} else if c.ResourceID != "" {
		return dispatch.Page[asyncJob]{}, BadParam("resourcetype", dispatch.Missing, "", "missing parameter resourcetype, which resourceid needs")
	}
	var all []asyncJob
	for j, err := range f.cfg.Jobs.List(ctx, q) {
		if err != nil {
			return dispatch.Page[asyncJob]{}, err
		}
		a := f.show(ctx, dispatch.Caller(ctx), j)
		if strings.HasPrefix(j.Kind, "cmd.") && (typ == "" || a.InstanceType == typ) &&
			(c.ResourceID == "" || a.InstanceID == string(c.ResourceID)) && (c.Server == "" || a.ServerID == string(c.Server)) &&
			strings.Contains(strings.ToLower(a.Cmd), strings.ToLower(c.Keyword)) {
			all = append(all, a)
		}
	}
	if len(all) == 0 && q.Resource != "" {
		if err := f.exists(ctx, typ, string(c.ResourceID)); err != nil {
			return dispatch.Page[asyncJob]{}, err
		}
	}
	slices.SortFunc(all, func(a, b asyncJob) int { return cmp.Compare(a.JobID, b.JobID) })
	return PageOf(c.Paging, all), nil
}

// exists refuses the id of nothing; things that are gone may still have jobs.
func (f *Face) exists(ctx context.Context, typ, id string) error {
	if f.cfg.Registry.Entities == nil {
		return nil
	}
	found, err := f.cfg.Registry.Entities(ctx, strings.ToLower(typ), []string{id})
	if err == nil && len(found) == 0 {
		err = BadParam("resourceid", dispatch.NoSuchEntity, id, "")
	}
	return err
}

// states are those that a jobstatus asks for.
func states(status string) ([]job.State, error) {
	switch status {
	case "", "0":
		return unfinished, nil
	case "1":
		return []job.State{job.Succeeded}, nil
	case "2":
		return []job.State{job.Failed, job.Cancelled}, nil
	}
	s := job.State(strings.ToLower(status))
	if slices.Contains(unfinished, s) || final(s) {
		return []job.State{s}, nil
	}
	return nil, BadParam("jobstatus", dispatch.NotOneOf, status, "0, 1, 2 or the name of a state")
}

func final(s job.State) bool { return s == job.Succeeded || s == job.Failed || s == job.Cancelled }

// resourceTypes are what jobs are about here, by lower-case name.
var resourceTypes = map[string]string{
	"virtualmachine": "VirtualMachine", "host": "Host", "volume": "Volume", "network": "Network", "template": "Template",
}

func resourceType(s string) (string, error) {
	if typ, ok := resourceTypes[strings.ToLower(s)]; ok {
		return typ, nil
	}
	return "", BadParam("resourcetype", dispatch.NotOneOf, s, "VirtualMachine, Host, Volume, Network or Template")
}

func noJob(err error, id dispatch.UUID) error {
	if errors.Is(err, job.ErrNotFound) {
		return BadParam("jobid", dispatch.NoSuchEntity, string(id), "")
	}
	return err
}

// show is a job in this face's words. A cancelled one is 2, never 3: clients poll a 3 until their time-out.
func (f *Face) show(ctx context.Context, caller any, j *job.Job) asyncJob {
	id := j.Identity
	a := asyncJob{
		JobID: j.ID, Cmd: command(j.Kind), ProcStatus: j.Progress.Percent, Created: Time(j.Created),
		AccountID: id["accountid"], Account: id["account"], DomainID: id["domainid"], DomainPath: id["domain"], UserID: id["userid"],
	}
	a.InstanceType, a.InstanceID, _ = strings.Cut(j.Resource, "/")
	if f.cfg.Nodes != nil {
		node := j.Session
		if node == "" {
			node = id["node"]
		}
		a.ServerID, a.ServerName = f.cfg.Nodes.ManagementServer(ctx, node)
	}
	if !final(j.State) {
		return a
	}
	a.Completed, a.ResultType = Time(j.Ended), "object"
	switch j.State {
	case job.Succeeded:
		a.JobStatus, a.Result = 1, j.Result
		if len(a.Result) == 0 || a.Result[0] != '{' {
			a.Result = json.RawMessage(`{"success":true}`)
		}
		return a
	case job.Cancelled:
		a.State = string(job.Cancelled)
		a.Result = refusal(530, "job is cancelled by "+cmp.Or(j.CancelReason, j.CancelBy))
	default:
		e := &dispatch.Error{Code: dispatch.Internal, Text: "internal error"}
		if j.Error != nil {
			e = &dispatch.Error{Code: dispatch.Code(j.Error.Code), Text: j.Error.Text}
		}
		e = dispatch.Public(e, IsAdmin(caller))
		a.Result = refusal(e.Code.Info().ErrorCode, e.Text)
		a.ResultCode = e.Code.Info().ErrorCode
	}
	a.JobStatus = 2
	if a.ResultCode == 0 {
		a.ResultCode = 530
	}
	return a
}

func refusal(code int, text string) json.RawMessage {
	quoted, err := json.Marshal(text)
	if err != nil {
		quoted = []byte(`""`) // a string always encodes
	}
	return json.RawMessage(`{"errorcode":` + strconv.Itoa(code) + `,"errortext":` + string(quoted) + `}`)
}

// command is the name of a job's command.
func command(kind string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(kind, "cmd."), "@")
	return name
}
