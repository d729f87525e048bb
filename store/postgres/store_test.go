package postgres_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/uptrace/bun"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/testkit"
	"github.com/drover-cloud/drover/testkit/storetest"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

func TestStore(t *testing.T) {
	t.Parallel()
	dsn, n, rec := fixture.Postgres(t).Database(t), 0, &recorder{args: map[string][]any{}}
	storetest.Run(t, func(t testing.TB) testkit.Stores {
		n++
		return conflicting{migrated(t, rec.open(t, dsn, 12), postgres.Config{Schema: fmt.Sprint("s", n)})}
	})
	t.Run("plans", rec.plans)
}

func migrated(t testing.TB, db *bun.DB, cfg postgres.Config) *postgres.Store {
	t.Helper()
	s := postgres.New(db, cfg)
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// conflicting can make a transaction fail as the server does when two cross.
type conflicting struct{ *postgres.Store }

func (c conflicting) Conflict(ctx context.Context, tx store.Tx) error {
	return fmt.Errorf("told to: %w", postgres.ErrConflicting(ctx, tx))
}
