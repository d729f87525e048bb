package sqlite

import (
	"context"

	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/db"
	"github.com/drover-cloud/drover/store"
)

// Members is package servicegroup's db driver on this database; its hints reach this process.
func (s *Store) Members() servicegroup.Driver {
	s.members.Do(func() {
		s.member, s.memberErr = db.New(s.db, db.Config{Env: s.env, Prefix: s.pre, Notify: &s.hints,
			Hint: func(ctx context.Context, topic string) error {
				return s.InTx(ctx, func(_ context.Context, tx store.Tx) error { tx.Hint(topic); return nil })
			}})
	})
	if s.memberErr != nil {
		return nil // which servicegroup.New refuses; Migrate tells why
	}
	return s.member
}
