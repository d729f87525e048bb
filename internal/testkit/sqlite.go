package testkit

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store/sqlite"
)

// SQLiteFile is the path of a fresh database file; nothing is in it yet.
func SQLiteFile(t testing.TB) string { return filepath.Join(t.TempDir(), "drover.db") }

// OpenSQLite opens path, or ":memory:", as the package doc of store/sqlite recommends, without waiting for the disk.
// It is closed when the test ends; a bubble must close it itself, before it ends.
func OpenSQLite(t testing.TB, path string) *bun.DB {
	t.Helper()
	dsn, err := sqlite.DSN(path)
	if err != nil {
		t.Fatal(err)
	}
	sqldb, err := sql.Open("sqlite", dsn+"&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	if path == ":memory:" {
		sqldb.SetMaxOpenConns(1)
	}
	db := bun.NewDB(sqldb, sqlitedialect.New())
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// SQLite is a migrated store in a file of its own.
func SQLite(t testing.TB, env drover.Env) *sqlite.Store {
	t.Helper()
	s := sqlite.New(OpenSQLite(t, SQLiteFile(t)), sqlite.Config{Env: env})
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}
