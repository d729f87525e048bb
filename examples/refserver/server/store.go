package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
)

const reachable = 15 * time.Second

// openDB connects to the store; one that cannot be reached in 15 s is an error of -db.
func (c *Config) openDB(ctx context.Context) (cloud.DB, *bun.DB, error) {
	var db cloud.DB
	var b *bun.DB
	var err error
	if c.postgres() {
		db, b, err = c.openPostgres()
	} else {
		db, b, err = c.openSQLite()
	}
	if err != nil {
		return nil, nil, &FlagError{"db", err}
	}
	ctx, cancel := context.WithTimeout(ctx, reachable)
	defer cancel()
	if err := b.PingContext(ctx); err != nil {
		return nil, nil, &FlagError{"db", fmt.Errorf("not reachable: %w", errors.Join(err, b.Close()))}
	}
	return db, b, nil
}

const connections = 20 // of one node to its database

func (c *Config) openPostgres() (cloud.DB, *bun.DB, error) {
	b, err := postgres.Open(c.DB, connections)
	if err != nil {
		return nil, nil, err
	}
	return postgres.New(b, postgres.Config{Env: c.Env}), b, nil
}

func (c *Config) openSQLite() (cloud.DB, *bun.DB, error) {
	path := strings.TrimPrefix(c.DB, "sqlite:")
	dsn, err := sqlite.DSN(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, nil, err
	}
	s.SetMaxOpenConns(connections)
	s.SetMaxIdleConns(connections) // opening one costs as much as many queries
	if path == ":memory:" {
		s.SetMaxOpenConns(1) // the database lives in the connection
	}
	b := bun.NewDB(s, sqlitedialect.New())
	return sqlite.New(b, sqlite.Config{Env: c.Env}), b, nil
}
