package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

const (
	lookBack  = time.Hour
	lookDown  = 15 * time.Minute
	manyFails = 200 // looked at for the groups of failures
)

// overviewObject is the first page in one call.
type overviewObject struct {
	Counts   map[job.State]int `json:"counts"`
	More     bool              `json:"counts_are_least"` // some state has more than is counted
	Minutes  []minuteObject    `json:"minutes"`          // of this node, since it began
	Since    stamp             `json:"since"`
	Oldest   *jobObject        `json:"oldest_waiting,omitempty"`
	Failures []failureObject   `json:"failures"`
	Blocked  []blockedObject   `json:"blocked"`
	Members  []memberObject    `json:"members,omitempty"` // those that are not up
	Up       int               `json:"members_up"`
	Frozen   bool              `json:"frozen,omitempty"`
	Isolated bool              `json:"isolated,omitempty"`
	Tasks    []badTask         `json:"tasks"` // periodic ones that fail, are stale or past their time
	Hosts    []hostObject      `json:"hosts"` // those that are not up
	Running  []jobObject       `json:"running"`
	Well     bool              `json:"well"`
	Now      stamp             `json:"now"`
}

type minuteObject struct {
	At       stamp `json:"at"`
	Finished int   `json:"finished"`
	Failed   int   `json:"failed"`
}

// failureObject is failures of one kind for one reason.
type failureObject struct {
	Kind  string `json:"kind"`
	Code  string `json:"code"`
	Text  string `json:"text"`
	Count int    `json:"count"`
	Last  string `json:"last"` // id of the latest
	At    stamp  `json:"at"`
}

func (c *Console) now() time.Time { return c.env.Clock.Now() }

// overview reads what is worth knowing first.
func (c *Console) overview(ctx context.Context) (o overviewObject, err error) {
	o = overviewObject{Minutes: []minuteObject{}, Since: stamp(c.started), Failures: []failureObject{}, Blocked: []blockedObject{}, Running: []jobObject{}, Now: stamp(c.now())}
	for _, m := range c.hub.minutes(c.now()) {
		o.Minutes = append(o.Minutes, minuteObject{stamp(time.Unix(m.at*60, 0)), m.finished, m.failed})
	}
	if c.cfg.Jobs != nil {
		if err := c.overviewJobs(ctx, &o); err != nil {
			return o, err
		}
	}
	if err := c.overviewNodes(ctx, &o); err != nil {
		return o, err
	}
	if o.Blocked, err = c.blocked(ctx); err != nil {
		return o, err
	}
	o.Well = len(o.Blocked)+len(o.Failures)+len(o.Members)+len(o.Tasks)+len(o.Hosts) == 0 && !o.Frozen && !o.Isolated
	return o, nil
}

// overviewNodes looks at members, tasks and hosts.
func (c *Console) overviewNodes(ctx context.Context, o *overviewObject) error {
	ms, err := c.members(ctx)
	if err != nil {
		return err
	}
	o.Frozen, o.Isolated = ms.Frozen, ms.Isolated
	for _, m := range ms.Items {
		switch {
		case m.State == "up" && m.Reason != "stalled":
			o.Up++
		case m.State == "left":
		case m.State != "down" || m.Until.IsZero() || c.since(time.Time(m.Until)) < lookDown: // one that went down long ago is no news
			o.Members = append(o.Members, m)
		}
	}
	tasks, err := c.tasksOf(ctx, false)
	if err != nil {
		return err
	}
	o.Tasks = badTasks(tasks)
	hosts, err := c.hosts(ctx)
	o.Hosts = slices.DeleteFunc(hosts, func(h hostObject) bool { return h.State == "up" })
	return err
}

func (c *Console) overviewJobs(ctx context.Context, o *overviewObject) (err error) {
	p := who(ctx)
	if o.Counts, o.More, err = c.counts(ctx); err != nil {
		return err
	}
	one := func(state job.State, n int, newest bool) ([]*job.Job, error) {
		l, err := c.page(ctx, job.Query{States: []job.State{state}, Account: p.Account, Newest: newest}, n)
		return l.Items, err
	}
	running, err := one(job.Running, 12, true)
	if err != nil {
		return err
	}
	for _, j := range running {
		o.Running = append(o.Running, jobjson.Of(j))
	}
	waiting, err := one(job.Waiting, 1, false)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		w := jobjson.Of(waiting[0])
		o.Oldest = &w
	}
	from := c.now().Add(-lookBack).Truncate(time.Minute)
	failed, err := c.page(ctx, job.Query{States: []job.State{job.Failed}, Account: p.Account, Ended: job.Range{From: from}, Newest: true}, manyFails)
	o.Failures = failuresOf(failed.Items)
	return err
}

func failuresOf(js []*job.Job) []failureObject {
	fs, at := []failureObject{}, map[[3]string]int{}
	for _, j := range js {
		f := failureObject{Kind: j.Kind, Count: 1, Last: j.ID, At: stamp(j.Ended)}
		if j.Error != nil {
			f.Code, f.Text = j.Error.Code, firstLine(j.Error.Text)
		}
		group := [3]string{f.Kind, f.Code, f.Text}
		if n, found := at[group]; found {
			fs[n].Count++
			continue
		}
		at[group] = len(fs)
		fs = append(fs, f)
	}
	slices.SortStableFunc(fs, func(a, b failureObject) int { return cmp.Compare(b.Count, a.Count) })
	return fs
}

// blocked is work that does not get on, as the manager reports it.
func (c *Console) blocked(ctx context.Context) ([]blockedObject, error) {
	bs := []blockedObject{}
	if c.cfg.Jobs == nil {
		return bs, nil
	}
	all, err := shared(ctx, c.reads, "blocked", c.cfg.Jobs.Blocked)
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		if b.Job == nil || !visible(who(ctx), b.Job) {
			continue
		}
		bs = append(bs, jobjson.BlockedOf(b))
	}
	return bs, nil
}

// counts are how many jobs are in each live state; of one account, least counts where more is true.
func (c *Console) counts(ctx context.Context) (m map[job.State]int, more bool, err error) {
	m = map[job.State]int{}
	if who(ctx).Account == "" {
		st, err := c.stats(ctx)
		for _, q := range st.Queues {
			for s, n := range q.Depth {
				m[s] += n
			}
		}
		return m, false, err
	}
	for _, s := range liveStates {
		l, err := c.page(ctx, job.Query{States: []job.State{s}, Account: who(ctx).Account}, pageOfStore)
		if err != nil {
			return nil, false, err
		}
		m[s], more = len(l.Items), more || l.Next != ""
	}
	return m, more, nil
}

func (c *Console) getOverview(r *http.Request) (*answer, error) {
	o, err := c.overview(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(o)
}

func (c *Console) getBlocked(r *http.Request) (*answer, error) {
	bs, err := c.blocked(r.Context())
	if err != nil {
		return nil, err
	}
	return ok(list[blockedObject]{Items: bs})
}
