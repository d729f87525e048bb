package postgres

import (
	"context"
	"database/sql"
	"fmt"
)

// Schema tells at which version the database is, 0 without any, and which one Migrate brings it to; it writes nothing and takes
// no lock. have > want is a database of a newer build. One that was changed by other hands is [ErrSchema].
func (s *Store) Schema(ctx context.Context) (have, want int, err error) {
	if s.bad != nil {
		return 0, 0, s.bad
	}
	all, err := loadMigrations(Migrations())
	if err != nil {
		return 0, 0, err
	}
	q, err := s.db.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted, ReadOnly: true})
	if err != nil {
		return 0, len(all), fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = q.Rollback() }()
	done, err := s.applied(ctx, q)
	if err != nil {
		return 0, len(all), fmt.Errorf("postgres: %w", err)
	}
	if err := check(done[:min(len(done), len(all))], all); err != nil {
		return 0, len(all), err
	}
	if len(done) > 0 {
		have = done[len(done)-1].version
	}
	if err := s.complete(ctx, q, all[:min(len(done), len(all))]); err != nil {
		return have, len(all), fmt.Errorf("postgres: %w", err)
	}
	return have, len(all), nil
}
