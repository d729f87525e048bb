package sqlstore

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/agent"
	"github.com/drover-cloud/drover/store"
)

// Agents is an agent.Store on the table drover_agent.
type Agents struct{ Dialect }

// Add stores a task that is being sent; see agent.Store.
func (k Agents) Add(ctx context.Context, tx store.Tx, r agent.Row) (agent.Row, error) {
	o, err := k.open(tx)
	if err != nil {
		return r, err
	}
	r.Done, r.Reply = false, nil
	n, err := o.exec(ctx, `INSERT INTO drover_agent AS a (task, url, agent, key, deadline, done, reply) VALUES (?, ?, ?, ?, ?, 0, ?)
		ON CONFLICT (task) DO UPDATE SET url = excluded.url, agent = excluded.agent, key = excluded.key, deadline = excluded.deadline WHERE a.done = 0`,
		r.Task, r.URL, r.Agent, r.Key[:], r.Deadline.UnixMicro(), []byte{})
	if err != nil || n > 0 {
		return r, err
	}
	rows, err := o.agentRows(ctx, `WHERE task = ?`, r.Task)
	if err == nil && len(rows) == 0 { // it expired in between: the caller is far too late
		err = fmt.Errorf("store: task %s: %w", r.Task, store.ErrConflict)
	}
	if err != nil {
		return r, err
	}
	return rows[0], nil
}

// Done stores a result; see agent.Store.
func (k Agents) Done(ctx context.Context, tx store.Tx, task string, reply []byte) (bool, error) {
	o, err := k.open(tx)
	if err != nil {
		return false, err
	}
	if reply == nil {
		reply = []byte{}
	}
	n, err := o.exec(ctx, `UPDATE drover_agent SET done = 1, reply = ? WHERE task = ? AND done = 0`, reply, task)
	if err != nil || n > 0 {
		return n > 0, err
	}
	var done int
	found, err := o.row(ctx, `SELECT done FROM drover_agent WHERE task = ?`, []any{task}, &done)
	if err == nil && !found {
		err = fmt.Errorf("store: task %s: %w", task, store.ErrNotFound)
	}
	return false, err
}

// Get gives rows; see agent.Store.
func (k Agents) Get(ctx context.Context, tx store.Tx, tasks []string, done bool) ([]agent.Row, error) {
	o, err := k.open(tx)
	if err != nil || len(tasks) == 0 {
		return nil, err
	}
	if done {
		return o.agentRows(ctx, `WHERE task IN (?) AND done = 1 ORDER BY task`, bun.List(tasks))
	}
	return o.agentRows(ctx, `WHERE task IN (?) ORDER BY task`, bun.List(tasks))
}

// Expire deletes old rows; see agent.Store.
func (k Agents) Expire(ctx context.Context, tx store.Tx) (int, error) {
	o, err := k.open(tx)
	if err != nil {
		return 0, err
	}
	n, err := o.exec(ctx, `DELETE FROM drover_agent WHERE task IN (SELECT task FROM drover_agent WHERE deadline < ? ORDER BY deadline, task LIMIT ?)`,
		tx.Now().Add(-agent.KeepFor).UnixMicro(), agent.ExpireMost)
	return int(n), err
}

type agentRow struct {
	Task     string `bun:"task"`
	URL      string `bun:"url"`
	Agent    string `bun:"agent"`
	Key      []byte `bun:"key"`
	Deadline int64  `bun:"deadline"`
	Done     int    `bun:"done"`
	Reply    []byte `bun:"reply"`
}

func (o *open) agentRows(ctx context.Context, where string, args ...any) ([]agent.Row, error) {
	var rows []agentRow
	if err := o.all(ctx, &rows, `SELECT task, url, agent, key, deadline, done, reply FROM drover_agent `+where, args...); err != nil {
		return nil, err
	}
	out := make([]agent.Row, len(rows))
	for i, r := range rows {
		out[i] = agent.Row{Task: r.Task, URL: r.URL, Agent: r.Agent, Deadline: at(r.Deadline), Done: r.Done != 0}
		copy(out[i].Key[:], r.Key)
		if len(r.Reply) > 0 {
			out[i].Reply = r.Reply
		}
	}
	return out, nil
}
