package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
)

// server makes empty databases of one kind.
type server struct {
	files   fs.FS
	journal string // makes the table of migrations
	fresh   func(t *testing.T) (dsn string, db *bun.DB)
}

func servers(t *testing.T, f func(t *testing.T, s server)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, server{
			sqlite.Migrations(), `CREATE TABLE drover_migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL, sum TEXT NOT NULL, at INTEGER NOT NULL DEFAULT 0)`,
			func(t *testing.T) (string, *bun.DB) {
				path := fixture.SQLiteFile(t)
				return "sqlite:" + path, fixture.OpenSQLite(t, path)
			},
		})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, server{
			postgres.Migrations(), `CREATE TABLE drover_migration (version int PRIMARY KEY, name text NOT NULL, sum text NOT NULL, applied timestamptz NOT NULL DEFAULT now())`,
			func(t *testing.T) (string, *bun.DB) {
				dsn := fixture.Postgres(t).Database(t)
				return dsn, fixture.OpenPostgres(t, dsn, 2)
			},
		})
	})
}

// older brings an empty database to version v, as a program of that version did.
func (s server) older(t *testing.T, db *bun.DB, names []string) {
	t.Helper()
	do := func(q string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), q, args...); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) > 0 {
		do(s.journal)
	}
	for i, name := range names {
		b, err := fs.ReadFile(s.files, name)
		if err != nil {
			t.Fatal(err)
		}
		for q := range strings.SplitSeq(string(b), ";\n") {
			if strings.TrimSpace(q) != "" {
				if _, err := db.DB.ExecContext(t.Context(), q); err != nil { // past bun, which reads question marks
					t.Fatal(err)
				}
			}
		}
		sum := sha256.Sum256(b)
		do(`INSERT INTO drover_migration (version, name, sum) VALUES (?, ?, ?)`, i+1, name, hex.EncodeToString(sum[:8]))
	}
}

func TestMigrate(t *testing.T) {
	servers(t, func(t *testing.T, s server) {
		names, err := fs.Glob(s.files, "*.sql")
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		known := len(names)
		for v := range known + 1 {
			t.Run("cli-01 migrate up from version "+itoa(v), func(t *testing.T) {
				dsn, db := s.fresh(t)
				s.older(t, db, names[:v])
				before := document[schemaObject](t, invoke(t.Context(), "", "migrate", "status", "-o", "json", "-db", dsn).is(t, 0))
				if before.Version != v || before.Known != known || len(before.Pending) != known-v {
					t.Errorf("before: %+v", before)
				}
				if v < known {
					invoke(t.Context(), "", "migrate", "status", "-check", "-db", dsn).is(t, badEnd, "behind by "+itoa(known-v))
				}
				after := document[schemaObject](t, invoke(t.Context(), "", "migrate", "up", "-o", "json", "-db", dsn).is(t, 0))
				if after.Version != known || len(after.Pending) != 0 {
					t.Errorf("after: %+v", after)
				}
				invoke(t.Context(), "", "migrate", "status", "-check", "-db", dsn).is(t, 0)
				invoke(t.Context(), "", "jobs", "list", "-o", "id", "-db", dsn).is(t, 0)
			})
		}
		t.Run("cli-01 five at once", func(t *testing.T) {
			dsn, db := s.fresh(t)
			results := make(chan result)
			for range 5 {
				go func() { results <- invoke(context.Background(), "", "migrate", "up", "-db", dsn) }()
			}
			for range 5 {
				(<-results).is(t, 0)
			}
			var n int
			if err := db.NewRaw(`SELECT count(*) FROM drover_migration`).Scan(t.Context(), &n); err != nil || n != known {
				t.Errorf("%d applied, %v", n, err)
			}
		})
		t.Run("cli-01 a later, an altered and a missing schema", func(t *testing.T) {
			dsn, db := s.fresh(t)
			invoke(t.Context(), "", "jobs", "list", "-db", dsn).is(t, unreachable, "migrate up")
			invoke(t.Context(), "", "migrate", "up", "-db", dsn).is(t, 0)
			exec := func(q string) {
				t.Helper()
				if _, err := db.ExecContext(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			}
			later := itoa(known + 1)
			if strings.HasPrefix(dsn, "sqlite") {
				exec(`INSERT INTO drover_migration (version, name, sum, at) VALUES (` + later + `, 'later', 'x', 0)`)
			} else {
				exec(`INSERT INTO drover_migration (version, name, sum) VALUES (` + later + `, 'later', 'x')`)
			}
			invoke(t.Context(), "", "jobs", "list", "-o", "json", "-db", dsn).is(t, 0, "warning", "schema "+later)
			invoke(t.Context(), "", "migrate", "up", "-db", dsn).is(t, refused, "newer")
			exec(`UPDATE drover_migration SET sum = 'x' WHERE version = 1`)
			invoke(t.Context(), "", "jobs", "list", "-db", dsn).is(t, refused, "0001_foundation.sql")
		})
		t.Run("after a failover every session is over", func(t *testing.T) {
			dsn, db := s.fresh(t)
			invoke(t.Context(), "", "migrate", "up", "-db", dsn).is(t, 0)
			st := storeOf(db, dsn)
			var old, fresh lease.Token
			session := func(tok *lease.Token) error {
				return st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
					*tok, err = st.Leases().Open(ctx, tx, lease.Info{Name: "n1", State: lease.Active}, "p", lease.Keep)
					return err
				})
			}
			if err := session(&old); err != nil {
				t.Fatal(err)
			}
			rows := invoke(t.Context(), "", "nodes", "-db", dsn).is(t, 0)
			if !strings.Contains(rows.out, "n1") {
				t.Error(rows.out)
			}
			invoke(t.Context(), "", "migrate", "-after-failover", "-db", dsn).is(t, 0, "all sessions are ended")
			if err := session(&fresh); err != nil || !old.Less(fresh) || old.Store == fresh.Store {
				t.Errorf("%v, then %v, %v", old, fresh, err)
			}
		})
	})
}

func storeOf(db *bun.DB, dsn string) job.DB {
	if strings.HasPrefix(dsn, "sqlite") {
		return sqlite.New(db, sqlite.Config{})
	}
	return postgres.New(db, postgres.Config{})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	dsn := fixture.Postgres(t).Database(t)
	c := &cluster{T: t, dsn: dsn, open: func() job.DB { return fixture.PostgresStore(t, dsn, drover.Env{}) }}
	c.drover("migrate", "up").is(t, 0)
	n := c.node("n1", kinds)
	t.Run("cli-05 cancel, wait and retry on PostgreSQL", func(t *testing.T) {
		run, done, bad := c.submit(n, job.Request{Kind: "hang"}), c.submit(n, job.Request{Kind: "ok"}), c.submit(n, job.Request{Kind: "bad"})
		c.until(n, run.ID, job.Running)
		for line := range strings.Lines(c.drover("jobs", "show", "-journal", tail8(run.ID)).is(t, 0).out) {
			t.Log(strings.TrimSpace(line))
		}
		c.drover("jobs", "wait", "-q", done.ID).is(t, 0)
		c.drover("jobs", "wait", "-q", bad.ID).is(t, badEnd, "no host")
		c.drover("jobs", "cancel", "-q", "-wait", run.ID).is(t, 0)
		c.drover("jobs", "cancel", run.ID).is(t, refused, "final")
		c.drover("jobs", "retry", "-q", "-wait", bad.ID).is(t, badEnd, "no host")
		c.drover("queues", "limit", "vm", "2").is(t, 0)
		c.drover("queues", "list", "-o", "json").is(t, 0)
		if r := c.drover("nodes", "-o", "id").is(t, 0); r.out != "n1\n" {
			t.Errorf("nodes: %q", r.out)
		}
	})
	t.Run("cli-12 a schema by search_path", func(t *testing.T) {
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		invoke(t.Context(), "", "jobs", "list", "-db", dsn+sep+"search_path=elsewhere").is(t, unreachable, "migrate up")
	})
}
