package console_test

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/console"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

func (r *rig) line(id string) (holders, waiters []string) {
	r.t.Helper()
	v := r.ask(200, "GET", "/v1/queues/vm/"+id, "")
	names := func(list string) (out []string) {
		for _, i := range v[list].([]any) {
			out = append(out, i.(map[string]any)["content"].(string))
		}
		return out
	}
	return names("holders"), names("waiters")
}

func TestLines(t *testing.T) {
	t.Run("console-10 order", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			var ids []string
			for _, n := range []string{"h", "!1", "!2", "!3", "!4", "!5"} {
				ids = append(ids, r.submit("work", args{Name: n}, on("1")).ID)
			}
			holders, waiters := r.line("1")
			if !slices.Equal(holders, ids[:1]) || !slices.Equal(waiters, ids[1:]) {
				t.Fatalf("%v %v, want %v", holders, waiters, ids)
			}
			move := func(status int, body string) { t.Helper(); r.ask(status, "POST", "/v1/queues/vm/1/move", body) }
			move(200, `{"job":"`+ids[5]+`","to":"first"}`)
			move(200, `{"job":"`+ids[4]+`","to":{"before":"`+ids[2]+`"}}`)
			move(200, `{"job":"`+ids[1]+`","to":"last"}`)
			want := []string{ids[5], ids[4], ids[2], ids[3], ids[1]}
			if _, waiters = r.line("1"); !slices.Equal(waiters, want) {
				t.Errorf("%v, want %v", waiters, want)
			}
			move(409, `{"job":"`+ids[0]+`","to":"last"}`)
			move(404, `{"job":"no-such-job","to":"last"}`)
			for _, bad := range []string{`{"job":"` + ids[1] + `","to":"middle"}`, `{"job":"` + ids[1] + `"}`, `{"job":"` + ids[1] + `","to":{"after":"x"}}`} {
				move(400, bad)
			}
			r.open("h")
			time.Sleep(5 * time.Second)
			move(404, `{"job":"`+ids[1]+`","to":"last"}`)
			all, _, err := r.jobs.Page(context.Background(), job.Query{States: []job.State{job.Succeeded}, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(all, func(a, b *job.Job) int { return int(a.Epoch - b.Epoch) })
			var ran []string
			for _, j := range all {
				ran = append(ran, j.ID)
			}
			if !slices.Equal(ran, append(ids[:1:1], want...)) {
				t.Errorf("they ran as %v", ran)
			}
		})
	})
	t.Run("console-11 pause", func(t *testing.T) {
		for _, what := range []string{"/v1/queues/vm/1", "/v1/queues/vm", "/v1/pools/default"} {
			inRig(t, nil, func(r *rig) {
				h := r.submit("work", args{Name: "h"}, on("1"))
				w := r.submit("work", args{Name: "!w"}, on("1"))
				for range 2 {
					r.ask(200, "POST", what+"/pause", `{}`)
				}
				if s := r.get(h.ID).State; s != job.Running {
					t.Errorf("%s: what runs is %s", what, s)
				}
				r.open("h")
				time.Sleep(5 * time.Second)
				if s := r.get(w.ID).State; s != job.Waiting && s != job.Ready {
					t.Errorf("%s: paused, and what waited is %s", what, s)
				}
				if page := r.do("GET", strings.Replace(what, "/v1/queues/vm/1", "/queues/vm/1", 1), "").Body.String(); strings.HasPrefix(page, "<!doctype") && !strings.Contains(page, "Paused") {
					t.Errorf("%s: the page does not say so", what)
				}
				for range 2 {
					r.ask(200, "POST", what+"/resume", `{}`)
				}
				time.Sleep(5 * time.Second)
				if s := r.get(w.ID).State; s != job.Succeeded {
					t.Errorf("%s: resumed, and what waited is %s", what, s)
				}
			})
		}
	})
	t.Run("console-09 keys in one call", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			for _, id := range []string{"1", "2", "3"} {
				for range 3 {
					r.submit("work", args{Name: id}, on(id))
				}
			}
			v := r.ask(200, "GET", "/v1/queues?limit=2", "")
			if got := items(v); len(got) != 2 || text(got[0], "key", "id") != "1" || got[0]["waiting"] != 2.0 || got[0]["holders"] != 1.0 || text(v, "next") == "" {
				t.Fatalf("%v", v)
			}
			if got := items(r.ask(200, "GET", "/v1/queues?after="+url.QueryEscape(text(v, "next")), "")); len(got) != 1 || text(got[0], "key", "id") != "3" {
				t.Errorf("%v", got)
			}
		})
	})
	t.Run("console-09 many keys on SQLite", func(t *testing.T) {
		n := scale(1000, 20_000)
		st := sqlite.New(fixture.OpenSQLite(t, fixture.SQLiteFile(t)), sqlite.Config{})
		if err := st.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		jobs, err := job.New(job.Config{Env: quiet, DB: st, Queues: map[string]int{}})
		if err != nil {
			t.Fatal(err)
		}
		job.Declare[args, string](jobs, "work")
		queue, err := syncqueue.New(syncqueue.Config{Env: quiet, Tx: st, Store: st.Queues()})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < n; i += 250 {
			var reqs []job.Request
			for k := range 500 {
				reqs = append(reqs, job.Request{Kind: "work", Args: args{}, Sync: syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i + k/2)}})
			}
			if _, err := jobs.SubmitMany(t.Context(), reqs); err != nil {
				t.Fatal(err)
			}
		}
		counted := &countedQueues{Queues: queue}
		best := time.Hour
		for range 3 {
			c, err := console.New(console.Config{Env: quiet, Jobs: jobs, Queues: counted})
			if err != nil {
				t.Fatal(err)
			}
			counted.n = 0
			at := time.Now()
			w := do(c, request("GET", "/v1/queues?limit=1000", ""))
			best = min(best, time.Since(at))
			if rows := strings.Count(w.Body.String(), `"oldest_ms"`); w.Code != 200 || rows != 1000 || counted.n != 1 {
				t.Fatalf("%d, %d keys, %d reads", w.Code, rows, counted.n)
			}
		}
		if t.Logf("%d keys: %v", n, best); best > 200*time.Millisecond && !testing.Short() { // the race detector takes its time
			t.Errorf("%d keys took %v", n, best)
		}
	})
	t.Run("console-10 clear and limit", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			h := r.submit("work", args{Name: "h"}, on("1"))
			w := r.submit("work", args{Name: "w"}, on("1"))
			r.ask(400, "POST", "/v1/queues/vm/1/clear", `{"confirm":"vm/2"}`)
			r.ask(200, "POST", "/v1/queues/vm/1/clear", `{"confirm":"vm/1"}`)
			if r.get(w.ID).State != job.Cancelled || r.get(h.ID).State != job.Running {
				t.Errorf("%s %s", r.get(w.ID).State, r.get(h.ID).State)
			}
			r.ask(200, "POST", "/v1/queues/vm/1/limit", `{"limit":3}`)
			ps, err := r.queue.Policies(context.Background())
			if err != nil || !slices.Contains(ps, syncqueue.PolicyRow{Kind: "vm", ID: "1", Policy: syncqueue.Policy{Limit: 3}}) {
				t.Errorf("%v %v", ps, err)
			}
			r.ask(400, "POST", "/v1/queues/vm/1/limit", `{"limit":-1}`)
			r.ask(400, "POST", "/v1/queues/vm/1/limit", `{}`)
		})
	})
}

// countedQueues counts reads of keys.
type countedQueues struct {
	console.Queues
	n int
}

func (c *countedQueues) Keys(ctx context.Context, f syncqueue.Filter) ([]syncqueue.Stat, error) {
	c.n++
	return c.Queues.Keys(ctx, f)
}
