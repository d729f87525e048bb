package sqlite_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/testkit"
	"github.com/drover-cloud/drover/testkit/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	rec := &recorder{Driver: fixture.OpenSQLite(t, ":memory:").Driver()}
	sql.Register("recorder", rec)
	storetest.Run(t, func(t testing.TB) testkit.Stores {
		c := &clock{now: time.Unix(1_800_000_000, 0)}
		return &advancing{Store: rec.store(t, c), clock: c}
	})
	t.Run("plans", rec.plans)
}

type advancing struct {
	*sqlite.Store
	*clock
}

// Conflict is what another writer's lock would make of a statement.
func (*advancing) Conflict(context.Context, store.Tx) error { return coded(5 | 2<<8) }
