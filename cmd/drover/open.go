package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
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

	jobs     *job.Manager // submits, looks and steers; runs nothing
	lines    *syncqueue.Queue
	sessions *lease.Session // lists; never opened
}

// connect opens the database and checks that it has a schema.
func (a *app) connect(ctx context.Context) (*target, error) {
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
	if dsn == "" {
		return nil, usage("no database: give -db sqlite:FILE or postgres://…, or set DROVER_DB")
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
	env := a.environment()
	if t.jobs, err = job.New(job.Config{Env: env, DB: t.store, Queues: map[string]int{}, Poll: poll}); err != nil {
		return err
	}
	if t.lines, err = syncqueue.New(syncqueue.Config{Env: env, Tx: t.store, Store: t.store.Queues()}); err != nil {
		return err
	}
	t.sessions, err = lease.New(lease.Config{Env: env, Tx: t.store, Store: t.store.Leases()})
	return err
}

// database finds what -db, the environment or the configuration file name; "" is none of them.
func (a *app) database() (string, error) {
	dsn := a.dsn
	if dsn == "" {
		dsn = os.Getenv("DROVER_DB")
	}
	if dsn == "" {
		return configured()
	}
	file, ok := strings.CutPrefix(dsn, "@")
	if !ok {
		return dsn, nil
	}
	b, err := os.ReadFile(file) // #nosec G304 G703 -- the user names its own file
	if err != nil {
		return "", usage("-db: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// configured reads ~/.config/drover/config.json, which may hold a password and so is for its owner alone.
func configured() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", nil //nolint:nilerr // no home, no file
		}
		dir = filepath.Join(home, ".config")
	}
	path := filepath.Join(dir, "drover", "config.json")
	info, err := os.Stat(path) // #nosec G703 -- see above
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", usage("%w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", usage("%s has mode %#o: others can read it; run: chmod 600 %s", path, mode, path)
	}
	b, err := os.ReadFile(path) // #nosec G304 G703 -- see above
	if err != nil {
		return "", usage("%w", err)
	}
	var conf struct {
		DB string `json:"db"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&conf); err != nil {
		return "", usage("%s: %s", path, strings.TrimPrefix(fmt.Sprint(err), "json: "))
	}
	return conf.DB, nil
}
