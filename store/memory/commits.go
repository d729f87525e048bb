package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/store"
)

// Commits keeps what a conductor has done for hosts.
func (s *Store) Commits() conductor.Store { return commits{s} }

type commits struct{ s *Store }

// kept is a commit record.
type kept struct {
	conductor.Commit
	at time.Time
}

func (k commits) Get(_ context.Context, x store.Tx, id string) (conductor.Commit, error) {
	if _, err := k.s.of(x); err != nil {
		return conductor.Commit{}, err
	}
	if c := k.s.commits[id]; c != nil {
		return c.Commit, nil
	}
	return conductor.Commit{}, fmt.Errorf("memory: commit %s: %w", id, store.ErrNotFound)
}

func (k commits) Put(_ context.Context, x store.Tx, c conductor.Commit) error {
	t, err := k.s.of(x)
	if err != nil {
		return err
	}
	if k.s.commits[c.ID] != nil {
		return fmt.Errorf("memory: commit %s: %w", c.ID, store.ErrConflict)
	}
	c.Result = slices.Clone(c.Result)
	put(t, &k.s.commits, c.ID, &kept{c, t.now})
	return nil
}

func (k commits) Purge(_ context.Context, x store.Tx, age time.Duration, most int) (int, error) {
	t, err := k.s.of(x)
	if err != nil {
		return 0, err
	}
	var old []*kept
	for _, c := range k.s.commits {
		if c.at.Before(t.now.Add(-age)) {
			old = append(old, c)
		}
	}
	slices.SortFunc(old, func(a, b *kept) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.ID, b.ID)) })
	old = old[:min(most, len(old))]
	for _, c := range old {
		put(t, &k.s.commits, c.ID, nil)
	}
	return len(old), nil
}
