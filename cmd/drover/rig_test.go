package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/sqlite"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("XDG_CONFIG_HOME", filepath.Join(os.TempDir(), "drover-none")) // no test reads the user's own
	for _, name := range []string{"DROVER_DB", "DROVER_SERVER", "DROVER_TOKEN"} {
		_ = os.Unsetenv(name)
	}
	os.Exit(fixture.Main(m))
}

// cluster is a database with nodes on it, each on a store of its own as if it were another process.
type cluster struct {
	*testing.T
	dsn  string
	open func() job.DB
}

// inBubble runs f with a migrated SQLite file, in virtual time.
func inBubble(t *testing.T, name string, f func(c *cluster)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { f(onSQLite(t)) })
	})
}

func onSQLite(t *testing.T) *cluster {
	t.Helper()
	path := fixture.SQLiteFile(t)
	c := &cluster{T: t, dsn: "sqlite:" + path}
	c.open = func() job.DB { return sqlite.New(fixture.OpenSQLite(t, path), sqlite.Config{}) }
	if r := c.drover("migrate", "up"); r.code != 0 {
		t.Fatal(r)
	}
	return c
}

// node runs a manager until the test ends.
func (c *cluster) node(name string, register func(*job.Manager)) *job.Manager {
	c.Helper()
	m, err := job.New(job.Config{Env: drover.Env{Node: name, Logger: slog.New(slog.DiscardHandler)}, DB: c.open(), Poll: 200 * time.Millisecond})
	c.must(err)
	register(m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	c.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
	return m
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) submit(m *job.Manager, r job.Request) *job.Job {
	c.Helper()
	j, err := m.Submit(c.Context(), r)
	c.must(err)
	return j
}

// until waits for a state of a job.
func (c *cluster) until(m *job.Manager, id string, s job.State) *job.Job {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	for j, err := range m.Watch(ctx, id) {
		if err != nil {
			c.Fatalf("waiting for %s: %v", s, err)
		}
		if j.State == s {
			return j
		}
	}
	c.Fatalf("job never %s", s)
	return nil
}

// result of one command.
type result struct {
	code     int
	out, err string
}

// drover runs the command on the cluster's database.
func (c *cluster) drover(args ...string) result {
	return invoke(c.Context(), "", append([]string{"-db", c.dsn}, args...)...)
}

func invoke(ctx context.Context, stdin string, args ...string) result {
	var out, err bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &out, &err)
	return result{code, out.String(), err.String()}
}

// is checks the code, and that stderr is empty or contains all of texts.
func (r result) is(t testing.TB, code int, texts ...string) result {
	t.Helper()
	if r.code != code || len(texts) == 0 && r.err != "" {
		t.Fatalf("exit %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.err)
	}
	for _, s := range texts {
		if !strings.Contains(r.err, s) {
			t.Fatalf("stderr has no %q: %s", s, r.err)
		}
	}
	return r
}

// document decodes stdout, which must be one JSON value and nothing else.
func document[V any](t testing.TB, r result) (v V) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(r.out))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q, exit %d, stderr %q", err, r.out, r.code, r.err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one document: %q", r.out)
	}
	return v
}

type jobList struct {
	Items []struct {
		ID, Kind string
		State    job.State
	}
	Next string
}

// kinds of the tests.
func kinds(m *job.Manager) {
	job.Handle(m, "ok", func(context.Context, string) (string, error) { return "done", nil })
	job.Handle(m, "bad", func(context.Context, string) (string, error) { return "", job.Permanent(errors.New("no host\nat all")) })
	job.Handle(m, "hang", func(ctx context.Context, _ string) (string, error) {
		_ = job.Note(ctx, "copying", map[string]int{"gib": 3})
		if err := job.Report(ctx, job.Progress{Percent: 57, Step: "copy", Note: "copying memory"}); err != nil {
			return "", err
		}
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	job.Handle(m, "minute", func(ctx context.Context, _ string) (string, error) {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
		return "done", context.Cause(ctx)
	})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
