package main

import (
	"context"
	"database/sql"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/postgres"
	"github.com/drover-cloud/drover/store/sqlite"
	"github.com/drover-cloud/drover/syncqueue"
)

const (
	dialTimeout = 4 * time.Second
	poll        = 500 * time.Millisecond
)

// backend is what both stores offer.
type backend interface {
	job.DB
	Queues() syncqueue.Store
	Migrate(ctx context.Context) error
	Schema(ctx context.Context) (have, want int, err error)
	AfterFailover(ctx context.Context) error
}

// target is the database that a command works on.
type target struct {
	db    *bun.DB
	store backend
	kind  string // sqlite, postgres
	at    string // for people: a file or a host, without secrets
	files fs.FS  // its migrations
	source
	local *direct // the source of a database; nil of a server
}

// connect is the server, if one is named, else the database.
func (a *app) connect(ctx context.Context) (*target, error) {
	r, err := a.server()
	switch {
	case err != nil:
		return nil, err
	case r != nil:
		return &target{source: r, kind: "server", at: r.base.Host}, nil
	}
	return a.connectDB(ctx)
}

// databaseOnly is the database, for what no API offers.
func (a *app) databaseOnly(ctx context.Context, what, hint string) (*target, error) {
	r, err := a.server()
	switch {
	case err != nil:
		return nil, err
	case r != nil:
		return nil, usage("%s: works on the database only: give -db%s", what, hint)
	}
	return a.connectDB(ctx)
}

// serverOnly is the server's API, for what a database cannot answer.
func (a *app) serverOnly(what string) (*remote, error) {
	r, err := a.server()
	if err == nil && r == nil {
		err = usage("%s: only a live process can tell: give -server URL, or set DROVER_SERVER", what)
	}
	return r, err
}

// connectDB opens the database and checks that it has a schema.
func (a *app) connectDB(ctx context.Context) (*target, error) {
	t, err := a.reach(ctx, false)
	if err != nil {
		return nil, err
	}
	have, want, err := t.store.Schema(ctx)
	switch {
	case err != nil:
		return nil, err
	case have == 0:
		return nil, failure(unreachable, "%s has no schema of drover; run: drover migrate up", t.at)
	case have < want:
		a.note("warning: %s is at schema %d, this program knows %d; run: drover migrate up", t.at, have, want)
	case have > want:
		a.note("warning: %s is at schema %d, this program knows only %d; use a newer one", t.at, have, want)
	}
	return t, t.components(a)
}

// reach opens the database, whatever is in it; create allows a new file.
func (a *app) reach(ctx context.Context, create bool) (*target, error) {
	dsn, err := a.database()
	if err != nil {
		return nil, err
	}
	if dsn == "" && a.address != "" {
		return nil, usage("a server's schema is seen and changed on its database: give -db")
	}
	if dsn == "" {
		return nil, usage("no cluster is named: give -server URL, or -db sqlite:FILE or postgres://…, or set DROVER_SERVER or DROVER_DB")
	}
	t, err := open(dsn, a.environment(), create)
	if err != nil {
		return nil, err
	}
	a.target = t
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := t.db.PingContext(dial); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, failure(unreachable, "%s: %w", t.at, err)
	}
	return t, nil
}

// environment names this process by who runs it: that is what a cancelled job says it was cancelled by.
func (a *app) environment() drover.Env {
	env := a.env
	name := "drover"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name += "/" + u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	env.Node = strings.ToValidUTF8(name[:min(len(name), 128)], "")
	env.Logger = slog.New(slog.DiscardHandler)
	if !a.quiet {
		env.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	return env
}

// open is the store that dsn names. Nothing is connected yet. No error shows dsn, which may have a password.
func open(dsn string, env drover.Env, create bool) (*target, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(rest, env, create)
	case "postgres", "postgresql":
		return openPostgres(dsn, env)
	}
	return nil, usage("the database must begin with sqlite: or postgres://")
}

func openSQLite(rest string, env drover.Env, create bool) (*target, error) {
	path, query, _ := strings.Cut(rest, "?")
	opts, err := url.ParseQuery(query)
	if err != nil || opts.Has("prefix") != (len(opts) == 1) || query == "" && strings.Contains(rest, "?") {
		return nil, usage("sqlite:%s: after ? only prefix=… is known", path)
	}
	if _, err := os.Stat(path); !create && err != nil {
		return nil, failure(unreachable, "%w", err)
	}
	name, err := sqlite.DSN(path)
	if err != nil {
		return nil, err
	}
	sqldb, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	db := bun.NewDB(sqldb, sqlitedialect.New())
	st := sqlite.New(db, sqlite.Config{Env: env, Prefix: opts.Get("prefix")})
	return &target{db: db, store: st, kind: "sqlite", at: path, files: sqlite.Migrations()}, nil
}

func openPostgres(dsn string, env drover.Env) (*target, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, usage("the database is no URL of the form postgres://user:password@host:port/name")
	}
	db, err := postgres.Open(dsn, 4)
	if err != nil {
		return nil, usage("%w", err)
	}
	at := u.Host
	if u.Port() == "" {
		at = net.JoinHostPort(u.Hostname(), "5432")
	}
	return &target{db: db, store: postgres.New(db, postgres.Config{Env: env}), kind: "postgres", at: at + u.Path, files: postgres.Migrations()}, nil
}

// components makes the faces that commands call; none of them runs.
func (t *target) components(a *app) (err error) {
	d := &direct{env: a.environment(), settings: t.settings}
	if d.jobs, err = job.New(job.Config{Env: d.env, DB: t.store, Queues: map[string]int{}, Poll: poll}); err != nil {
		return err
	}
	if d.queue, err = syncqueue.New(syncqueue.Config{Env: d.env, Tx: t.store, Store: t.store.Queues()}); err != nil {
		return err
	}
	d.sessions, err = lease.New(lease.Config{Env: d.env, Tx: t.store, Store: t.store.Leases()})
	t.source, t.local = d, d
	return err
}
