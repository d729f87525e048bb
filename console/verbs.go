package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

type reasonBody struct {
	Reason string `json:"reason"`
	Back   string `json:"back"`
}

type emptyBody struct {
	Back string `json:"back"`
}

// after is the answer to a verb: the job as it is now.
func (c *Console) after(r *http.Request, id, notice, accepted string) (*answer, error) {
	j, err := c.get(r.Context(), id)
	if err != nil {
		return nil, err
	}
	o := c.wholeOf(j)
	o.Accepted = accepted
	return &answer{body: o, etag: etagOf(j), notice: notice}, nil
}

// mine answers the job if the principal may see it, and reads the body into in.
func (c *Console) mine(r *http.Request, in any) (*job.Job, error) {
	if err := body(r, in); err != nil {
		return nil, err
	}
	return c.get(r.Context(), r.PathValue("id"))
}

// wrong adds the job as it is now to an error about its state.
func (c *Console) wrong(r *http.Request, id string, err error) error {
	if err == nil {
		return nil
	}
	p := problemOf(err)
	if p.Status == http.StatusConflict || p.Code == "invalid" {
		if j, gerr := c.get(r.Context(), id); gerr == nil {
			p.Code, p.Status, p.Current = "wrong-state", http.StatusConflict, jobjson.Of(j)
			p.Detail = "the job is " + string(j.State) + " now: " + p.Detail
		}
	}
	return p
}

func (c *Console) cancel(r *http.Request) (*answer, error) {
	var in reasonBody
	j, err := c.mine(r, &in)
	if err != nil {
		return nil, err
	}
	if _, err := c.cfg.Jobs.Cancel(r.Context(), j.ID, strings.TrimSpace(in.Reason)); err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	a, err := c.after(r, j.ID, "cancel", "requested")
	if o, is := a.jobBody(); is && o.State == job.Cancelled {
		o.Accepted, a.body, a.notice = "cancelled", o, "cancelled"
	}
	return a, err
}

func (a *answer) jobBody() (jobObject, bool) {
	if a == nil {
		return jobObject{}, false
	}
	o, is := a.body.(jobObject)
	return o, is
}

type retryBody struct {
	KeepSteps bool   `json:"keep_steps"`
	Back      string `json:"back"`
}

func (c *Console) retry(r *http.Request) (*answer, error) {
	var in retryBody
	j, err := c.mine(r, &in)
	if err != nil {
		return nil, err
	}
	var opts []job.RetryOption
	if in.KeepSteps {
		opts = append(opts, job.KeepSteps())
	}
	n, err := c.cfg.Jobs.Retry(r.Context(), j.ID, opts...)
	if err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	return &answer{status: http.StatusCreated, body: c.wholeOf(n), location: "v1/jobs/" + n.ID, back: "jobs/" + n.ID, notice: "retry"}, nil
}

type priorityBody struct {
	Priority int    `json:"priority"`
	Back     string `json:"back"`
}

func (c *Console) priority(r *http.Request) (*answer, error) {
	var in priorityBody
	j, err := c.mine(r, &in)
	if err != nil {
		return nil, err
	}
	if in.Priority < -100 || in.Priority > 100 {
		return nil, bad("priority: must be -100 to 100")
	}
	if err := c.cfg.Jobs.SetPriority(r.Context(), j.ID, in.Priority); err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	return c.after(r, j.ID, "priority", "")
}

type atBody struct {
	At   string `json:"at"`
	Back string `json:"back"`
}

func (c *Console) reschedule(r *http.Request) (*answer, error) {
	var in atBody
	j, err := c.mine(r, &in)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, in.At)
	if err != nil {
		return nil, bad("at: must be an instant like 2026-01-02T15:04:05Z")
	}
	if err := c.cfg.Jobs.Reschedule(r.Context(), j.ID, at); err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	return c.after(r, j.ID, "reschedule", "")
}

func (c *Console) hold(r *http.Request) (*answer, error) {
	j, err := c.mine(r, &emptyBody{})
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Jobs.Hold(r.Context(), j.ID); err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	return c.after(r, j.ID, "hold", "")
}

func (c *Console) wake(r *http.Request) (*answer, error) {
	j, err := c.mine(r, &emptyBody{})
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Jobs.Wake(r.Context(), "job/"+j.ID); err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	return c.after(r, j.ID, "wake", "")
}

type fenceBody struct {
	Reason  string `json:"reason"`
	Confirm string `json:"confirm"`
	Back    string `json:"back"`
}

func (c *Console) fence(r *http.Request) (*answer, error) {
	var in fenceBody
	j, err := c.mine(r, &in)
	if err != nil {
		return nil, err
	}
	if in.Confirm != j.ID && in.Confirm != short(j.ID) {
		return nil, bad("confirm: must be the job's id")
	}
	if err := c.cfg.Jobs.Fence(r.Context(), j.ID, strings.TrimSpace(in.Reason)); err != nil {
		return nil, c.wrong(r, j.ID, err)
	}
	return c.after(r, j.ID, "fence", "")
}

// short is how an id is shown: ids begin with the time, so its end tells it from others.
func short(id string) string {
	if len(id) <= 8 {
		return id
	}
	return id[len(id)-8:]
}
