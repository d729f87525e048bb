package postgres

import (
	"context"

	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/db"
	"github.com/drover-cloud/drover/store"
)

// Members is package servicegroup's db driver on this database; its hints go by this store's Notifier. It keeps one connection
// of the pool while a member has joined through it.
func (s *Store) Members() servicegroup.Driver {
	s.members.Do(func() {
		s.member, s.memberErr = db.New(s.db, db.Config{Env: s.env, Schema: s.schema, Notify: s.hints,
			Hint: func(ctx context.Context, topic string) error {
				return s.InTx(ctx, func(_ context.Context, tx store.Tx) error { tx.Hint(topic); return nil })
			}})
	})
	if s.memberErr != nil {
		return nil // which servicegroup.New refuses; Migrate tells why
	}
	return s.member
}
