package testkit

import (
	"context"
	"fmt"

	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/store"
)

func (s *stores) Agents() agent.Store { return agents{s, s.life.node.w.db.Agents()} }

type agents struct {
	s *stores
	d agent.Store
}

func (k agents) Add(ctx context.Context, x store.Tx, r agent.Row) (agent.Row, error) {
	return call(k.s, x, "store.agents.add", r.Task, func(in store.Tx) (agent.Row, error) { return k.d.Add(ctx, in, r) },
		func(r agent.Row) string { return fmt.Sprintf("done=%v", r.Done) })
}

func (k agents) Done(ctx context.Context, x store.Tx, task string, reply []byte) (bool, error) {
	return call(k.s, x, "store.agents.done", task, func(in store.Tx) (bool, error) { return k.d.Done(ctx, in, task, reply) },
		func(first bool) string { return fmt.Sprintf("first=%v", first) })
}

func (k agents) Get(ctx context.Context, x store.Tx, tasks []string, done bool) ([]agent.Row, error) {
	return call(k.s, x, "store.agents.get", group(tasks, own), func(in store.Tx) ([]agent.Row, error) { return k.d.Get(ctx, in, tasks, done) },
		func(rows []agent.Row) string { return fmt.Sprintf("rows=%d", len(rows)) })
}

func (k agents) Expire(ctx context.Context, x store.Tx) (int, error) {
	return call(k.s, x, "store.agents.expire", "", func(in store.Tx) (int, error) { return k.d.Expire(ctx, in) },
		func(n int) string { return fmt.Sprintf("rows=%d", n) })
}
