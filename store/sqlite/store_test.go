package sqlite_test

import (
	"context"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/testkit"
	"github.com/drover-cloud/drover/testkit/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) testkit.Stores {
		c := &clock{now: time.Unix(1_800_000_000, 0)}
		return &advancing{Store: fixture.SQLite(t, drover.Env{Clock: c}), clock: c}
	})
}

type advancing struct {
	*sqlite.Store
	*clock
}

// Conflict is what another writer's lock would make of a statement.
func (*advancing) Conflict(context.Context, store.Tx) error { return coded(5 | 2<<8) }
