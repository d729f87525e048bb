package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestJobs(t *testing.T) {
	t.Parallel()
	inBubble(t, "cli-02 a job with progress is listed, and cancelled from another process", func(c *cluster) {
		n := c.node("n1", kinds)
		j := c.submit(n, job.Request{Kind: "hang", Args: "x", Resource: "vm/42", Identity: map[string]string{"account": "a"}})
		c.until(n, j.ID, job.Running)
		time.Sleep(time.Second)
		out := c.drover("jobs", "list").is(c, 0).out
		for _, s := range []string{j.ID, "running", "hang", "vm/42", "57%", "n1", "copying memory"} {
			if !strings.Contains(out, s) {
				c.Errorf("%q is missing in\n%s", s, out)
			}
		}
		if strings.Contains(out, "\x1b") {
			c.Errorf("escape codes in a pipe: %q", out)
		}
		c.drover("jobs", "cancel", "-wait", "-reason", "wrong host", j.ID).is(c, 0, "running on n1", "cancelled: wrong host")
		if got := c.until(n, j.ID, job.Cancelled); got.CancelReason != "wrong host" || !strings.HasPrefix(got.CancelBy, "drover") {
			c.Errorf("cancelled by %q for %q", got.CancelBy, got.CancelReason)
		}
		if r := c.drover("jobs", "list").is(c, 0, "ID  STATE"); r.out != "" {
			c.Errorf("empty list: %q", r.out)
		}
	})
	inBubble(t, "cli-02 filters select as the API does", func(c *cluster) {
		n := c.node("n1", kinds)
		key := syncqueue.Key{Kind: "vm", ID: "1/a"}
		ok := c.submit(n, job.Request{Kind: "ok", Identity: map[string]string{"account": "a"}})
		bad := c.submit(n, job.Request{Kind: "bad"})
		hang := c.submit(n, job.Request{Kind: "hang", Sync: key})
		wait := c.submit(n, job.Request{Kind: "hang", Sync: key, Resource: "vm/1"})
		later := c.submit(n, job.Request{Kind: "ok", RunAt: time.Now().Add(time.Hour)})
		c.until(n, ok.ID, job.Succeeded)
		c.until(n, bad.ID, job.Failed)
		c.until(n, hang.ID, job.Running)
		for args, want := range map[string][]*job.Job{
			"":                                       {hang, wait, later},
			"-all":                                   {ok, bad, hang, wait, later},
			"-all -sort -created":                    {later, wait, hang, bad, ok},
			"-state failed,succeeded":                {ok, bad},
			"-state failed -state scheduled":         {bad, later},
			"-kind ok":                               {later},
			"-key vm/1/a":                            {hang, wait},
			"-resource vm/1":                         {wait},
			"-node n1":                               {hang},
			"-all -account a":                        {ok},
			"-text NO":                               {},
			"-text HOST -all":                        {bad},
			"-finished-after 1h":                     {ok, bad},
			"-created-before 1h -all":                {},
			"-root " + wait.ID[28:]:                  {wait},
			"-limit 2":                               {hang, wait},
			"-created-after 2000-01-01T00:00:00Z":    {hang, wait, later},
			"-state running -longer 1h -pool nobody": {},
		} {
			var ids strings.Builder
			for _, j := range want {
				ids.WriteString(j.ID + "\n")
			}
			r := c.drover(append([]string{"jobs", "list", "-o", "id", "-q"}, strings.Fields(args)...)...).is(c, 0)
			if r.out != ids.String() {
				c.Errorf("%s: got\n%swant\n%s", args, r.out, ids.String())
			}
		}
		page := document[jobList](c, jsonOnly(c.drover("jobs", "list", "-o", "json", "-limit", "2")))
		rest := c.drover("jobs", "list", "-o", "id", "-after", page.Next).is(c, 0)
		if len(page.Items) != 2 || rest.out != later.ID+"\n" {
			c.Errorf("page %v, then %q", page, rest.out)
		}
		c.drover("jobs", "list", "-limit", "1").is(c, 0, "there are more: -after")
		c.drover("jobs", "show", wait.ID).is(c, 0)
		if out := c.drover("jobs", "show", wait.ID).out; !strings.Contains(out, "number 1 of 1 on vm/1/a, behind "+tail8(hang.ID)) {
			c.Errorf("no place in\n%s", out)
		}
	})
	inBubble(t, "cli-05 cancel and wait", func(c *cluster) {
		n := c.node("n1", kinds)
		key := syncqueue.Key{Kind: "vm", ID: "1"}
		run := c.submit(n, job.Request{Kind: "hang", Sync: key})
		wait := c.submit(n, job.Request{Kind: "hang", Sync: key})
		done := c.submit(n, job.Request{Kind: "ok"})
		c.until(n, run.ID, job.Running)
		c.until(n, done.ID, job.Succeeded)
		o := document[map[string]any](c, c.drover("jobs", "cancel", "-wait", "-o", "json", wait.ID).is(c, 0))
		if o["accepted"] != "cancelled" || o["state"] != "cancelled" {
			c.Errorf("waiting: %v", o)
		}
		o = document[map[string]any](c, jsonOnly(c.drover("jobs", "cancel", "-wait", "-o", "json", run.ID)))
		if o["accepted"] != "requested" || o["state"] != "cancelled" {
			c.Errorf("running: %v", o)
		}
		c.drover("jobs", "cancel", "-wait", done.ID).is(c, refused, done.ID, "already final")
		c.drover("jobs", "wait", done.ID).is(c, 0)
		c.drover("jobs", "wait", run.ID).is(c, badEnd, "cancelled")
	})
	inBubble(t, "cli-06 the end of an id", func(c *cluster) {
		n := c.node("n1", kinds)
		for _, id := range []string{"00000000-0000-7000-8000-0000aa111111", "00000000-0000-7000-8000-0000bb111111", "00000000-0000-7000-8000-0000cc222222"} {
			c.submit(n, job.Request{ID: id, Kind: "ok"})
			c.until(n, id, job.Succeeded)
		}
		for id, want := range map[string]string{"222222": "cc222222", "BB111111": "bb111111"} {
			if r := c.drover("jobs", "show", "-o", "id", id).is(c, 0); !strings.HasSuffix(r.out, want+"\n") {
				c.Errorf("%s: %q", id, r.out)
			}
		}
		c.drover("jobs", "show", "111111").is(c, badUsage, "0000aa111111", "0000bb111111")
		c.drover("jobs", "show", "22222").is(c, badUsage, "6 or more")
		c.drover("jobs", "show", "333333").is(c, notFound, "333333")
	})
	inBubble(t, "cli-08 interrupt and timeout end the waiting, not the job", func(c *cluster) {
		n := c.node("n1", kinds)
		j := c.submit(n, job.Request{Kind: "hang"})
		c.until(n, j.ID, job.Running)
		ctx, cancel := context.WithTimeout(c.Context(), 3*time.Second)
		defer cancel()
		r := invoke(ctx, "", "jobs", "wait", "-db", c.dsn, j.ID)
		r.is(c, interrupted, "drover jobs wait "+j.ID)
		r = c.drover("-timeout", "1s", "jobs", "wait", j.ID).is(c, timedOut, "drover jobs wait "+j.ID, "-timeout passed")
		if strings.Contains(r.err, "deadline exceeded") {
			c.Errorf("stderr: %s", r.err)
		}
		if got := c.until(n, j.ID, job.Running); !got.CancelAt.IsZero() {
			c.Error("the job was asked to end")
		}
	})
	inBubble(t, "cli-09 ids from a pipe", func(c *cluster) {
		n := c.node("n1", kinds)
		for i := range 5 {
			j := c.submit(n, job.Request{Kind: "bad", Args: fmt.Sprint(i)})
			c.until(n, j.ID, job.Failed)
		}
		ids := c.drover("jobs", "list", "-state", "failed", "-o", "id").is(c, 0).out
		r := invoke(c.Context(), ids+"\n00000000-0000-7000-8000-000000000000\n", "jobs", "retry", "-", "-db", c.dsn, "-o", "id")
		r.is(c, badEnd, "00000000-0000-7000-8000-000000000000", "1 of 6 failed")
		if got := strings.Fields(r.out); len(got) != 5 {
			c.Errorf("retried: %q", got)
		}
		c.drover("jobs", "retry", "-", "-wait").is(c, 0) // nothing on stdin
		r = invoke(c.Context(), ids, "jobs", "retry", "-", "-wait", "-q", "-o", "json", "-db", c.dsn).is(c, badEnd, "failed: no host")
		if l := document[jobList](c, r); len(l.Items) != 5 || l.Items[4].State != job.Failed {
			c.Errorf("waited for: %+v", l)
		}
	})
	inBubble(t, "cli-09 a closed pipe says nothing", func(c *cluster) {
		n := c.node("n1", kinds)
		c.submit(n, job.Request{Kind: "ok"})
		for _, format := range []string{"table", "json", "id"} {
			r, w := io.Pipe()
			_ = r.Close()
			var errs bytes.Buffer
			if code := run(c.Context(), []string{"jobs", "list", "-all", "-o", format, "-db", c.dsn}, strings.NewReader(""), w, &errs); code != 0 || errs.Len() > 0 {
				c.Errorf("%s: exit %d, stderr %q", format, code, errs.String())
			}
		}
	})
	inBubble(t, "many by filter are asked for, or told by -dry-run", func(c *cluster) {
		n := c.node("n1", func(m *job.Manager) { job.Declare[string, string](m, "remote") })
		for range 3 {
			c.submit(n, job.Request{Kind: "remote"})
		}
		if r := c.drover("jobs", "cancel", "-filter", "kind=remote", "-dry-run", "-o", "id").is(c, 0, "3 would be"); strings.Count(r.out, "\n") != 3 {
			c.Errorf("dry run: %q", r.out)
		}
		c.drover("jobs", "cancel", "-filter", "kind=remote").is(c, badUsage, "-yes")
		c.drover("jobs", "cancel", "-filter", "kind=remote", "-yes", "-o", "id").is(c, 0)
		c.drover("jobs", "cancel", "-filter", "kind=remote", "-yes", "-o", "json").is(c, 0)
		c.drover("jobs", "cancel", "-filter", "king=remote", "-yes").is(c, badUsage, "king")
		c.drover("jobs", "cancel", "-filter", "kind=remote", "abcdef").is(c, badUsage, "not both")
	})
	inBubble(t, "tail follows the journal to the end", func(c *cluster) {
		n := c.node("n1", kinds)
		j := c.submit(n, job.Request{Kind: "hang"})
		c.until(n, j.ID, job.Running)
		go func() {
			time.Sleep(5 * time.Second)
			_, _ = n.Cancel(context.Background(), j.ID)
		}()
		if r := c.drover("jobs", "tail", j.ID).is(c, 0, "running on n1", "cancelled"); strings.Count(r.out, "copying") != 1 {
			c.Errorf("journal: %q", r.out)
		}
		type rows struct{ Items []struct{ Text string } }
		if e := document[rows](c, c.drover("jobs", "tail", "-q", "-o", "json", j.ID).is(c, 0)); len(e.Items) != 4 || e.Items[0].Text != "copying" || e.Items[1].Text != "cancel requested by n1" {
			c.Errorf("%+v", e)
		}
	})
}

// jsonOnly forgets what a human was told.
func jsonOnly(r result) result { r.err = ""; return r }
