package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store/postgres"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	t.Run("several nodes at once", func(t *testing.T) {
		dsn := fixture.Postgres(t).Database(t)
		var wg sync.WaitGroup
		for n := range 6 {
			wg.Go(func() {
				s := postgres.New(fixture.OpenPostgres(t, dsn, 2), postgres.Config{Schema: fmt.Sprint("s", n%2)})
				for range 2 {
					if err := s.Migrate(context.Background()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
	for name, c := range map[string]struct{ spoil, want string }{
		"newer":          {`INSERT INTO drover_migration (version, name, sum) SELECT max(version) + 1, 'x', 'x' FROM drover_migration`, "use a newer build"},
		"altered":        {`UPDATE drover_migration SET sum = 'x' WHERE version = 1`, "is not the one this build has"},
		"gap":            {`UPDATE drover_migration SET version = 77 WHERE version = 1`, "migration 1 is missing"},
		"missing table":  {`DROP TABLE drover_done`, "drover_done is missing"},
		"foreign tables": {`DROP TABLE drover_migration`, "drover_migration is not"},
	} {
		t.Run(name, func(t *testing.T) {
			db := fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 2)
			s := migrated(t, db, postgres.Config{})
			if _, err := db.Exec(c.spoil); err != nil {
				t.Fatal(err)
			}
			err := s.Migrate(t.Context())
			if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		db, err := postgres.Open("postgres://u:secret@127.0.0.1:1/none?connect_timeout=1", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		if err := postgres.New(db, postgres.Config{}).Migrate(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("by the host's own migrator", func(t *testing.T) {
		db := fixture.OpenPostgres(t, fixture.Postgres(t).Database(t), 1)
		files, err := fs.Glob(postgres.Migrations(), "*.sql")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			b, err := fs.ReadFile(postgres.Migrations(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range strings.Split(string(b), ";\n") {
				if strings.TrimSpace(q) == "" {
					continue
				}
				if _, err := db.DB.Exec(q); err != nil {
					t.Fatalf("%s: %v", f, err)
				}
			}
		}
		if err := postgres.New(db, postgres.Config{Env: drover.Env{}}).AfterFailover(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
