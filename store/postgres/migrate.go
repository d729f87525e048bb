package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrSchema says that the database holds drover's tables in a shape this build must not touch: newer, or altered.
var ErrSchema = errors.New("postgres: schema unusable")

// Migrations are the numbered files that Migrate applies, in order of their names, for hosts with a migrator of their own.
// They name tables without schema: set search_path.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return migrations
	}
	return sub
}

type migration struct {
	version        int
	name, sum, sql string
}

var migrationName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)

// loadMigrations reads the files of fsys, whose names must count from 0001 without a gap.
func loadMigrations(fsys fs.FS) ([]migration, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("postgres: migrations: %w", err)
	}
	var all []migration
	for _, e := range entries {
		m := migrationName.FindStringSubmatch(e.Name())
		if m == nil {
			return nil, fmt.Errorf("postgres: migrations: %.64q does not match %s", e.Name(), migrationName)
		}
		b, err := fs.ReadFile(fsys, e.Name())
		if err != nil {
			return nil, fmt.Errorf("postgres: migrations: %w", err)
		}
		v, _ := strconv.Atoi(m[1])
		if v != len(all)+1 {
			return nil, fmt.Errorf("postgres: migrations: %s is not number %d", e.Name(), len(all)+1)
		}
		sum := sha256.Sum256(b)
		all = append(all, migration{v, e.Name(), hex.EncodeToString(sum[:8]), string(b)})
	}
	return all, nil
}

// Migrate brings the schema to this build's version, each file in a transaction of its own under an advisory lock, so that
// several nodes may start at once. Done before: it checks and changes nothing. ErrSchema: the schema is of a newer build,
// or not as an older one left it; nothing is changed then.
func (s *Store) Migrate(ctx context.Context) error {
	if s.bad != nil {
		return s.bad
	}
	all, err := loadMigrations(Migrations())
	if err != nil {
		return err
	}
	for more := true; more; {
		if more, err = s.migrateOne(ctx, all); err != nil {
			return fmt.Errorf("postgres: migrate: %w", err)
		}
	}
	return nil
}

// migrateOne applies the first file that is missing.
func (s *Store) migrateOne(ctx context.Context, all []migration) (more bool, err error) {
	q, err := s.db.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return false, err
	}
	defer func() { _ = q.Rollback() }()
	h := fnv.New64a()
	_, _ = h.Write([]byte("drover migrate " + s.schema))
	prepare := []string{`SET LOCAL statement_timeout = 0`, `SET LOCAL lock_timeout = 0`, `SELECT pg_advisory_xact_lock(` + strconv.FormatInt(int64(h.Sum64()), 10) + `)`}
	for _, p := range prepare {
		if _, err := q.ExecContext(ctx, p); err != nil {
			return false, err
		}
	}
	done, err := s.applied(ctx, q)
	if err != nil {
		return false, err
	}
	if err := check(done, all); err != nil {
		return false, err
	}
	if len(done) == len(all) {
		return false, s.complete(ctx, q, all)
	}
	m := all[len(done)]
	for _, stmt := range append(s.scaffold(), split(m.sql)...) {
		if _, err := q.ExecContext(ctx, stmt); err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if _, err := q.ExecContext(ctx, `INSERT INTO drover_migration (version, name, sum) VALUES ($1, $2, $3)`, m.version, m.name, m.sum); err != nil {
		return false, err
	}
	return true, q.Commit()
}

// scaffold makes what must be there before the first file.
func (s *Store) scaffold() (stmts []string) {
	if s.schema != "" {
		stmts = append(stmts, `CREATE SCHEMA IF NOT EXISTS "`+s.schema+`"`, `SET LOCAL search_path = "`+s.schema+`"`)
	}
	return append(stmts, `CREATE TABLE IF NOT EXISTS drover_migration (
  version int PRIMARY KEY, name text NOT NULL, sum text NOT NULL, applied timestamptz NOT NULL DEFAULT now())`)
}

func (s *Store) applied(ctx context.Context, q *sql.Tx) (done []migration, err error) {
	var table sql.NullString
	if err := q.QueryRowContext(ctx, `SELECT to_regclass($1)::text`, s.prefix+"migration").Scan(&table); err != nil {
		return nil, err
	}
	if !table.Valid {
		var job sql.NullString
		if err := q.QueryRowContext(ctx, `SELECT to_regclass($1)::text`, s.prefix+"job").Scan(&job); err != nil {
			return nil, err
		}
		if job.Valid {
			return nil, fmt.Errorf("%w: table %s is there, the list of migrations %smigration is not", ErrSchema, job.String, s.prefix)
		}
		return nil, nil
	}
	err = scanAll(ctx, q, s.text(`SELECT version, name, sum FROM @migration ORDER BY version`), func(scan func(...any) error) error {
		var m migration
		err := scan(&m.version, &m.name, &m.sum)
		done = append(done, m)
		return err
	}, nil)
	return done, err
}

// check compares what the database says was applied with what this build has.
func check(done, all []migration) error {
	for i, d := range done {
		switch {
		case i >= len(all):
			return fmt.Errorf("%w: it is at version %d, this build of drover knows %d: use a newer build", ErrSchema, done[len(done)-1].version, len(all))
		case d.version != i+1:
			return fmt.Errorf("%w: migration %d is missing", ErrSchema, i+1)
		case d.sum != all[i].sum:
			return fmt.Errorf("%w: migration %d (%.64s) is not the one this build has", ErrSchema, d.version, d.name)
		}
	}
	return nil
}

var created = regexp.MustCompile(`(?m)^CREATE (?:TABLE|SEQUENCE) drover_(\w+)`)

// complete tells whether every table that the files make is there.
func (s *Store) complete(ctx context.Context, q *sql.Tx, all []migration) error {
	for _, m := range all {
		for _, name := range created.FindAllStringSubmatch(m.sql, -1) {
			var found sql.NullString
			if err := q.QueryRowContext(ctx, `SELECT to_regclass($1)::text`, s.prefix+name[1]).Scan(&found); err != nil {
				return err
			}
			if !found.Valid {
				return fmt.Errorf("%w: %s%s is missing", ErrSchema, s.prefix, name[1])
			}
		}
	}
	return nil
}

// split cuts a file at the semicolons that end a line; drivers prepare one statement at a time.
func split(file string) (stmts []string) {
	for _, p := range strings.Split(file, ";\n") {
		if p = strings.TrimSpace(p); p != "" {
			stmts = append(stmts, p)
		}
	}
	return stmts
}
