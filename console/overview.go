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

// blockedObject is work that does not go on.
type blockedObject struct {
	Job    *jobObject `json:"job,omitempty"`
	Key    *keyObject `json:"key,omitempty"`
	Why    string     `json:"why"`
	Holder string     `json:"holder,omitempty"` // what holds the key: a job's id
	Node   string     `json:"node,omitempty"`
	Line   int        `json:"line,omitempty"`
	Cycle  []string   `json:"cycle,omitempty"`
	Since  stamp      `json:"since"`
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
	if c.cfg.Leases != nil {
		infos, err := c.leases(ctx)
		if err != nil {
			return o, err
		}
		for _, m := range membersOf(infos) {
			switch {
			case m.State == "up":
				o.Up++
			case m.State != "down" || c.now().Sub(time.Time(m.Until)) < lookDown: // one that has stopped long ago is no news
				o.Members = append(o.Members, m)
			}
		}
	}
	if o.Blocked, err = c.blocked(ctx); err != nil {
		return o, err
	}
	o.Well = len(o.Blocked) == 0 && len(o.Failures) == 0 && len(o.Members) == 0
	return o, nil
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
		o := jobjson.Of(b.Job)
		bs = append(bs, blockedObject{&o, o.Key, b.Why, b.Holder.Content, b.Holder.Holder, b.Line, b.Cycle, stamp(b.Since)})
	}
	return bs, nil
}

func (c *Console) stats(ctx context.Context) (job.Stats, error) {
	return shared(ctx, c.reads, "stats", c.cfg.Jobs.Stats)
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

func (c *Console) listMembers(r *http.Request) (*answer, error) {
	infos, err := c.leases(r.Context())
	if err != nil {
		return nil, err
	}
	ms := membersOf(infos)
	if ms == nil {
		ms = []memberObject{}
	}
	return ok(list[memberObject]{Items: ms})
}

// leaseObject is a session or a named lease.
type leaseObject struct {
	Name        string `json:"name"`
	Named       bool   `json:"named"`
	Holder      string `json:"holder"`
	Incarnation int64  `json:"incarnation"`
	Epoch       int64  `json:"epoch"`
	State       string `json:"state"`
	Until       stamp  `json:"until"`
}

func (c *Console) listLeases(r *http.Request) (*answer, error) {
	infos, err := c.leases(r.Context())
	if err != nil {
		return nil, err
	}
	out := list[leaseObject]{Items: []leaseObject{}}
	for _, i := range infos {
		out.Items = append(out.Items, leaseObject{i.Name, i.Named, i.Holder.Node, i.Holder.Incarnation, i.Holder.Epoch, i.State, stamp(i.Until)})
	}
	return ok(out)
}
