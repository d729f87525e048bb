package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

func TestFencing(t *testing.T) {
	bubble(t, "agent-18 rel-r19 fencing", fencing)
	bubble(t, "state files", stateFiles)
}

func fencing(l *lab) {
	var r runs
	file := filepath.Join(l.TempDir(), "tokens")
	n := l.node("n1", nil)
	state := func(stores ...string) func(c *agent.ServerConfig) {
		return func(c *agent.ServerConfig) {
			c.StateFile, c.Stores, c.AdoptStore, c.Workers = file, stores, len(stores) == 0, 1
		}
	}
	h := l.host("h1", state(), nap(&r))
	call := func(name, store string, epoch int64) error {
		_, err := agent.Call[string](bg, n.Client, "http://h1/nap", 0.0, agent.Token(name, store, epoch))
		return err
	}
	stale := func(what string, err error) {
		l.Helper()
		if !errors.Is(err, agent.ErrStale) || !agent.NotRun(err) {
			l.Errorf("%s: %v, want ErrStale", what, err)
		}
	}
	l.ok(call("vm/1", "db.1", 7))
	stale("a lower epoch", call("vm/1", "db.1", 6))
	l.ok(call("vm/1", "db.1", 7))
	h.stop()
	h = l.host("h1", state(), nap(&r))
	stale("after a restart", call("vm/1", "db.1", 6))
	l.ok(call("vm/1", "db.2", 1))
	stale("the lower incarnation", call("vm/1", "db.1", 99))
	stale("another database", call("vm/1", "new.1", 99))
	stale("another database, another name", call("vm/9", "new.1", 99))
	l.ok(call("vm/2;odd", "db.2", 1))
	begun := r.of("begun")
	if begun != 4 {
		l.Errorf("%d handlers ran, want 4", begun)
	}
	h.stop()
	h = l.host("h1", state("db", "new"), nap(&r)) // the operator has moved to another database
	l.ok(call("vm/1", "new.1", 1))
	stale("the database before", call("vm/1", "db.9", 99))
	l.ok(call("vm/2", "db.9", 1))
	stale("a database that is not listed", call("vm/2", "else.1", 1))
	h.stop()
	h = l.host("h1", func(c *agent.ServerConfig) {}, nap(&r))
	stale("no database is trusted", call("vm/1", "db.1", 1))
	h.stop()

	// One that waits for a worker while a higher token comes does not run.
	l.host("h1", state("db", "new"), nap(&r))
	_, err := n.Start(bg, "http://h1/nap", 5.0)
	l.ok(err)
	low, err := n.Start(bg, "http://h1/nap", 0.0, agent.Token("vm/3", "db.1", 1))
	l.ok(err)
	high, err := n.Start(bg, "http://h1/nap", 0.0, agent.Token("vm/3", "db.1", 2))
	l.ok(err)
	_, err = agent.Wait[string](bg, n.Client, high)
	l.ok(err)
	_, err = agent.Wait[string](bg, n.Client, low)
	stale("a token that was overtaken", err)
	if r := l.send("POST", "http://h1/nap", "0", "Drover-Token", "1;db.1;vm/3"); r.StatusCode != http.StatusConflict {
		l.Errorf("a stale request that waits for its answer: %d", r.StatusCode)
	}
	if r := l.send("POST", "http://h1/nap", "0", "Drover-Task", "t", "Drover-Token", "x"); r.StatusCode != http.StatusBadRequest {
		l.Errorf("no token at all: %d", r.StatusCode)
	}
}

func stateFiles(l *lab) {
	open := func(file string) (*agent.Server, error) {
		return agent.NewServer(agent.ServerConfig{Env: drover.Env{Logger: quiet}, Nodes: []string{"http://n1"}, StateFile: file, Stores: []string{"db"}, HTTP: l})
	}
	dir := l.TempDir()
	if _, err := open(filepath.Join(dir, "none", "tokens")); !errors.Is(err, fs.ErrNotExist) {
		l.Errorf("no directory: %v", err)
	}
	file := filepath.Join(dir, "tokens")
	l.ok(os.WriteFile(file, []byte("7;db.1;a\nrubbish\n"), 0o600))
	if _, err := open(file); err == nil || !strings.Contains(err.Error(), "line 2") {
		l.Errorf("rubbish: %v", err)
	}
	l.ok(os.WriteFile(file, []byte("7;db.1;a\n8;db.1;a\n9;db.1"), 0o600)) // a crash in the middle of the last line
	n := l.node("n1", nil)
	h := l.host("h1", func(c *agent.ServerConfig) { c.StateFile, c.Stores = file, []string{"db"} }, echo)
	call := func(name string, epoch int64) error {
		_, err := agent.Call[int](bg, n.Client, "http://h1/echo", 1, agent.Token(name, "db.1", epoch))
		return err
	}
	l.is(call("a", 7), agent.ErrStale)
	l.ok(call("a", 8))
	for i := range 300 { // more lines than names: the file is written anew
		l.ok(call("a", int64(9+i)))
	}
	b, err := os.ReadFile(file)
	l.ok(err)
	if lines := strings.Count(string(b), "\n"); lines > 210 {
		l.Errorf("%d lines for one name", lines)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		l.Errorf("mode %v, %v", info.Mode(), err)
	}
	h.stop()
	if err := call("a", 5000); err == nil {
		l.Error("a stopped agent took a task")
	}
	l.host("h1", func(c *agent.ServerConfig) { c.StateFile, c.Stores = file, []string{"db"} }, echo)
	l.is(call("a", 307), agent.ErrStale)
	l.ok(call("a", 308))
}

// TestElsewhere: callback URLs that point elsewhere, and other bad requests (SSRF).
func TestElsewhere(t *testing.T) {
	bubble(t, "callbacks elsewhere", func(l *lab) {
		var r runs
		l.host("h1", func(c *agent.ServerConfig) {
			c.Nodes = []string{"http://n1", "https://LB.example:443/drover"}
			c.MaxBody = 100
		}, nap(&r))
		key := []string{"Drover-Key", strings.Repeat("a", 64), "Drover-Task", "t"}
		for callback, want := range map[string]int{
			"http://n1/drover/agent/callback":                 202,
			"http://N1:80/drover/agent/callback":              202,
			"https://lb.example/drover/drover/agent/callback": 202,
			"https://n1/drover/agent/callback":                403,
			"http://n1:81/drover/agent/callback":              403,
			"http://n1.evil/drover/agent/callback":            403,
			"http://n1/drover/agent/command":                  403,
			"http://n1/drover/agent/callback?x=1":             403,
			"http://n1/admin/../drover/agent/callback":        403,
			"http://n1/drover/agent/%63allback":               403,
			"http://127.0.0.1/drover/agent/callback":          403,
			"http://169.254.169.254/drover/agent/callback":    403,
			"http://[::1]/drover/agent/callback":              403,
			"https://lb.example/drover/agent/callback":        403,
			"http://n1@evil/drover/agent/callback":            400,
			"file:///etc/passwd":                              400,
			"//n1/drover/agent/callback":                      400,
			"gopher://n1/drover/agent/callback":               400,
			"http://n1\\@evil/drover/agent/callback":          400,
			"http://n1/drover/agent/callback" + "\x7f":        400,
		} {
			if s := l.send("POST", "http://h1/nap", "0", append(key, "Drover-Callback", callback)...).StatusCode; s != want {
				l.Errorf("%q: %d, want %d", callback, s, want)
			}
			time.Sleep(20 * time.Minute) // the result of the task is forgotten
		}
		for what, c := range map[string]struct {
			path, body string
			header     []string
			want       int
		}{
			"path":      {"/none", "1", nil, 404},
			"JSON":      {"/nap", "{", []string{"Drover-Task", "a"}, 400},
			"type":      {"/nap", `"x"`, []string{"Drover-Task", "a"}, 400},
			"empty":     {"/nap", "", []string{"Drover-Task", "a"}, 400},
			"large":     {"/nap", `"` + strings.Repeat("x", 101) + `"`, []string{"Drover-Task", "a"}, 413},
			"task":      {"/nap", "1", []string{"Drover-Task", "a?b"}, 400},
			"long task": {"/nap", "1", []string{"Drover-Task", strings.Repeat("a", 256)}, 400},
			"no key":    {"/nap", "1", []string{"Drover-Task", "a", "Drover-Callback", "http://n1/drover/agent/callback"}, 400},
			"timeout":   {"/nap", "1", []string{"Drover-Task", "a", "Drover-Timeout", "-5"}, 400},
			"endless":   {"/nap", "1", []string{"Drover-Task", "a", "Drover-Timeout", "9223372036854775807"}, 400},
			"wait":      {"/nap", "1", []string{"Drover-Task", "a", "Drover-Wait", "soon"}, 400},
			"token":     {"/nap", "1", []string{"Drover-Task", "a", "Drover-Token", "1;db.1"}, 400},
			"at once":   {"/nap", "0", nil, 200},
		} {
			if s := l.send("POST", "http://h1"+c.path, c.body, c.header...).StatusCode; s != c.want {
				l.Errorf("%s: %d, want %d", what, s, c.want)
			}
		}
		for _, c := range []struct {
			method, path string
			want         int
		}{{"GET", "/nap", 405}, {"PUT", "/drover/tasks/a", 405}, {"POST", "/drover/echo", 405}, {"GET", "/drover/tasks/a", 404}, {"GET", "/drover/echo", 200}} {
			if s := l.send(c.method, "http://h1"+c.path, "").StatusCode; s != c.want {
				l.Errorf("%s %s: %d, want %d", c.method, c.path, s, c.want)
			}
		}
		for _, cfg := range []agent.ServerConfig{
			{}, {Nodes: []string{"n1"}}, {Nodes: []string{"http://u@n1"}}, {Nodes: []string{"http://n1"}, Workers: -1}, {Nodes: []string{"http://n1"}, Queue: -1},
			{Nodes: []string{"http://n1"}, MaxBody: -1}, {Nodes: []string{"http://n1"}, Stores: []string{"a;b"}},
		} {
			var f *drover.FieldError
			if _, err := agent.NewServer(cfg); !errors.Is(err, drover.ErrConfig) || !errors.As(err, &f) {
				l.Errorf("%+v: %v", cfg, err)
			}
		}
		s, err := agent.NewServer(agent.ServerConfig{Nodes: []string{"http://n1"}, HTTP: l})
		l.ok(err)
		echo(s)
		for _, path := range []string{"/echo", "x", "/drover/x"} {
			func() {
				defer func() {
					if recover() == nil {
						l.Errorf("%s is served", path)
					}
				}()
				agent.Handle(s, path, func(_ context.Context, v int) (int, error) { return v, nil })
			}()
		}
		l.serve("h3", s) // which does not run
		if st := l.send("POST", "http://h3/echo", "1", "Drover-Task", "a").StatusCode; st != 503 {
			l.Errorf("an agent that does not run: %d", st)
		}
	})
}
