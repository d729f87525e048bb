package sqlite_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	t.Run("several at once, then again", func(t *testing.T) {
		path := fixture.SQLiteFile(t)
		errs := make(chan error)
		for range 8 {
			db := fixture.OpenSQLite(t, path)
			go func() { errs <- sqlite.New(db, sqlite.Config{}).Migrate(context.Background()) }()
		}
		for range 8 {
			do(t, <-errs)
		}
		db, s := opened(t, path, sqlite.Config{})
		var n int
		do(t, db.NewRaw(`SELECT count(*) FROM drover_migration`).Scan(t.Context(), &n))
		names, err := fs.Glob(sqlite.Migrations(), "*.sql")
		do(t, err)
		if n != len(names) {
			t.Errorf("%d applied of %d", n, len(names))
		}
		in(t, s, insert(s, "a"))
	})
	for name, c := range map[string]struct{ change, want string }{
		"newer":   {`INSERT INTO drover_migration VALUES (99, '0099_later.sql', 'x', 0)`, "start a newer program"},
		"changed": {`UPDATE drover_migration SET sum = 'x' WHERE version = 1`, "another text"},
		"gap":     {`DELETE FROM drover_migration; INSERT INTO drover_migration VALUES (1000000, 'x', 'x', 0)`, "newer program"},
		"missing": {`DROP TABLE drover_session`, "table drover_session is missing"},
		"foreign": {`DROP TABLE drover_migration`, "already exists"},
	} {
		t.Run(name+" schema is refused and left alone", func(t *testing.T) {
			path := fixture.SQLiteFile(t)
			db, _ := opened(t, path, sqlite.Config{})
			_, err := db.Exec(c.change)
			do(t, err)
			err = sqlite.New(db, sqlite.Config{}).Migrate(t.Context())
			if !errors.Is(err, sqlite.ErrSchema) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if _, _, err := sqlite.New(db, sqlite.Config{}).Schema(t.Context()); name == "missing" && (!errors.Is(err, sqlite.ErrSchema) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Schema: %v", err)
			}
		})
	}
	t.Run("no database", func(t *testing.T) {
		path := fixture.SQLiteFile(t)
		do(t, os.WriteFile(path, []byte(strings.Repeat("This is a text. ", 500)), 0o600))
		err := sqlite.New(fixture.OpenSQLite(t, path), sqlite.Config{}).Migrate(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no SQLite database") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		path := fixture.SQLiteFile(t)
		db, _ := opened(t, path, sqlite.Config{})
		do(t, db.Close())
		b, err := os.ReadFile(path)
		do(t, err)
		for i := 100; i < len(b); i++ {
			b[i] = 0xff
		}
		do(t, os.WriteFile(path, b, 0o600))
		err = sqlite.New(fixture.OpenSQLite(t, path), sqlite.Config{}).Migrate(t.Context())
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not called", func(t *testing.T) {
		s := sqlite.New(fixture.OpenSQLite(t, fixture.SQLiteFile(t)), sqlite.Config{})
		if err := s.InTx(t.Context(), insert(s, "a")); err == nil || !strings.Contains(err.Error(), "call Migrate") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	db, a := opened(t, fixture.SQLiteFile(t), sqlite.Config{Prefix: "one_"})
	b := sqlite.New(db, sqlite.Config{Prefix: "two_"})
	do(t, b.Migrate(t.Context()))
	in(t, a, insert(a, "x"))
	if n, m := count(t, a), count(t, b); n != 1 || m != 0 {
		t.Errorf("%d and %d jobs", n, m)
	}
	session(t, b, "n")
	in(t, a, func(ctx context.Context, tx store.Tx) error {
		is, err := a.Leases().List(ctx, tx)
		if len(is) != 0 {
			t.Errorf("sessions of the other store: %v", is)
		}
		return err
	})
	for _, bad := range []string{"1", "a-b", "A", strings.Repeat("x", 33), `x"; DROP TABLE drover_job; --`} {
		if err := sqlite.New(db, sqlite.Config{Prefix: bad}).Migrate(t.Context()); !errors.Is(err, sqlite.ErrConfig) || !errors.Is(err, drover.ErrConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := sqlite.New(nil, sqlite.Config{}).Migrate(t.Context()); !errors.Is(err, sqlite.ErrConfig) {
		t.Errorf("nil database: %v", err)
	}
}
