package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/store"
)

// Agents keeps calls of agents that are outstanding.
func (s *Store) Agents() agent.Store { return agents{s} }

type agents struct{ s *Store }

func (k agents) Add(_ context.Context, x store.Tx, r agent.Row) (agent.Row, error) {
	t, err := k.s.of(x)
	if err != nil {
		return r, err
	}
	if old := k.s.agents[r.Task]; old != nil && old.Done {
		return copyOf(old), nil
	}
	r.Done, r.Reply = false, nil
	put(t, &k.s.agents, r.Task, &r)
	return r, nil
}

func (k agents) Done(_ context.Context, x store.Tx, task string, reply []byte) (bool, error) {
	t, err := k.s.of(x)
	if err != nil {
		return false, err
	}
	old := k.s.agents[task]
	switch {
	case old == nil:
		return false, fmt.Errorf("memory: task %s: %w", task, store.ErrNotFound)
	case old.Done:
		return false, nil
	}
	r := *old
	r.Done, r.Reply = true, slices.Clone(reply)
	put(t, &k.s.agents, task, &r)
	return true, nil
}

func (k agents) Get(_ context.Context, x store.Tx, tasks []string, done bool) (out []agent.Row, err error) {
	if _, err := k.s.of(x); err != nil {
		return nil, err
	}
	tasks = slices.Compact(slices.Sorted(slices.Values(tasks)))
	for _, task := range tasks {
		if r := k.s.agents[task]; r != nil && (r.Done || !done) {
			out = append(out, copyOf(r))
		}
	}
	return out, nil
}

func (k agents) Expire(_ context.Context, x store.Tx) (int, error) {
	t, err := k.s.of(x)
	if err != nil {
		return 0, err
	}
	var old []*agent.Row
	for _, r := range k.s.agents {
		if r.Deadline.Before(t.now.Add(-agent.KeepFor)) {
			old = append(old, r)
		}
	}
	slices.SortFunc(old, func(a, b *agent.Row) int {
		return cmp.Or(a.Deadline.Compare(b.Deadline), cmp.Compare(a.Task, b.Task))
	})
	old = old[:min(len(old), agent.ExpireMost)]
	for _, r := range old {
		put(t, &k.s.agents, r.Task, nil)
	}
	return len(old), nil
}

func copyOf(r *agent.Row) agent.Row {
	c := *r
	c.Reply = slices.Clone(r.Reply)
	return c
}
