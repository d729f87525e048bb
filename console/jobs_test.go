package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
)

func TestJobs(t *testing.T) {
	t.Run("console-03 blocking read", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"})
			j = r.get(j.ID)
			tag := `"` + strconv.FormatInt(j.Rev, 10) + `"`
			at := time.Now()
			if w := r.do("GET", "/v1/jobs/"+j.ID+"?wait=2s", "", "If-None-Match", tag); w.Code != 304 || w.Body.Len() > 0 {
				t.Errorf("unchanged: %d %s", w.Code, w.Body)
			}
			if d := time.Since(at); d < 1800*time.Millisecond || d > 2200*time.Millisecond {
				t.Errorf("304 after %v", d)
			}
			at = time.Now()
			go func() { time.Sleep(300 * time.Millisecond); close(r.gate("a")) }()
			w := r.do("GET", "/v1/jobs/"+j.ID+"?wait=30s", "", "If-None-Match", tag)
			if d := time.Since(at); w.Code != 200 || d > 350*time.Millisecond || !strings.Contains(w.Body.String(), `"succeeded"`) || w.Header().Get("ETag") == tag {
				t.Errorf("%d after %v: %s", w.Code, d, w.Body)
			}
		})
	})
	t.Run("console-04 filters alone and in pairs", func(t *testing.T) { inRig(t, nil, filtersInPairs) })
	t.Run("console-04 paging while rows change", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			later := func(q *job.Request) { q.RunAt = time.Now().Add(time.Hour) }
			var stay, go_ []string
			for i := range 300 {
				j := r.submit("work", args{Name: "!" + strconv.Itoa(i)}, later)
				if i%3 == 0 {
					go_ = append(go_, j.ID)
				} else {
					stay = append(stay, j.ID)
				}
			}
			for _, sort := range []string{"created", "-created"} {
				seen, after := map[string]int{}, ""
				for n := 0; ; n++ {
					v := r.ask(200, "GET", "/v1/jobs?state=scheduled&limit=20&sort="+sort+"&after="+url.QueryEscape(after), "")
					for _, i := range items(v) {
						seen[text(i, "id")]++
					}
					if after = text(v, "next"); after == "" {
						break
					}
					r.submit("work", args{Name: "!new"}, later)
					if len(go_) > 0 {
						_, _ = r.jobs.Cancel(context.Background(), go_[0])
						go_ = go_[1:]
					}
				}
				for _, id := range stay {
					if seen[id] != 1 {
						t.Errorf("%s: %s was there throughout and seen %d times", sort, id, seen[id])
					}
				}
			}
		})
	})
	t.Run("console-04 bad filters", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			for _, bad := range []string{"state=nonsense", "limit=0", "limit=1001", "longer=-1s", "sort=kind", "key=vm", "created_after=yesterday", "nonsense=1"} {
				if w := r.do("GET", "/v1/jobs?"+bad, ""); w.Code != 400 || !strings.Contains(w.Body.String(), strings.Split(bad, "=")[0]) {
					t.Errorf("%s: %d %s", bad, w.Code, w.Body)
				}
			}
		})
	})
	t.Run("console-12 payloads", func(t *testing.T) {
		mask := func(kind string, b []byte) []byte { return bytes.ReplaceAll(b, []byte("hunter2"), []byte("•••")) }
		inRig(t, func(c *console.Config) { c.Mask = mask }, func(r *rig) {
			big := json.RawMessage(`{"text":"` + strings.Repeat("x", 3<<20) + `"}`)
			j := r.submit("echo", big)
			time.Sleep(time.Second)
			w := r.do("GET", "/v1/jobs/"+j.ID, "")
			if w.Code != 200 || w.Body.Len() > 64<<10 || !strings.Contains(w.Body.String(), fmt.Sprint(`"args_size":`, len(big))) {
				t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
			}
			if page := r.do("GET", "/jobs/"+j.ID, ""); page.Body.Len() > 128<<10 || !strings.Contains(page.Body.String(), "Download") {
				t.Errorf("page of %d bytes", page.Body.Len())
			}
			if w := r.do("GET", "/v1/jobs/"+j.ID+"/result", ""); !bytes.Equal(w.Body.Bytes(), big) || !strings.HasPrefix(w.Header().Get("Content-Disposition"), "attachment") {
				t.Errorf("result: %d bytes, %v", w.Body.Len(), w.Header())
			}
			secret := r.submit("secret", args{Name: "hunter2 of the vault"})
			time.Sleep(time.Second)
			for _, path := range []string{"/v1/jobs/", "/jobs/"} {
				if body := r.do("GET", path+secret.ID, "").Body.String(); strings.Contains(body, "vault") || strings.Contains(body, "$sealed") || !strings.Contains(body, "args_size") && !strings.Contains(body, "Sealed:") {
					t.Errorf("a sensitive kind: %.500s", body)
				}
			}
			if w := r.do("GET", "/v1/jobs/"+secret.ID+"/result?part=args", ""); w.Code != 403 {
				t.Errorf("sealed args: %d %s", w.Code, w.Body)
			}
			torn := r.submit("echo", json.RawMessage("{\"a\":\"\xff\xfe\"}"))
			time.Sleep(time.Second)
			for _, path := range []string{"/v1/jobs/", "/jobs/"} {
				if w := r.do("GET", path+torn.ID, ""); w.Code != 200 || !utf8.Valid(w.Body.Bytes()) {
					t.Errorf("invalid UTF-8: %d %q", w.Code, w.Body)
				}
			}
			evil := r.submit("echo", json.RawMessage(`{"<script>alert(1)</script>":"</pre><img src=x onerror=alert(2)>","password":"hunter2"}`), func(q *job.Request) {
				q.Resource, q.Identity = `vm/"><script>alert(3)</script>`, map[string]string{"<b>": "<i>x</i>"}
			})
			time.Sleep(time.Second)
			for _, path := range []string{"/jobs/" + evil.ID, "/jobs?state=all", "/jobs?state=all&resource=" + `vm%2F%22%3E%3Cscript%3E`, "/jobs?q=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E", "/queues/%3Cscript%3E/%3Cimg%3E"} {
				body := r.do("GET", path, "").Body.String()
				for _, bad := range []string{"<script>alert", "<img src=x", "<i>x</i>", "<b>:", "hunter2", "<script>/"} {
					if strings.Contains(body, bad) {
						t.Errorf("%s has %s", path, bad)
					}
				}
			}
			for _, path := range []string{"", "/result", "/result?part=args", "/timeline", "/journal"} {
				if w := r.do("GET", "/v1/jobs/"+evil.ID+path, ""); strings.Contains(w.Body.String(), "hunter2") {
					t.Errorf("%s is not masked", path)
				}
			}
		})
	})
	t.Run("console-14 bulk", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			var reqs []job.Request
			n := scale(1200, 10_000)
			for i := range n {
				reqs = append(reqs, job.Request{Kind: "work", Args: args{Name: "!" + strconv.Itoa(i), Fail: "x"}})
			}
			r.submitMany(reqs)
			for j := 0; j < 60 && r.count(job.Failed) < n; j++ {
				time.Sleep(time.Minute)
			}
			filter := `"filter":{"state":"failed","q":"work"}`
			if v := r.ask(200, "POST", "/v1/jobs/bulk", `{"verb":"retry",`+filter+`,"dry_run":true}`); v["matched"] != float64(n) {
				t.Errorf("dry run: %v", v)
			}
			r.ask(409, "POST", "/v1/jobs/bulk", `{"verb":"retry",`+filter+`,"expect":`+strconv.Itoa(n*9/10)+`}`)
			v := r.ask(202, "POST", "/v1/jobs/bulk", `{"verb":"retry",`+filter+`,"expect":`+strconv.Itoa(n)+`}`)
			op := text(v, "id")
			time.Sleep(time.Minute)
			if v := r.ask(200, "GET", "/v1/operations/"+op, ""); v["done"] != float64(n) || v["state"] != "done" || v["skipped"] != 0.0 {
				t.Errorf("%v", v)
			}
			for j := 0; j < 60 && r.count(job.Failed) < 2*n; j++ {
				time.Sleep(time.Minute)
			}
			retried := map[string]int{}
			for j, err := range r.jobs.List(context.Background(), job.Query{States: []job.State{job.Failed, job.Ready, job.Running}}) {
				if err != nil {
					t.Fatal(err)
				}
				if j.RetryOf != "" {
					retried[j.RetryOf]++
				}
			}
			for id, n := range retried {
				if n != 1 {
					t.Errorf("%s was retried %d times", id, n)
				}
			}
			if len(retried) != n {
				t.Errorf("%d were retried", len(retried))
			}
			for _, bad := range []string{`{"verb":"retry"}`, `{"verb":"explode","ids":["a"]}`, `{"verb":"retry","ids":["a"],"filter":{}}`, `{"verb":"retry","filter":{"nonsense":"1"}}`} {
				r.ask(400, "POST", "/v1/jobs/bulk", bad)
			}
			v = r.ask(202, "POST", "/v1/jobs/bulk", `{"verb":"retry","ids":["no-such-job"]}`)
			time.Sleep(time.Second)
			if v := r.ask(200, "GET", "/v1/operations/"+text(v, "id"), ""); v["skipped"] != 1.0 {
				t.Errorf("%v", v)
			}
		})
	})
	t.Run("console-14 a cancelled operation stops within a batch", func(t *testing.T) {
		var held *slowCancel
		inRig(t, func(c *console.Config) { held = &slowCancel{Jobs: c.Jobs}; c.Jobs = held }, func(r *rig) {
			var reqs []job.Request
			for i := range 3000 {
				reqs = append(reqs, job.Request{Kind: "work", Args: args{Name: "!" + strconv.Itoa(i)}, RunAt: time.Now().Add(time.Hour)})
			}
			r.submitMany(reqs)
			op := text(r.ask(202, "POST", "/v1/jobs/bulk", `{"verb":"cancel","filter":{"state":"scheduled"},"expect":3000}`), "id")
			time.Sleep(100 * time.Millisecond)
			r.ask(200, "POST", "/v1/operations/"+op+"/cancel", `{}`)
			at := held.n.Load()
			time.Sleep(time.Minute)
			v := r.ask(200, "GET", "/v1/operations/"+op, "")
			if v["state"] != "stopped" || held.n.Load()-at > 500 || at == 0 || held.n.Load() >= 3000 {
				t.Errorf("%d before, %d in all: %v", at, held.n.Load(), v)
			}
		})
	})
	t.Run("console-28 verbs are logged and recorded", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			later := func() *job.Job {
				return r.submit("work", args{Name: "!x"}, func(q *job.Request) { q.RunAt = time.Now().Add(time.Hour) })
			}
			failed := r.submit("work", args{Fail: "x"})
			time.Sleep(time.Second)
			for _, c := range []struct {
				verb, body, line string
				j                *job.Job
			}{
				{"hold", `{}`, "parked: held by an operator|hold by local in the console", later()},
				{"priority", `{"priority":7}`, "priority by local in the console", later()},
				{"reschedule", `{"at":"2100-01-01T00:00:00Z"}`, "reschedule by local in the console", later()},
				{"cancel", `{"reason":"not needed"}`, "cancel requested by local in the console: not needed", r.submit("work", args{Name: "c"})},
				{"fence", "", "fence by local in the console", r.submit("work", args{Name: "f"})},
				{"retry", `{}`, "", failed},
			} {
				if c.verb == "fence" {
					c.body = `{"reason":"host is off","confirm":"` + c.j.ID + `"}`
				}
				r.log.Reset()
				w := r.do("POST", "/v1/jobs/"+c.j.ID+"/"+c.verb, c.body)
				if w.Code/100 != 2 {
					t.Fatalf("%s: %d %s", c.verb, w.Code, w.Body)
				}
				var v map[string]any
				_ = json.Unmarshal(w.Body.Bytes(), &v)
				if log := r.log.String(); strings.Count(log, "console: "+c.verb) != 1 || !strings.Contains(log, "principal=local") || !strings.Contains(log, c.j.ID) || !strings.Contains(log, "outcome=done") {
					t.Errorf("%s: the log says %s", c.verb, log)
				}
				id, want := c.j.ID, strings.Split(c.line, "|")
				if c.verb == "retry" {
					id, want = text(v, "id"), []string{"retry of " + c.j.ID + " by local in the console"}
				}
				var lines []string
				for _, e := range items(r.ask(200, "GET", "/v1/jobs/"+id+"/journal", "")) {
					lines = append(lines, text(e, "text"))
				}
				for _, l := range want {
					if n := strings.Count(strings.Join(lines, "\n"), l); n != 1 {
						t.Errorf("%s: %d times %q in the journal: %q", c.verb, n, l, lines)
					}
				}
			}
			held := later()
			r.ask(200, "POST", "/v1/jobs/"+held.ID+"/hold", `{}`)
			r.ask(200, "POST", "/v1/jobs/"+held.ID+"/wake", `{}`)
			if body := r.do("GET", "/v1/jobs/"+held.ID+"/journal", "").Body.String(); !strings.Contains(body, "wake by local") && !strings.Contains(body, "woken") && r.get(held.ID).State != job.Succeeded {
				t.Errorf("wake: %s", body)
			}
			if c := r.get(r.submit("work", args{Name: "z"}).ID); c.CancelBy != "" {
				t.Error(c.CancelBy)
			}
		})
	})
	t.Run("console-18 timeline", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			first := r.submit("work", args{Name: "first"}, on("1"))
			begun := time.Now()
			j := r.submit("twice", args{}, on("1"))
			time.Sleep(time.Second)
			w := items(r.ask(200, "GET", "/v1/jobs/"+j.ID+"/timeline", ""))
			if len(w) != 1 || text(w[0], "job") != first.ID || !strings.Contains(text(w[0], "detail"), "held by") {
				t.Errorf("while it waits: %v", w)
			}
			time.Sleep(time.Second)
			r.open("first")
			time.Sleep(8 * time.Second)
			r.ask(200, "POST", "/v1/jobs/"+j.ID+"/cancel", `{}`)
			type bar struct {
				what     string
				from, to time.Duration
			}
			var bars []bar
			for _, s := range items(r.ask(200, "GET", "/v1/jobs/"+j.ID+"/timeline", "")) {
				at := func(name string) time.Duration {
					x, err := time.Parse(time.RFC3339, text(s, name))
					if err != nil {
						t.Errorf("%v has no %s", s, name)
					}
					return x.Sub(begun)
				}
				bars = append(bars, bar{text(s, "what") + " " + text(s, "outcome"), at("from"), at("to")})
			}
			ms := time.Millisecond
			for _, want := range []bar{
				{"waiting ", 0, 2000 * ms}, {"run failed", 2000 * ms, 3000 * ms}, {"delay ", 3000 * ms, 5000 * ms}, {"run ended", 5000 * ms, 6500 * ms},
				{"step done", 5000 * ms, 5500 * ms}, {"step done", 5500 * ms, 6000 * ms}, {"step done", 6000 * ms, 6500 * ms}, {"park cancelled", 6500 * ms, 10_000 * ms}, {"cancel ", 10_000 * ms, 10_000 * ms},
			} {
				if !slices.ContainsFunc(bars, func(b bar) bool {
					return b.what == want.what && (b.from-want.from).Abs() <= ms && (b.to-want.to).Abs() <= ms
				}) {
					t.Errorf("no %v in %v", want, bars)
				}
			}
			at := time.Duration(0)
			for _, b := range bars {
				if word := strings.Fields(b.what)[0]; word == "step" || word == "cancel" {
					continue
				}
				if (b.from - at).Abs() > ms {
					t.Errorf("%v begins at %v, and what was before ended at %v", b, b.from, at)
				}
				at = b.to
			}
		})
	})
	t.Run("console-18 two thousand steps", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("steps", args{Name: "2000"})
			time.Sleep(time.Minute)
			if s := r.get(j.ID).State; s != job.Succeeded {
				t.Fatal(s)
			}
			bars := items(r.ask(200, "GET", "/v1/jobs/"+j.ID+"/timeline", ""))
			more := 0
			for _, b := range bars {
				if text(b, "what") == "more" {
					more++
				}
			}
			if len(bars) != 500 || more != 1 {
				t.Errorf("%d bars, %d of many", len(bars), more)
			}
		})
	})
}

// slowCancel takes 10 ms for each cancel, and counts.
type slowCancel struct {
	console.Jobs
	n atomic.Int64
}

func (s *slowCancel) Cancel(ctx context.Context, id string, reason ...string) (bool, error) {
	time.Sleep(10 * time.Millisecond)
	s.n.Add(1)
	return s.Jobs.Cancel(ctx, id, reason...)
}
