package console_test

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

// scale is the specification's size; with -short, as under the race detector, a smaller one.
func scale(short, long int) int {
	if testing.Short() {
		return short
	}
	return long
}

// submitMany submits in batches.
func (r *rig) submitMany(reqs []job.Request) {
	r.t.Helper()
	for some := range slices.Chunk(reqs, 500) {
		if _, err := r.jobs.SubmitMany(context.Background(), some); err != nil {
			r.t.Fatal(err)
		}
	}
}

// count is how many jobs are in a state.
func (r *rig) count(s job.State) (n int) {
	r.t.Helper()
	for _, err := range r.jobs.List(context.Background(), job.Query{States: []job.State{s}}) {
		if err != nil {
			r.t.Fatal(err)
		}
		n++
	}
	return n
}

// condition is a filter and what it means.
type condition struct {
	query string
	match func(*job.Job) bool
}

// filtersInPairs compares every filter, alone and with every other one, with a plain scan of all rows.
func filtersInPairs(r *rig) {
	t := r.t
	n := scale(600, 5000)
	var reqs []job.Request
	for i := range n {
		a := args{Name: "!" + strconv.Itoa(i)}
		if i%4 == 0 {
			a.Fail = "disk full on h" + strconv.Itoa(i%3)
		}
		q := job.Request{Kind: []string{"work", "echo"}[i%2], Args: a, Identity: map[string]string{"account": []string{"acme", "other"}[i%3/2]}}
		if k := strconv.Itoa(i % 5); i%7 == 0 {
			q.RunAt = time.Now().Add(time.Hour)
		} else {
			q.Sync, q.Resource = syncqueue.Key{Kind: "vm", ID: k}, "vm/"+k
		}
		reqs = append(reqs, q)
	}
	r.submitMany(reqs[:n/2])
	time.Sleep(10 * time.Minute)
	mid := time.Now()
	r.submitMany(reqs[n/2:])
	time.Sleep(10 * time.Minute)
	r.submit("work", args{Name: "runs"}, on("1")) // and one that runs
	time.Sleep(2 * time.Minute)
	all := r.everything()
	if len(all) != n+1 {
		t.Fatalf("%d jobs", len(all))
	}
	one := all[len(all)/3]
	compare(r, all, conditions(one, mid))
}

func (r *rig) everything() (all []*job.Job) {
	r.t.Helper()
	states := []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded, job.Failed, job.Cancelled}
	for j, err := range r.jobs.List(context.Background(), job.Query{States: states}) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, j)
	}
	return all
}

func conditions(one *job.Job, mid time.Time) []condition {
	at := url.QueryEscape(mid.UTC().Format(time.RFC3339Nano))
	ended := func(j *job.Job) bool { return !j.Ended.IsZero() }
	return []condition{
		{"state=failed", func(j *job.Job) bool { return j.State == job.Failed }},
		{"state=all", func(*job.Job) bool { return true }},
		{"state=final", func(j *job.Job) bool { return j.State.Final() }},
		{"kind=echo", func(j *job.Job) bool { return j.Kind == "echo" }},
		{"pool=default", func(j *job.Job) bool { return j.Queue == "default" }},
		{"key=vm/2", func(j *job.Job) bool { return j.Sync.ID == "2" }},
		{"resource=vm/3", func(j *job.Job) bool { return j.Resource == "vm/3" }},
		{"root=" + one.ID, func(j *job.Job) bool { return j.Root == one.ID }},
		{"parent=" + one.ID, func(j *job.Job) bool { return j.Parent == one.ID }},
		{"node=ms1", func(j *job.Job) bool { return j.Session == "ms1" }},
		{"account=other", func(j *job.Job) bool { return j.Identity["account"] == "other" }},
		{"created_after=" + at, func(j *job.Job) bool { return !j.Created.Before(mid) }},
		{"created_before=" + at, func(j *job.Job) bool { return j.Created.Before(mid) }},
		{"finished_after=" + at, func(j *job.Job) bool { return ended(j) && !j.Ended.Before(mid) }},
		{"finished_before=" + at, func(j *job.Job) bool { return ended(j) && j.Ended.Before(mid) }},
		{"longer=1m", func(j *job.Job) bool { return j.State == job.Running && time.Since(j.Started) >= time.Minute }},
		{"q=disk+full", func(j *job.Job) bool { return j.Error != nil && strings.Contains(j.Error.Text, "disk full") }},
		{"q=" + one.ID[len(one.ID)-8:], func(j *job.Job) bool { return strings.HasSuffix(j.ID, one.ID[len(one.ID)-8:]) }},
		{"id=" + one.ID, func(j *job.Job) bool { return j.ID == one.ID }},
		{"text=h1", func(j *job.Job) bool { return j.Error != nil && strings.Contains(j.Error.Text, "h1") }},
	}
}

func compare(r *rig, all []*job.Job, cs []condition) {
	for i, a := range cs {
		for k, b := range cs[i:] {
			x, _ := url.ParseQuery(a.query)
			y, _ := url.ParseQuery(b.query)
			if k > 0 && clash(x, y) {
				continue
			}
			for name, vs := range y {
				x[name] = vs
			}
			want := []string{}
			for _, j := range all {
				if a.match(j) && b.match(j) && (x.Has("state") || hidden(x, j)) {
					want = append(want, j.ID)
				}
			}
			got := r.listed(x)
			slices.Sort(want)
			if slices.Sort(got); !slices.Equal(want, got) {
				r.t.Errorf("%s: %d jobs, want %d", x.Encode(), len(got), len(want))
			}
		}
	}
}

// clash: filters that cannot be given together, since one would replace the other.
func clash(x, y url.Values) bool {
	text := func(v url.Values) bool { return v.Has("q") || v.Has("id") || v.Has("text") }
	for name := range x {
		if y.Has(name) {
			return true
		}
	}
	return text(x) && text(y)
}

// hidden: without a state live jobs are listed, of those that have ended in some time the ended ones.
func hidden(v url.Values, j *job.Job) bool {
	if v.Has("finished_after") || v.Has("finished_before") {
		return j.State.Final()
	}
	return !j.State.Final()
}

// listed are the ids of all pages.
func (r *rig) listed(v url.Values) (ids []string) {
	r.t.Helper()
	for v.Set("limit", "500"); ; {
		w := r.do("GET", "/v1/jobs?"+v.Encode(), "")
		var l struct {
			Items []struct{ ID string }
			Next  string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 200 {
			r.t.Fatalf("%s: %d %.300s", v.Encode(), w.Code, w.Body)
		}
		for _, i := range l.Items {
			ids = append(ids, i.ID)
		}
		if l.Next == "" {
			return ids
		}
		v.Set("after", l.Next)
	}
}
