package sqlite

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/store"
)

// ErrSchema says that the database's schema is not one this program can work with.
var ErrSchema = errors.New("sqlite: schema")

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations are the numbered SQL files that Migrate applies, for hosts that have a migrator of their own: each in a
// transaction, in order of name. Such a host does not call Migrate.
func Migrations() fs.FS {
	sub, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return embedded // the directory is embedded above
	}
	return sub
}

// migration is a file: 0001_foundation.sql.
type migration struct {
	version        int
	name, sql, sum string
}

func migrations() ([]migration, error) {
	names, err := fs.Glob(Migrations(), "*.sql")
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	var ms []migration
	for _, name := range names { // sorted
		b, err := fs.ReadFile(Migrations(), name)
		if err != nil {
			return nil, fmt.Errorf("sqlite: %w", err)
		}
		num, _, _ := strings.Cut(name, "_")
		v, err := strconv.Atoi(num)
		if err != nil || v != len(ms)+1 {
			return nil, fmt.Errorf("%w: %s: migrations are numbered from 0001 without a gap", ErrSchema, name)
		}
		sum := sha256.Sum256(b)
		ms = append(ms, migration{v, name, string(b), hex.EncodeToString(sum[:8])})
	}
	return ms, nil
}

// Migrate brings the schema to what this program needs, in one transaction; it does nothing to one that is there already.
// Several processes may call it at once: one applies, the others wait. A schema of a newer program, or one that was changed
// by other hands, is [ErrSchema] and left alone.
func (s *Store) Migrate(ctx context.Context) error {
	ms, err := migrations()
	if err != nil {
		return err
	}
	return s.InTx(ctx, func(ctx context.Context, x store.Tx) error {
		t, err := s.of(x)
		if err != nil {
			return err
		}
		applied, err := t.applied(ctx, ms)
		if err != nil {
			return err
		}
		for _, m := range ms[applied:] {
			if err := t.apply(ctx, m); err != nil {
				return err
			}
		}
		if applied == 0 {
			_, err = t.exec(ctx, `UPDATE drover_meta SET id = ?`, s.env.NewID())
		}
		return err
	})
}

// applied says how many migrations the database has, and refuses one that differs.
func (t *tx) applied(ctx context.Context, ms []migration) (n int, err error) {
	if _, err := t.exec(ctx, `CREATE TABLE IF NOT EXISTS drover_migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL,
		sum TEXT NOT NULL, at INTEGER NOT NULL)`); err != nil {
		return 0, err
	}
	err = t.each(ctx, `SELECT version, name, sum FROM drover_migration ORDER BY version`, nil, func(scan func(...any) error) error {
		var m migration
		if err := scan(&m.version, &m.name, &m.sum); err != nil {
			return err
		}
		switch {
		case m.version > len(ms):
			return fmt.Errorf("%w: the database is at version %d or later, this program knows %d: start a newer program", ErrSchema, m.version, len(ms))
		case m.version != n+1:
			return fmt.Errorf("%w: migration %d is missing: restore the database from a backup", ErrSchema, n+1)
		case m.sum != ms[n].sum:
			return fmt.Errorf("%w: migration %s was applied as another text (%s %s): not a schema of this library", ErrSchema, ms[n].name, m.name, m.sum)
		}
		n++
		return nil
	})
	if err != nil {
		return n, err
	}
	there := map[string]bool{}
	err = t.each(ctx, tables, nil, func(scan func(...any) error) error {
		var name string
		defer func() { there[name] = true }()
		return scan(&name)
	})
	if err != nil {
		return n, err
	}
	return n, t.s.complete(ms[:n], there)
}

const tables = `SELECT name FROM sqlite_master WHERE type = 'table'`

var created = regexp.MustCompile(`(?m)^CREATE TABLE (drover_\w+)`)

// complete tells whether every table that the files make is there.
func (s *Store) complete(ms []migration, there map[string]bool) error {
	for _, m := range ms {
		for _, c := range created.FindAllStringSubmatch(m.sql, -1) {
			if name := s.names(c[1]); !there[name] {
				return fmt.Errorf("%w: table %s is missing: restore the database from a backup", ErrSchema, name)
			}
		}
	}
	return nil
}

func (t *tx) apply(ctx context.Context, m migration) error {
	for _, q := range statements(m.sql) {
		if _, err := t.exec(ctx, q); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSchema, m.name, err)
		}
	}
	_, err := t.exec(ctx, `INSERT INTO drover_migration (version, name, sum, at) VALUES (?, ?, ?, ?)`, m.version, m.name, m.sum, t.now.UnixMicro())
	return err
}

// statements splits a file at the semicolons that end a line.
func statements(file string) (qs []string) {
	for q := range strings.SplitSeq(file, ";\n") {
		if strings.TrimSpace(q) != "" {
			qs = append(qs, q)
		}
	}
	return qs
}
