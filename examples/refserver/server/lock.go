package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/drover-cloud/drover"
)

// locks are files that only one server at a time has open.
type locks []*os.File

func (l locks) release() {
	for _, f := range l {
		_ = f.Close() // which lets go of it
	}
}

// take locks the data directory and the SQLite file: there is one server to each.
func (c *Config) take() (l locks, err error) {
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	wanted := []struct{ flag, what, path string }{{"data", c.Data, filepath.Join(c.Data, "lock")}}
	if path := c.sqliteFile(); path != "" {
		wanted = append(wanted, struct{ flag, what, path string }{"db", path, path + ".lock"})
	}
	for _, w := range wanted {
		f, err := os.OpenFile(w.path, os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- the operator names it
		if err != nil {
			return l, &FlagError{w.flag, err}
		}
		l = append(l, f)
		taken, err := lockFile(f)
		switch {
		case err != nil:
			return l, flagError(w.flag, "lock %s: %w", w.path, err)
		case taken:
			return l, flagError(w.flag, "%s is in use by another refserver", w.what)
		}
	}
	return l, nil
}

// sqliteFile is "" for PostgreSQL and for a database in memory.
func (c *Config) sqliteFile() string {
	path, ok := strings.CutPrefix(c.DB, "sqlite:")
	if !ok || path == ":memory:" {
		return ""
	}
	return path
}

// name gives the node a name that it keeps in the data directory, if it has none and the store is its own: a session of that
// name that a killed process left is replaced at once.
func (c *Config) name() error {
	if c.Env.Node != "" || c.postgres() {
		return nil
	}
	path := filepath.Join(c.Data, "node")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte("refserver/" + drover.Env{}.Defaults().NewID())
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		return &FlagError{"data", err}
	}
	c.Env.Node = strings.TrimSpace(string(b))
	return nil
}
