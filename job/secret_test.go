package job_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/uptrace/bun"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
)

const canary = "c4n4ry-s3cr3t"

// flip is no cipher, but what it seals cannot be found.
type flip struct{ fail error }

func (f flip) Seal(_ context.Context, plain []byte) ([]byte, error) {
	out := bytes.Clone(plain)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out, f.fail
}

func (f flip) Open(ctx context.Context, sealed []byte) ([]byte, error) { return f.Seal(ctx, sealed) }

// login has secrets at every depth.
type login struct {
	User     string
	Password string `json:"password" secret:""`
	Nested   struct {
		Key *string `drover:"secret"`
	}
	List []token
	Map  map[string]token
	Also
	N int64
}

type (
	token struct {
		Name string
		Raw  json.RawMessage `param:"raw,secret" json:"raw,omitempty"`
	}
	Also struct {
		PIN int `secret:"yes" json:"pin"`
	}
)

func canaries() login {
	key := canary + "-key"
	l := login{User: "eve", Password: canary, N: 1<<60 + 1}
	l.Nested.Key, l.PIN = &key, 424242424
	l.List = []token{{"a", json.RawMessage(`{"x":"` + canary + `"}`)}, {Name: "b"}}
	l.Map = map[string]token{"m": {"c", json.RawMessage(`"` + canary + `"`)}}
	return l
}

// sinkText keeps what a sink is told.
type sinkText struct{ text *buffer }

func (e sinkText) Publish(_ context.Context, _ store.Tx, ev job.Event) error {
	fmt.Fprintf(e.text, "%+v %+v\n", ev, ev.Job())
	return nil
}

func TestSecrets(t *testing.T) {
	t.Run("job-76 memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			db := &memory.Store{}
			secrets(virtual(t, db), func() string { return rowsText(t, db) })
		})
	})
	t.Run("job-76 sqlite", func(t *testing.T) {
		t.Parallel()
		path := fixture.SQLiteFile(t)
		db := sqlite.New(fixture.OpenSQLite(t, path), sqlite.Config{})
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		secrets(&world{T: t, db: db, ttl: 30 * time.Second, poll: time.Second, real: true}, func() string {
			var all []byte
			files, _ := filepath.Glob(path + "*")
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b...)
			}
			return string(all)
		})
	})
	t.Run("job-76 postgres", func(t *testing.T) {
		bdb := fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 5)
		db := postgres.New(bdb, postgres.Config{})
		if err := db.Migrate(context.Background()); err != nil {
			t.Fatal(err)
		}
		secrets(&world{T: t, db: db, ttl: 30 * time.Second, poll: time.Second, real: true}, func() string { return tablesText(t, bdb) })
	})
}

func rowsText(t *testing.T, db *memory.Store) (text string) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		all := []job.State{job.Scheduled, job.Waiting, job.Ready, job.Running, job.Parked, job.Succeeded, job.Failed, job.Cancelled}
		found, err := db.Jobs().List(ctx, tx, job.Find{Query: &job.Query{States: all, Limit: 500}, Steps: true, Journal: true})
		b, _ := json.Marshal(found)
		text = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func tablesText(t *testing.T, db *bun.DB) string {
	t.Helper()
	var tables []string
	if err := db.NewRaw(`SELECT tablename FROM pg_tables WHERE tablename LIKE 'drover%'`).Scan(t.Context(), &tables); err != nil || len(tables) < 10 {
		t.Fatal(tables, err)
	}
	var b strings.Builder
	for _, name := range tables {
		var rows []string
		if err := db.NewRaw(`SELECT t::text FROM `+name+` t`).Scan(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
		b.WriteString(strings.Join(rows, "\n"))
	}
	return b.String()
}

func secrets(w *world, raw func() string) {
	logs, told, tel := &buffer{}, &buffer{}, &telemetry{}
	n := w.idle("a", with(func(c *job.Config) {
		c.Cipher, c.Events = flip{}, sinkText{told}
		c.Env.Logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Env.Tracer, c.Env.Meter = tel, meters{to: tel}
	}))
	got := make(chan login, 10)
	job.Handle(n.Manager, "login", func(ctx context.Context, l login) (string, error) {
		got <- l
		if j, _ := job.FromContext(ctx); j.Runs == 1 {
			return "", errBoom
		}
		return "ok", nil
	}, job.Retry(constant(time.Millisecond), 3))
	whole := make(chan map[string]any, 10)
	job.Handle(n.Manager, "whole", func(_ context.Context, m map[string]any) (string, error) {
		whole <- m
		return "", job.Permanent(errBoom)
	}, job.Sensitive())
	job.Handle(n.Manager, "misfit", func(context.Context, struct{ At time.Time }) (string, error) { return "", nil }, job.Sensitive())
	n.run()
	want := canaries()
	first := w.submit(n, job.Request{Kind: "login", Args: want, Idem: "once"})
	if j := w.wait(n, first); j.State != job.Succeeded || j.Runs != 2 {
		w.Fatalf("%s after %d runs: %v", j.State, j.Runs, j.Error)
	}
	for range 2 {
		if a, b := fmt.Sprintf("%+v", deref(<-got)), fmt.Sprintf("%+v", deref(want)); a != b {
			w.Fatalf("the handler got %s, want %s", a, b)
		}
	}
	if j := w.submit(n, job.Request{Kind: "login", Args: want, Idem: "once"}); !j.Replayed || j.ID != first.ID {
		w.Errorf("not the same request: %+v", j)
	}
	if j := w.submit(n, job.Request{Kind: "login", Args: want, ID: w.submit(n, job.Request{Kind: "login", Args: want, RunAt: time.Now().Add(time.Hour)}).ID}); !j.Replayed {
		w.Error("not the same request by id")
	}
	w.submit(n, job.Request{Kind: "login", Args: json.RawMessage(`{"PASSWORD":"` + canary + `","user":"x"}`), RunAt: time.Now().Add(time.Hour)})
	failed := w.wait(n, w.submit(n, job.Request{Kind: "whole", Args: map[string]any{"any": canary}}))
	if m := <-whole; m["any"] != canary || failed.State != job.Failed || strings.Contains(string(failed.Args), canary) {
		w.Fatalf("%v, %s %s", m, failed.State, failed.Args)
	}
	again, err := n.Retry(w.Context(), failed.ID)
	w.must(err)
	w.wait(n, again)
	if m := <-whole; m["any"] != canary {
		w.Errorf("retried with %v", m)
	}
	bad := w.wait(n, w.submit(n, job.Request{Kind: "misfit", Args: map[string]string{"At": canary}}))
	if bad.State != job.Failed || bad.Error.Code != job.CodeInvalid {
		w.Errorf("%s %+v", bad.State, bad.Error)
	}
	w.must(tel.collect(w.Context()))
	refusedSecrets(w)
	w.must(n.stop())
	for what, text := range map[string]string{"logs": logs.String(), "events": told.String(), "telemetry": tel.text(), "raw rows": raw()} {
		for _, c := range []string{canary, "424242424"} {
			if i := strings.Index(text, c); i >= 0 {
				w.Errorf("%s in the %s: …%q", c, what, text[max(0, i-80):min(len(text), i+80)])
			}
		}
		if len(text) < 200 {
			w.Errorf("%s: %d bytes, nothing was looked at", what, len(text))
		}
	}
	if text := raw(); !strings.Contains(text, "eve") {
		w.Error("what is no secret is not there either")
	}
}

// deref shows what pointers point to.
func deref(l login) any {
	key := *l.Nested.Key
	l.Nested.Key = nil
	return []any{l, key}
}

func refusedSecrets(w *world) {
	bare := w.idle("bare")
	job.Declare[login, string](bare.Manager, "login")
	job.Declare[map[string]any, string](bare.Manager, "whole", job.Sensitive())
	for _, r := range []job.Request{{Kind: "login", Args: canaries()}, {Kind: "whole", Args: map[string]any{"x": canary}}} {
		if _, err := bare.Submit(w.Context(), r); !errors.Is(err, job.ErrInvalid) || strings.Contains(err.Error(), canary) {
			w.Errorf("%s without a Cipher: %v", r.Kind, err)
		}
	}
	broken := w.idle("broken", with(func(c *job.Config) { c.Cipher = flip{fail: errBoom} }))
	job.Declare[login, string](broken.Manager, "login")
	if _, err := broken.Submit(w.Context(), job.Request{Kind: "login", Args: canaries()}); !errors.Is(err, errBoom) {
		w.Errorf("a Cipher that fails: %v", err)
	}
	good := w.idle("good", with(func(c *job.Config) { c.Cipher = flip{} }))
	job.Declare[login, string](good.Manager, "login")
	for _, args := range []string{`"` + canary + `"`, `{"List":"` + canary + `"}`, `{"User":{"$sealed":"AAAA"}}`, `{"User":{"\u0024sealed":"AAAA"}}`} {
		if _, err := good.Submit(w.Context(), job.Request{Kind: "login", Args: json.RawMessage(args)}); !errors.Is(err, job.ErrInvalid) || strings.Contains(err.Error(), canary) {
			w.Errorf("%s: %v", args, err)
		}
	}
}
