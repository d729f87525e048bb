package sqlite

import (
	"context"
	"fmt"
)

// Schema tells at which version the database is, 0 without any, and which one Migrate brings it to; it writes nothing and takes
// no lock. have > want is a database of a newer program. One that was changed by other hands is [ErrSchema].
func (s *Store) Schema(ctx context.Context) (have, want int, err error) {
	if s.bad != nil {
		return 0, 0, s.bad
	}
	ms, err := migrations()
	if err != nil {
		return 0, 0, err
	}
	want = len(ms)
	there := map[string]bool{}
	err = s.read(ctx, tables, func(scan func(...any) error) error {
		var name string
		defer func() { there[name] = true }()
		return scan(&name)
	})
	if err != nil || !there[s.names("drover_migration")] {
		return 0, want, err
	}
	n := 0
	err = s.read(ctx, `SELECT version, name, sum FROM drover_migration ORDER BY version`, func(scan func(...any) error) error {
		var m migration
		if err := scan(&m.version, &m.name, &m.sum); err != nil {
			return err
		}
		if n < want && (m.version != n+1 || m.sum != ms[n].sum) {
			return fmt.Errorf("%w: migration %d (%s) is not this library's %s", ErrSchema, m.version, m.name, ms[n].name)
		}
		n, have = n+1, m.version
		return nil
	})
	if err != nil {
		return 0, want, err
	}
	return have, want, s.complete(ms[:min(n, want)], there)
}

// read calls f for each row, outside of any transaction.
func (s *Store) read(ctx context.Context, query string, f func(scan func(dest ...any) error) error) error {
	rows, err := s.db.DB.QueryContext(ctx, s.names(query))
	if err != nil {
		return fmt.Errorf("sqlite: %w", explain(err))
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
