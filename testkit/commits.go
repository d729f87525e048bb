package testkit

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
)

// Commits are what conductors have done for hosts.
func (s *stores) Commits() conductor.Store { return commits{s, s.life.node.w.db.Commits()} }

type commits struct {
	s *stores
	d conductor.Store
}

func (k commits) Get(ctx context.Context, x store.Tx, id string) (conductor.Commit, error) {
	return call(k.s, x, "store.commits.get", id, func(in store.Tx) (conductor.Commit, error) { return k.d.Get(ctx, in, id) }, nil)
}

func (k commits) Put(ctx context.Context, x store.Tx, c conductor.Commit) error {
	_, err := call(k.s, x, "store.commits.put", c.ID, func(in store.Tx) (struct{}, error) { return struct{}{}, k.d.Put(ctx, in, c) }, nil)
	return err
}

func (k commits) Purge(ctx context.Context, x store.Tx, age time.Duration, most int) (int, error) {
	return call(k.s, x, "store.commits.purge", "", func(in store.Tx) (int, error) { return k.d.Purge(ctx, in, age, most) }, nil)
}
