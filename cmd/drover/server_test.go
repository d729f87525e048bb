package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/periodic"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

// served is a node with a console on loopback, which can be stopped and started again on its address.
type served struct {
	*cluster
	db    job.DB
	env   drover.Env
	addr  string
	jobs  *job.Manager
	token string

	mu      sync.Mutex
	page    *console.Console
	stop    func()
	restart func()
}

func (s *served) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	s.mu.Lock()
	c := s.page
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Publish(ctx, tx, e)
}

func serve(t *testing.T) *served {
	t.Helper()
	c := onSQLite(t)
	s := &served{cluster: c, db: c.open(), env: drover.Env{Node: "ms1", Logger: quiet()}}
	session, err := lease.New(lease.Config{Env: s.env, Tx: s.db, Store: s.db.Leases()})
	c.must(err)
	queue, err := syncqueue.New(syncqueue.Config{Env: s.env, Tx: s.db, Store: s.db.(backend).Queues()})
	c.must(err)
	s.jobs, err = job.New(job.Config{Env: s.env, DB: s.db, Session: session, Turns: queue, Events: s, Poll: 100 * time.Millisecond})
	c.must(err)
	kinds(s.jobs)
	tasks := &periodic.Set{Env: s.env}
	c.must(tasks.Every(time.Hour, "audit", func(context.Context) error { return nil }))
	var g drover.Group
	g.Env = s.env
	c.must(g.Add("session", session))
	c.must(g.Add("jobs", s.jobs))
	c.must(g.Add("tasks", tasks))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	<-g.Ready()
	s.start(func(cfg *console.Config) {
		cfg.Jobs, cfg.Queues, cfg.Leases, cfg.Periodic = s.jobs, queue, session, tasks
	})
	t.Cleanup(func() {
		s.stop()
		cancel()
		c.must(<-ended)
	})
	return s
}

// start serves a new console, as a process started anew does.
func (s *served) start(change func(*console.Config)) {
	s.Helper()
	cfg := console.Config{Env: s.env, Auth: func(r *http.Request) (console.Principal, error) {
		if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
			return console.Principal{}, console.ErrUnauthenticated
		}
		return console.Principal{Name: "test"}, nil
	}}
	change(&cfg)
	page, err := console.New(cfg)
	s.must(err)
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", s.addr)
	s.must(err)
	s.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page))
	mux.Handle("/v1/", page.API())
	server := &http.Server{Handler: mux}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = server.Serve(l) }()
	go func() { defer close(done); _ = page.Run(ctx) }()
	s.mu.Lock()
	s.page, s.stop = page, func() { cancel(); <-done; _ = server.Close() }
	s.mu.Unlock()
	again := change
	s.restart = func() { s.stop(); s.start(again) }
}

// remote runs the command on the server.
func (s *served) remote(args ...string) result {
	return invoke(s.Context(), "", append([]string{"-server", "http://" + s.addr}, args...)...)
}

// live runs a command until the test stops it; said is what it has written so far.
func (s *served) live(args ...string) (said func() (out, err string), end func() int) {
	ctx, cancel := context.WithCancel(s.Context())
	var out, errs safe
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"-server", "http://" + s.addr}, args...), strings.NewReader(""), &out, &errs)
	}()
	return func() (string, string) { return out.String(), errs.String() }, func() int { cancel(); return <-code }
}

// safe is a buffer that is read while it is written.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }
func (s *safe) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestServer(t *testing.T) {
	t.Run("cli-04 server and database give equal output", func(t *testing.T) {
		s := serve(t)
		c := s.cluster
		key := syncqueue.Key{Kind: "vm", ID: "1/a b"}
		ok, bad := c.submit(s.jobs, job.Request{Kind: "ok", Args: "<x>", Identity: map[string]string{"account": "a"}}), c.submit(s.jobs, job.Request{Kind: "bad"})
		hang := c.submit(s.jobs, job.Request{Kind: "hang", Sync: key, Resource: "vm/1"})
		waits := c.submit(s.jobs, job.Request{Kind: "ok", Sync: key})
		c.submit(s.jobs, job.Request{Kind: "ok", RunAt: time.Now().Add(time.Hour)})
		c.until(s.jobs, ok.ID, job.Succeeded)
		c.until(s.jobs, bad.ID, job.Failed)
		eventually(t, "it tells what it does", func() bool { j, _ := s.jobs.Get(c.Context(), hang.ID); return j.Progress.Percent == 57 })
		time.Sleep(1100 * time.Millisecond) // counts are a second old at most
		c.drover("queues", "limit", "vm", "1").is(t, 0)
		for _, args := range []string{
			"jobs list", "jobs list -all", "jobs list -all -sort -created -limit 3", "jobs list -state failed", "jobs list -key|vm/1/a b", "jobs list -all -text HOST",
			"jobs list -all -text 999999", "jobs list -account a -all", "jobs list -finished-after 1h", "jobs list -root " + hang.ID, "jobs list -all -kind ok -kind bad",
			"jobs list -created-after 2000-01-01T00:00:00Z", "jobs list -node ms1", "jobs list -longer 1h",
			"jobs show " + ok.ID, "jobs show -journal " + hang.ID, "jobs show -timeline " + ok.ID, "jobs show " + waits.ID, "jobs show " + bad.ID[28:], "jobs stats", "jobs blocked",
			"queues list", "queues list -kind vm -sort waiting", "queues list -min-waiting 5", "queues show|vm/1/a b", "queues show vm/none", "members", "members list", "leases",
			"jobs show 00000000-0000-7000-8000-000000000000", "jobs show ffffff", "jobs show 111", "jobs wait " + ok.ID, "jobs wait " + bad.ID,
			"jobs cancel " + ok.ID, "jobs retry " + ok.ID, "jobs hold " + hang.ID, "jobs tail " + ok.ID, "jobs reprioritise " + waits.ID + " 7", "queues pause vm/9", "queues resume vm/9",
		} {
			for _, format := range []string{"table", "wide", "json", "ndjson", "id"} {
				head, tail, split := strings.Cut(args, "|")
				words := append(strings.Fields(head), "-o", format, "-utc")
				if split {
					words = append(words, tail)
				}
				x, y := c.drover(words...), s.remote(words...)
				if format == "json" && args == "leases" || strings.HasPrefix(args, "members") || args == "leases" {
					x.out, y.out = untimed(x.out), untimed(y.out) // the session is renewed in between
				}
				if x.code != y.code || revs(x.out) != revs(y.out) {
					t.Errorf("%s -o %s:\n-db     %d %s%s\n-server %d %s%s", args, format, x.code, x.out, x.err, y.code, y.out, y.err)
				}
			}
		}
		r := c.drover("periodic", "list").is(t, badUsage, "-server")
		if r.out != "" {
			t.Error(r.out)
		}
		for _, args := range []string{"periodic trigger audit", "members drain ms1", "members owner x", "events", "jobs tail"} {
			c.drover(strings.Fields(args)...).is(t, badUsage, "-server")
		}
		for _, args := range []string{"maintenance on", "queues blocked", "jobs flow " + ok.ID, "migrate status"} {
			s.remote(strings.Fields(args)...).is(t, badUsage, "-db")
		}
	})
	t.Run("cli-04 steering by a server", func(t *testing.T) {
		s := serve(t)
		c := s.cluster
		key := syncqueue.Key{Kind: "vm", ID: "1"}
		hang := c.submit(s.jobs, job.Request{Kind: "hang", Sync: key})
		c.until(s.jobs, hang.ID, job.Running)
		a, b := c.submit(s.jobs, job.Request{Kind: "ok", Sync: key}), c.submit(s.jobs, job.Request{Kind: "ok", Sync: key})
		s.remote("queues", "move", "vm/1", b.ID[24:], "-first").is(t, 0)
		c.lineIs("vm/1", hang, b, a)
		s.remote("queues", "move", "vm/1", b.ID, "-last").is(t, 0)
		s.remote("queues", "move", "vm/1", b.ID, "-before", a.ID).is(t, 0)
		c.lineIs("vm/1", hang, b, a)
		s.remote("queues", "move", "vm/1", hang.ID, "-last").is(t, refused, "turn")
		s.remote("queues", "limit", "vm/1", "-1").is(t, badUsage, "must be 0")
		s.remote("pools", "pause", "default").is(t, 0)
		s.remote("pools", "resume", "default").is(t, 0)
		s.remote("jobs", "cancel", "-wait", "-q", "-reason", "enough", hang.ID).is(t, 0)
		s.remote("jobs", "wait", "-q", a.ID, b.ID).is(t, 0)
		s.remote("queues", "clear", "-yes", "-o", "id", "vm/1").is(t, 0)
		bad := c.submit(s.jobs, job.Request{Kind: "bad"})
		c.until(s.jobs, bad.ID, job.Failed)
		s.remote("jobs", "retry", "-keep-steps", "-wait", "-q", bad.ID).is(t, badEnd, "no host")
		if out := s.remote("periodic", "list").is(t, 0, "only the tasks").out; !strings.Contains(out, "audit") || !strings.Contains(out, "ms1") {
			t.Error(out)
		}
		s.remote("periodic", "trigger", "audit", "-node", "ms1").is(t, 0)
		s.remote("periodic", "trigger", "nothing").is(t, notFound, "nothing")
		s.remote("periodic", "disable", "audit", "-o", "json").is(t, 0)
		if out := s.remote("members", "owner", "vm/42").is(t, 0).out; !strings.Contains(out, "ms1") {
			t.Error(out)
		}
		if o := document[map[string]any](t, s.remote("version", "-o", "json").is(t, 0)); o["server"] == nil {
			t.Errorf("%v", o)
		}
	})
	t.Run("cli-12 a token is sent, and told nowhere", func(t *testing.T) {
		s := serve(t)
		s.token = "hunter2.secret"
		s.remote("jobs", "list").is(t, refused, "token")
		file := t.TempDir() + "/token"
		s.must(os.WriteFile(file, []byte(s.token+"\n"), 0o600))
		for _, args := range [][]string{{"-token-file", file, "jobs", "list"}, {"-token-file", file, "-h"}, {"-token-file", file, "version", "-o", "json"}} {
			if r := s.remote(args...).is(t, 0, ""); strings.Contains(r.out+r.err, "hunter2") {
				t.Errorf("%v: %v", args, r)
			}
		}
		t.Setenv("DROVER_TOKEN", s.token)
		t.Setenv("DROVER_SERVER", "http://"+s.addr+"/ops/")
		t.Setenv("DROVER_DB", "sqlite:/nowhere")
		invoke(t.Context(), "", "jobs", "list").is(t, 0, "ID")
		invoke(t.Context(), "", "jobs", "list", "-server", "http://cloud.example").is(t, badUsage, "in the clear")
	})
	t.Run("cli-13 a server that is not there is told with its address", func(t *testing.T) {
		at := time.Now()
		invoke(t.Context(), "", "jobs", "list", "-server", "http://127.0.0.1:1").is(t, unreachable, "127.0.0.1:1")
		if d := time.Since(at); d > 5*time.Second {
			t.Errorf("after %v", d)
		}
		for _, bad := range []string{"127.0.0.1:1", "ftp://x", "http://", "http://u:p@x/"} {
			invoke(t.Context(), "", "jobs", "list", "-server", bad).is(t, badUsage, "-server")
		}
	})
}

var (
	stamps    = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`)
	revisions = regexp.MustCompile(`"(rev|oldest_ms)":\d+|"updated":"[^"]*"`)
)

// untimed leaves out what moves with each renewal of a session.
func untimed(s string) string { return stamps.ReplaceAllString(s, "T") }

// revs leaves out what changes with each verb and with time, so that the second answer may be compared with the first.
func revs(s string) string { return revisions.ReplaceAllString(s, `"$1":0`) }

func TestTail(t *testing.T) {
	t.Run("cli-11 tail across a restart", func(t *testing.T) {
		s := serve(t)
		c := s.cluster
		j := c.submit(s.jobs, job.Request{Kind: "hang"})
		c.until(s.jobs, j.ID, job.Running)
		all, endAll := s.live("jobs", "tail", "-o", "ndjson")
		one, endOne := s.live("jobs", "tail", j.ID)
		eventually(t, "the journal is told", func() bool { out, _ := one(); return strings.Contains(out, "copying") })
		before := c.submit(s.jobs, job.Request{Kind: "ok"})
		eventually(t, "an end is told", func() bool {
			out, _ := all()
			return strings.Contains(out, before.ID) && strings.Contains(out, "succeeded")
		})
		s.restart()
		for _, said := range []func() (string, string){all, one} {
			eventually(t, "gone is told", func() bool {
				_, err := said()
				return strings.Contains(err, "\n# gone") || strings.HasPrefix(err, "# gone")
			})
		}
		after := c.submit(s.jobs, job.Request{Kind: "ok"})
		eventually(t, "what comes after is told", func() bool {
			out, _ := all()
			i := strings.LastIndex(out, after.ID)
			return i >= 0 && strings.Contains(out[i:], "succeeded")
		})
		c.must(second(s.jobs.Cancel(c.Context(), j.ID, "enough")))
		eventually(t, "the end is told", func() bool { _, err := one(); return strings.Contains(err, "cancelled") })
		if code := endOne(); code != 0 {
			t.Errorf("exit %d", code)
		}
		if code := endAll(); code != interrupted {
			t.Errorf("exit %d", code)
		}
		out, errs := one()
		if strings.Count(out, "copying") != 1 || strings.Count(errs, "# gone") != 1 {
			t.Errorf("%s\n%s", out, errs)
		}
		out, _ = all()
		seen := map[string]bool{}
		for line := range strings.Lines(out) {
			e := document[event](t, result{out: line})
			if at := string(e.Data); seen[at] {
				t.Errorf("twice: %s", at)
			} else {
				seen[at] = true
			}
		}
		if strings.Contains(out, "gone") {
			t.Errorf("stdout: %s", out)
		}
	})
}

func second[V any](_ V, err error) error { return err }

func TestShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh"} {
		t.Run("cli-14 completion loads in "+shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				fixture.Missing(t, shell, "no "+shell+" (apt-get install "+shell+")")
			}
			script := invoke(t.Context(), "", "completion", shell).is(t, 0).out
			file := t.TempDir() + "/drover"
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			check := map[string]string{
				"bash": `set -eu; source "$1"; complete -p drover`,
				"zsh":  `setopt err_exit no_unset; autoload -Uz compinit; compinit -u -D; source "$1"; print ${_comps[drover]}`,
			}[shell]
			args := map[string][]string{"bash": {"--norc", "--noprofile"}, "zsh": {"-f"}}[shell]
			out, err := exec.CommandContext(t.Context(), path, append(args, "-c", check, shell, file)...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "drover") {
				t.Errorf("%v: %s\n%s", err, out, script)
			}
		})
	}
	t.Run("cli-14 every command has one example, and 40 columns are enough", func(t *testing.T) {
		t.Setenv("COLUMNS", "40")
		root := newApp(strings.NewReader(""), &safe{}, &safe{}).root()
		n := 0
		walk := func(words []string) {
			r := invoke(t.Context(), "", append(words, "-h")...).is(t, 0)
			if strings.Count(r.out, "Example:") != 1 || !strings.Contains(r.out, "drover") {
				t.Errorf("%v: not one example:\n%s", words, r.out)
			}
			n++
		}
		walk(nil)
		for _, c := range root.Commands {
			walk([]string{c.Name})
			for _, sub := range c.Commands {
				walk([]string{c.Name, sub.Name})
			}
		}
		if n < 45 {
			t.Errorf("only %d commands", n)
		}
	})
}
