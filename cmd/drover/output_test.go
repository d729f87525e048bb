package main

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	inBubble(t, "cli-02 every command in JSON", func(c *cluster) {
		n := c.node("n1", kinds)
		key := syncqueue.Key{Kind: "vm", ID: "1"}
		done := c.submit(n, job.Request{Kind: "ok", Args: "<x>"})
		bad := c.submit(n, job.Request{Kind: "bad"})
		hold := c.submit(n, job.Request{Kind: "hang", Sync: key})
		c.until(n, done.ID, job.Succeeded)
		c.until(n, bad.ID, job.Failed)
		c.until(n, hold.ID, job.Running)
		wait := c.submit(n, job.Request{Kind: "hang", Sync: key})
		time.Sleep(time.Second)
		list := []string{"items"}
		obj := []string{"id", "kind", "state", "pool", "rev", "created", "progress"}
		for args, want := range map[string][]string{
			"migrate up":                           {"store", "version", "known", "pending"},
			"migrate status -check":                {"store", "version", "known", "pending"},
			"migrate -after-failover":              nil, // last, see below
			"version":                              {"version", "go", "schemas", "database"},
			"jobs list":                            list,
			"jobs list -all":                       list,
			"jobs list -kind none":                 list,
			"jobs show " + done.ID:                 append([]string{"args", "result"}, obj...),
			"jobs get -journal " + hold.ID:         append([]string{"journal"}, obj...),
			"jobs wait " + done.ID:                 append([]string{"result"}, obj...),
			"jobs tail " + done.ID:                 list,
			"jobs retry " + bad.ID:                 append([]string{"retry_of"}, obj...),
			"jobs cancel " + wait.ID:               append([]string{"accepted", "cancel", "key"}, obj...),
			"queues list":                          list,
			"queues show vm/1":                     {"key", "limit", "paused", "holders", "waiters"},
			"queues limit vm/1 3":                  {"kind", "id", "limit"},
			"queues pause vm/9":                    {"kind", "id", "paused"},
			"queues resume vm":                     {"kind", "paused"},
			"queues blocked":                       list,
			"queues clear -yes vm/9":               list,
			"pools list":                           list,
			"pools pause other":                    {"name", "paused", "depth", "oldest_ms"},
			"pools resume other":                   {"name", "paused", "depth", "oldest_ms"},
			"maintenance status":                   {"on", "running"},
			"maintenance off":                      {"on", "running"},
			"jobs stats":                           list,
			"jobs blocked":                         list,
			"jobs flow " + done.ID:                 list,
			"jobs reprioritise " + hold.ID + " -7": obj,
			"nodes":                                {"items", "frozen"},
			"members list":                         {"items", "frozen"},
			"jobs show -timeline " + done.ID:       {"timeline"},
			"leases":                               list,
		} {
			if want == nil {
				continue
			}
			r := c.drover(append([]string{"-q", "-o", "json"}, strings.Fields(args)...)...).is(c, 0)
			got := document[map[string]any](c, r)
			for _, field := range want {
				if _, ok := got[field]; !ok {
					c.Errorf("%s: no %s in %s", args, field, r.out)
				}
			}
			for line := range strings.Lines(c.drover(append([]string{"-q", "-o", "ndjson"}, strings.Fields(args)...)...).out) {
				document[map[string]any](c, result{out: line})
			}
		}
		stamps := regexp.MustCompile(`"created":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
		if r := c.drover("-o", "json", "jobs", "show", done.ID); !stamps.MatchString(r.out) || !strings.Contains(r.out, `"args":"\u003cx\u003e"`) {
			c.Errorf("show: %s", r.out)
		}
		r := c.drover("jobs", "show", "-o", "json", "00000000-0000-7000-8000-000000000000").is(c, notFound, "not found")
		if r.out != "" {
			c.Errorf("an error on stdout: %q", r.out)
		}
		document[map[string]any](c, c.drover("-q", "-o", "json", "migrate", "-after-failover").is(c, 0))
	})
	inBubble(t, "cli-03 exit codes", func(c *cluster) {
		n := c.node("n1", kinds)
		done, bad, hang := c.submit(n, job.Request{Kind: "ok"}), c.submit(n, job.Request{Kind: "bad"}), c.submit(n, job.Request{Kind: "hang"})
		c.until(n, done.ID, job.Succeeded)
		c.until(n, bad.ID, job.Failed)
		c.until(n, hang.ID, job.Running)
		c.drover("jobs", "list", "-all").is(c, 0)
		c.drover("jobs", "wait", bad.ID).is(c, 1, "failed: no host")
		for _, args := range []string{"", "jobs", "jobs lst", "jobs list x", "jobs list -bogus", "jobs show", "jobs list -o xml", "jobs list -limit -1",
			"jobs list -limit x", "jobs list -state gone", "jobs list -sort id", "jobs list -key vm", "jobs list -longer 1", "jobs list -timeout 0s",
			"jobs list -resource a -resource b", "jobs list -db mysql://x", "jobs list -db @/nowhere", "jobs cancel", "queues limit vm many",
			"queues limit vm -1", "queues show vm", "help bogus", "migrate", "migrate down", "migrate sideways -after-failover"} {
			r := c.drover(strings.Fields(args)...)
			if r.code != badUsage || r.out != "" || r.err == "" {
				c.Errorf("%s: exit %d, stdout %q, stderr %q", args, r.code, r.out, r.err)
			}
		}
		invoke(c.Context(), "", "jobs", "list").is(c, badUsage, "DROVER_SERVER")
		c.drover("jobs", "show", "ffffff").is(c, notFound, "ffffff")
		c.drover("jobs", "cancel", done.ID).is(c, refused, "final")
		c.drover("jobs", "retry", done.ID).is(c, refused, "succeeded")
		c.drover("jobs", "list", "-db", "sqlite:"+c.TempDir()+"/none.db").is(c, unreachable, "none.db")
		c.drover("jobs", "wait", "-timeout", "2s", hang.ID).is(c, timedOut, "-timeout")
		ctx, cancel := context.WithCancel(c.Context())
		cancel()
		invoke(ctx, "", "jobs", "wait", hang.ID, "-db", c.dsn).is(c, interrupted)
	})
	inBubble(t, "cli-07 a pipe gets plain lines", func(c *cluster) {
		n := c.node("n1", kinds)
		j := c.submit(n, job.Request{Kind: "minute"})
		c.until(n, j.ID, job.Running)
		r := c.drover("jobs", "wait", j.ID).is(c, 0, "minute "+tail8(j.ID)+"  running on n1", "succeeded")
		if lines := strings.Count(r.err, "\n"); lines < 6 || lines > 9 {
			c.Errorf("%d lines in a minute:\n%s", lines, r.err)
		}
		if strings.ContainsAny(r.err+r.out, "\x1b\r") {
			c.Errorf("escape codes: %q", r.err)
		}
		var ids []string
		for range 12 {
			ids = append(ids, c.submit(n, job.Request{Kind: "minute"}).ID)
		}
		c.drover(append([]string{"jobs", "wait"}, ids...)...).is(c, 0, "12 jobs: 12 running", "12 jobs: 12 succeeded")
		if r := c.drover("jobs", "wait", "-q", j.ID); r.err != "" {
			c.Errorf("-q: %q", r.err)
		}
	})
	t.Run("errors that cannot be written are told", func(t *testing.T) {
		var errs strings.Builder
		if code := run(t.Context(), []string{"version"}, strings.NewReader(""), failing{}, &errs); code != badEnd || !strings.Contains(errs.String(), "disk full") {
			t.Errorf("exit %d, stderr %q", code, errs.String())
		}
	})
	t.Run("text of others does nothing to a terminal", func(t *testing.T) {
		if got := clean("a\x1b[31mb\n\tc\u202ed\xff\u009b"); got != "a[31mb  cd\uFFFD" {
			t.Errorf("%q", got)
		}
	})
	t.Run("durations", func(t *testing.T) {
		for d, want := range map[time.Duration]string{0: "0s", 1500 * time.Millisecond: "1s", 61 * time.Second: "1m1s", 3*time.Hour + 59*time.Second: "3h0m", 50 * time.Hour: "2d2h", 48 * time.Hour: "2d"} {
			if got := short(d); got != want {
				t.Errorf("%v: %q, want %q", d, got, want)
			}
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestConfig(t *testing.T) {
	c := onSQLite(t)
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	path := home + "/drover/config.json"
	write := func(text string, mode os.FileMode) {
		t.Helper()
		c.must(os.MkdirAll(home+"/drover", 0o700))
		c.must(os.WriteFile(path, []byte(text), 0o600))
		c.must(os.Chmod(path, mode)) //nolint:gosec // the point of the test
	}
	t.Run("cli-12 a configuration that others can read is refused", func(t *testing.T) {
		write(`{"db": "postgres://u:secret@127.0.0.1:1/x"}`, 0o644)
		r := invoke(t.Context(), "", "jobs", "list").is(t, badUsage, path, "chmod 600")
		if strings.Contains(r.err+r.out, "secret") {
			t.Errorf("the password is told: %v", r)
		}
	})
	t.Run("cli-12 a password is told nowhere", func(t *testing.T) {
		const dsn = "postgres://u:secret@127.0.0.1:1/x"
		write(`{"db": "`+dsn+`"}`, 0o600)
		t.Setenv("DROVER_DB", "")
		file := home + "/dsn"
		c.must(os.WriteFile(file, []byte(dsn+"\n"), 0o600))
		for _, args := range [][]string{
			{"jobs", "list"}, {"jobs", "list", "-db", dsn}, {"jobs", "list", "-db", "@" + file}, {"-db", dsn, "jobs", "list", "-h"},
			{"-db", dsn, "-h"}, {"version", "-o", "json"}, {"jobs", "list", "-db", "postgres://u:secret@127.0.0.1:x/x"},
			{"jobs", "list", "-db", dsn + "?sslmode=secret-mode"}, {"jobs", "list", "-bogus", "-db", dsn}, {"jobs", "list", "-db", "u:secret@host"},
		} {
			r := invoke(t.Context(), "", args...)
			if strings.Contains(strings.ReplaceAll(r.err+r.out, "secret-mode", ""), "secret") {
				t.Errorf("%v: the password is told: %v", args, r)
			}
		}
	})
	t.Run("the database is named by flag, environment, file, in this order", func(t *testing.T) {
		write(`{"db": "`+c.dsn+`"}`, 0o600)
		invoke(t.Context(), "", "nodes").is(t, 0, "NODE")
		t.Setenv("DROVER_DB", "sqlite:"+home+"/none.db")
		invoke(t.Context(), "", "nodes").is(t, unreachable, "none.db")
		invoke(t.Context(), "", "nodes", "-db", c.dsn).is(t, 0, "NODE")
		write(`{"db": 7, "x": 1}`, 0o600)
		t.Setenv("DROVER_DB", "")
		invoke(t.Context(), "", "nodes").is(t, badUsage, path)
	})
	t.Run("cli-13 unreachable is told with its address", func(t *testing.T) {
		invoke(t.Context(), "", "nodes", "-db", "postgres://u@127.0.0.1:1/x").is(t, unreachable, "127.0.0.1:1")
	})
	t.Run("help and completion are there", func(t *testing.T) {
		if r := invoke(t.Context(), "", "help").is(t, 0); !strings.Contains(r.out, "drover jobs list") {
			t.Error(r.out)
		}
		for _, args := range []string{"migrate", "migrate up", "migrate status", "jobs", "jobs list", "jobs show", "jobs wait", "jobs cancel", "jobs retry",
			"jobs tail", "queues", "queues list", "queues show", "queues limit", "nodes", "leases", "version", "completion", "completion bash"} {
			if r := invoke(t.Context(), "", append(strings.Fields(args), "-h")...).is(t, 0); strings.Count(r.out, "Example:") != 1 {
				t.Errorf("%s has no example:\n%s", args, r.out)
			}
		}
		if r := invoke(t.Context(), "", "completion", "bash").is(t, 0); !strings.Contains(r.out, "complete") {
			t.Error(r.out)
		}
	})
}
