package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	t.Run("console-04 filters and paging", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			for i := range 60 {
				a := args{Name: "!" + strconv.Itoa(i)}
				if i%4 == 0 {
					a.Fail = "disk full on h" + strconv.Itoa(i%3)
				}
				r.submit([]string{"work", "echo"}[i%2], a, on(strconv.Itoa(i%5)))
			}
			time.Sleep(time.Second)
			all, _, err := r.jobs.Page(context.Background(), job.Query{States: []job.State{job.Succeeded, job.Failed}, Limit: 500})
			if err != nil || len(all) != 60 {
				t.Fatalf("%d %v", len(all), err)
			}
			one := all[7]
			for _, c := range []struct {
				query string
				match func(*job.Job) bool
			}{
				{"state=failed", func(j *job.Job) bool { return j.State == job.Failed }},
				{"state=succeeded&state=failed", func(*job.Job) bool { return true }},
				{"state=all&kind=echo", func(j *job.Job) bool { return j.Kind == "echo" }},
				{"state=all&key=vm/2", func(j *job.Job) bool { return j.Sync.ID == "2" }},
				{"state=all&resource=vm/2&kind=work", func(j *job.Job) bool { return j.Sync.ID == "2" && j.Kind == "work" }},
				{"state=all&q=disk+full", func(j *job.Job) bool { return j.State == job.Failed }},
				{"state=all&q=" + one.ID, func(j *job.Job) bool { return j.ID == one.ID }},
				{"state=all&q=" + one.ID[len(one.ID)-8:], func(j *job.Job) bool { return j.ID == one.ID }},
				{"state=all&node=ms1&pool=default&account=acme", func(*job.Job) bool { return true }},
				{"state=all&node=ms9", func(*job.Job) bool { return false }},
				{"state=all&created_after=2100-01-01T00:00:00Z", func(*job.Job) bool { return false }},
			} {
				var want, got []string
				for _, j := range all {
					if c.match(j) {
						want = append(want, j.ID)
					}
				}
				for after := ""; ; {
					v := r.ask(200, "GET", "/v1/jobs?limit=7&"+c.query+"&after="+after, "")
					for _, i := range items(v) {
						got = append(got, text(i, "id"))
					}
					if after = text(v, "next"); after == "" {
						break
					}
				}
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(want, got) {
					t.Errorf("%s: %d jobs, want %d", c.query, len(got), len(want))
				}
			}
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
			for i := range 1200 {
				reqs = append(reqs, job.Request{Kind: "work", Args: args{Name: "!" + strconv.Itoa(i), Fail: "x"}})
			}
			if _, err := r.jobs.SubmitMany(context.Background(), reqs); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			filter := `"filter":{"state":"failed","q":"work"}`
			if v := r.ask(200, "POST", "/v1/jobs/bulk", `{"verb":"retry",`+filter+`,"dry_run":true}`); v["matched"] != 1200.0 {
				t.Errorf("dry run: %v", v)
			}
			r.ask(409, "POST", "/v1/jobs/bulk", `{"verb":"retry",`+filter+`,"expect":1000}`)
			v := r.ask(202, "POST", "/v1/jobs/bulk", `{"verb":"retry",`+filter+`,"expect":1200}`)
			op := text(v, "id")
			time.Sleep(time.Minute)
			if v := r.ask(200, "GET", "/v1/operations/"+op, ""); v["done"] != 1200.0 || v["state"] != "done" || v["skipped"] != 0.0 {
				t.Errorf("%v", v)
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
			if len(retried) != 1200 {
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
	t.Run("console-28 verbs are logged and recorded", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			j := r.submit("work", args{Name: "a"})
			v := r.ask(200, "POST", "/v1/jobs/"+j.ID+"/cancel", `{"reason":"not needed"}`)
			if text(v, "accepted") != "requested" {
				t.Errorf("%v", v["accepted"])
			}
			synctest.Wait()
			if s := r.get(j.ID).CancelReason; !strings.Contains(s, "not needed") || !strings.Contains(s, "local") {
				t.Errorf("the job says %q", s)
			}
			if log := r.log.String(); strings.Count(log, "console: cancel") != 1 || !strings.Contains(log, "principal=local") || !strings.Contains(log, j.ID) {
				t.Errorf("the log says %s", log)
			}
		})
	})
	t.Run("console-18 timeline", func(t *testing.T) {
		inRig(t, nil, func(r *rig) {
			r.submit("work", args{Name: "first"}, on("1"))
			begun := time.Now()
			j := r.submit("twice", args{}, on("1"))
			time.Sleep(2 * time.Second)
			r.open("first")
			time.Sleep(8 * time.Second)
			r.ask(200, "POST", "/v1/jobs/"+j.ID+"/cancel", `{}`)
			var got []string
			for _, s := range items(r.ask(200, "GET", "/v1/jobs/"+j.ID+"/timeline", "")) {
				at := func(name string) string {
					x, err := time.Parse(time.RFC3339, text(s, name))
					if err != nil {
						return "…"
					}
					return fmt.Sprintf("%.1f", x.Sub(begun).Seconds())
				}
				got = append(got, fmt.Sprintf("%s %s %s–%s", text(s, "what"), text(s, "outcome"), at("from"), at("to")))
			}
			t.Log(strings.Join(got, "\n"))
			for _, want := range []string{"waiting  0.0–2.0", "run failed 2.0–3.0", "delay  3.0–5.0", "step done 5.0–5.5", "step done 5.5–6.0", "step done 6.0–6.5"} {
				if !slices.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	})
}
