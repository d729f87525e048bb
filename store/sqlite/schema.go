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
	var there int
	row := s.db.DB.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?`, s.names("drover_migration"))
	if err := row.Scan(&there); err != nil {
		return 0, want, fmt.Errorf("sqlite: %w", explain(err))
	}
	if there == 0 {
		return 0, want, nil
	}
	rows, err := s.db.DB.QueryContext(ctx, s.names(`SELECT version, name, sum FROM drover_migration ORDER BY version`))
	if err != nil {
		return 0, want, fmt.Errorf("sqlite: %w", explain(err))
	}
	defer func() { _ = rows.Close() }()
	for n := 1; rows.Next(); n++ {
		var m migration
		if err := rows.Scan(&m.version, &m.name, &m.sum); err != nil {
			return 0, want, fmt.Errorf("sqlite: %w", err)
		}
		if n <= want && (m.version != n || m.sum != ms[n-1].sum) {
			return 0, want, fmt.Errorf("%w: migration %d (%s) is not this library's %s", ErrSchema, m.version, m.name, ms[n-1].name)
		}
		have = m.version
	}
	return have, want, rows.Err()
}
