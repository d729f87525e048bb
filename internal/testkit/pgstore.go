package testkit

import (
	"context"
	"testing"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store/postgres"
)

// OpenPostgres opens dsn as the package doc of store/postgres recommends, with a pool of conns. It is closed when the test
// ends.
func OpenPostgres(t testing.TB, dsn string, conns int) *bun.DB {
	t.Helper()
	db, err := postgres.Open(dsn, conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// PostgresStore is a migrated store in a fresh database of the shared server. Several stores on one dsn are several nodes.
func PostgresStore(t testing.TB, dsn string, env drover.Env) *postgres.Store {
	t.Helper()
	s := postgres.New(OpenPostgres(t, dsn, 12), postgres.Config{Env: env})
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}
