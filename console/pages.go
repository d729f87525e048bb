package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

type tab struct {
	Text, State string
	Count       int
	Counted     bool
	Here        bool
	Query       string
}

type overviewPage struct {
	overviewObject
	Tiles []tab
	Spark spark
	Has   map[string]bool
}

func (v *views) overview(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Overview", "topics=job,queue,member,host,periodic"
	o, err := v.c.overview(r.Context())
	if err != nil {
		return "", err
	}
	b := overviewPage{overviewObject: o, Spark: sparkOf(o.Minutes), Has: map[string]bool{"jobs": hasJobs(v.c), "members": hasMembers(v.c)}}
	for _, s := range liveStates {
		b.Tiles = append(b.Tiles, tab{Text: string(s), State: string(s), Count: o.Counts[s], Counted: true, Query: "state=" + string(s)})
	}
	p.Body = b
	return "overview", nil
}

// spark is the throughput of an hour as paths in a box of 240 × 48.
type spark struct {
	Finished, Area, Failed string
	Max, Sum, Fails        int
}

type chip struct{ Name, Value, Without string }

type jobsPage struct {
	Tabs          []tab
	Chips         []chip
	Hidden        []chip // other filters, to stay when the text changes
	Q             string
	Items         []jobObject
	Next          string // query of the next page
	First         string // query of the first page, if this is not it
	Newest        bool
	Flip          string // query of the other order
	Filter        map[string]string
	Verbs         []string
	Searched, All bool
}

func (v *views) jobs(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Jobs", "topics=job,queue"
	q := r.URL.Query()
	q.Del("notice")
	q.Del("problem")
	if !q.Has("sort") {
		q.Set("sort", "-created")
	}
	if !q.Has("limit") {
		q.Set("limit", "50")
	}
	query, limit, err := queryOf(q, who(r.Context()))
	if err != nil {
		return "", err
	}
	js, err := v.c.page(r.Context(), query, limit)
	if err != nil {
		return "", err
	}
	counts, _, err := v.c.counts(r.Context())
	if err != nil {
		return "", err
	}
	b := jobsPage{Q: q.Get("q"), Newest: query.Newest, Filter: map[string]string{}, Tabs: tabsOf(q, counts)}
	for _, j := range js.Items {
		b.Items = append(b.Items, jobjson.Of(j))
	}
	if js.Next != "" {
		b.Next = with(q, "after", js.Next)
	}
	if q.Get("after") != "" {
		b.First = with(q, "after", "")
	}
	b.Flip = with(q, "sort", "created", "after", "")
	if !b.Newest {
		b.Flip = with(q, "sort", "-created", "after", "")
	}
	b.filtered(q)
	b.Verbs = verbsFor(query.States)
	p.Body = b
	return "jobs", nil
}

// filtered says by what the list is.
func (b *jobsPage) filtered(q url.Values) {
	for _, name := range filters {
		val := strings.Join(q[name], ",")
		if val == "" || slices.Contains([]string{"limit", "after", "sort"}, name) {
			continue
		}
		b.Filter[name] = val
		if name != "state" && name != "q" {
			b.Chips = append(b.Chips, chip{name, val, with(q, name, "", "after", "")})
		}
		if name != "q" {
			b.Hidden = append(b.Hidden, chip{Name: name, Value: val})
		}
	}
	b.Searched = b.Q != "" || len(b.Chips) > 0
}

// verbsFor says what can be done to jobs in these states; none given is the live ones.
func verbsFor(states []job.State) (vs []string) {
	any := func(of ...job.State) bool {
		return len(states) == 0 && !of[0].Final() || slices.ContainsFunc(states, func(s job.State) bool { return slices.Contains(of, s) })
	}
	if any(liveStates...) {
		vs = append(vs, "cancel", "hold", "priority")
	}
	if any(job.Parked) {
		vs = append(vs, "wake")
	}
	if any(job.Failed, job.Cancelled) {
		vs = append(vs, "retry")
	}
	return vs
}

// with is a query with some values replaced, or left out where the new one is "".
func with(q url.Values, kv ...string) string {
	n := url.Values{}
	for _, k := range sortedKeys(q) {
		n[k] = q[k]
	}
	for i := 0; i+1 < len(kv); i += 2 {
		if n.Del(kv[i]); kv[i+1] != "" {
			n.Set(kv[i], kv[i+1])
		}
	}
	for k, v := range map[string]string{"sort": "-created", "limit": "50"} {
		if n.Get(k) == v {
			n.Del(k)
		}
	}
	return n.Encode()
}

func tabsOf(q url.Values, counts map[job.State]int) []tab {
	here := strings.Join(q["state"], ",")
	live := 0
	for _, s := range liveStates {
		live += counts[s]
	}
	ts := []tab{{Text: "live", Count: live, Counted: true, Here: here == "" || here == "live", Query: with(q, "state", "", "after", "")}}
	for _, s := range allStates {
		ts = append(ts, tab{
			Text: string(s), State: string(s), Count: counts[s], Counted: !s.Final(), Here: here == string(s),
			Query: with(q, "state", string(s), "after", ""),
		})
	}
	return append(ts, tab{Text: "all", Here: here == "all", Query: with(q, "state", "all", "after", "")})
}

type queuesPage struct {
	Lines   []lineObject
	Kinds   []kindObject
	Blocked []blockedObject
	Pools   []poolObject
	Kind    string
	Next    string
	Sort    string
}

func (v *views) queues(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Queues", "topics=job,queue"
	q := r.URL.Query()
	f := syncqueue.Filter{Kind: q.Get("kind"), After: q.Get("after"), Limit: 200}
	b := queuesPage{Kind: f.Kind, Sort: q.Get("sort")}
	var err error
	if b.Lines, err = v.c.lines(r.Context(), f); err != nil {
		return "", err
	}
	if len(b.Lines) == f.Limit {
		k := b.Lines[len(b.Lines)-1].Key
		b.Next = with(q, "after", syncqueue.Item{Key: syncqueue.Key{Kind: k.Kind, ID: k.ID}}.Cursor(true))
	}
	if b.Sort == "" {
		b.Sort = "waiting"
	}
	if !jobjson.SortLines(b.Lines, b.Sort) {
		return "", bad("sort: must be key, waiting or oldest")
	}
	if b.Kinds, err = v.c.kinds(r.Context()); err != nil {
		return "", err
	}
	if b.Blocked, err = v.c.blocked(r.Context()); err != nil {
		return "", err
	}
	if hasJobs(v.c) && who(r.Context()).Account == "" {
		st, err := v.c.stats(r.Context())
		if err != nil {
			return "", err
		}
		b.Pools = jobjson.PoolsOf(st)
	}
	p.Body = b
	return "queues", nil
}

func (v *views) queue(r *http.Request, p *page) (string, error) {
	k, err := keyFrom(r)
	if err != nil {
		return "", err
	}
	p.Heading, p.Stream = k.String(), "topics=job,queue&key="+url.QueryEscape(k.String())
	l, err := v.c.line(r.Context(), k)
	if err != nil {
		return "", err
	}
	p.Body = l
	return "queue", nil
}

type membersPage struct {
	jobjson.Members
	Running map[string]int
	Leases  []jobjson.Lease
	Group   bool // there is a membership
	Drain   bool
	Resume  bool
}

func (v *views) members(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Nodes", "topics=member,job"
	ms, err := v.c.members(r.Context())
	if err != nil {
		return "", err
	}
	infos, err := v.c.leases(r.Context())
	if err != nil {
		return "", err
	}
	b := membersPage{Members: ms, Running: map[string]int{}, Group: hasGroup(v.c), Drain: canDrain(v.c), Resume: canResume(v.c)}
	for _, i := range infos {
		if i.Named {
			b.Leases = append(b.Leases, jobjson.LeaseOf(i))
		}
	}
	if hasJobs(v.c) {
		js, err := v.c.page(r.Context(), job.Query{States: []job.State{job.Running}, Account: who(r.Context()).Account}, pageOfStore)
		if err != nil {
			return "", err
		}
		for _, j := range js.Items {
			b.Running[j.Session]++
		}
	}
	p.Body = b
	return "members", nil
}

type tasksPage struct {
	Rows   []taskRow
	Self   string
	Silent []string // nodes that did not answer
	Nodes  bool     // several: say which
	Alone  bool     // no other is asked
	Many   bool     // and there are others
}

func (v *views) periodic(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Periodic", "topics=periodic,member"
	all, err := v.c.tasksOf(r.Context(), true)
	if err != nil {
		return "", err
	}
	b := tasksPage{Rows: byTask(all), Self: v.c.env.Node, Nodes: len(all) > 1, Alone: v.c.cfg.Nodes == nil, Many: v.c.up(r.Context()) > 1}
	for _, n := range all {
		if n.Error != "" {
			b.Silent = append(b.Silent, n.Node)
		}
	}
	p.Body = b
	return "periodic", nil
}

func (v *views) hosts(r *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Hosts", "topics=host"
	hs, err := v.c.hosts(r.Context())
	p.Body = hs
	return "hosts", err
}

func (v *views) events(_ *http.Request, p *page) (string, error) {
	p.Heading, p.Stream = "Events", "topics=job,queue,member,host,periodic"
	return "events", nil
}
