package agent

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"time"

	"github.com/drover-cloud/drover/store"
)

// Row is a task that is outstanding, or its result.
type Row struct {
	Task string
	URL  string
	// Agent is the boot id of the agent that accepted it, as far as known.
	Agent string
	// Key is the SHA-256 of the key that its callback must show.
	Key [32]byte
	// Deadline is store time.
	Deadline time.Time
	// Done says that Reply is the result: {"result":…}, {"error":{"code","text"}}, or empty where the agent's reply was unreadable.
	Done  bool
	Reply []byte
}

// Store is kept by each store (db.Agents()). Every method takes the caller's transaction and gives store.ErrForeign for one of
// another store.
type Store interface {
	// Add (W) stores r, whose task is being sent, and answers what is kept of it from now on.
	//  1. A task that is not there is added; one that is there and not done is replaced.
	//  2. One that is done is left alone and answered: its result stays.
	Add(ctx context.Context, tx store.Tx, r Row) (Row, error)
	// Done (W) stores the result of a task; false if there is one already, which stays. A task that is not there is
	// store.ErrNotFound.
	Done(ctx context.Context, tx store.Tx, task string, reply []byte) (first bool, err error)
	// Get (R) gives what is there of tasks, in order of Task; with done only those that are.
	Get(ctx context.Context, tx store.Tx, tasks []string, done bool) ([]Row, error)
	// Expire (W) deletes rows whose deadline was more than KeepFor ago, at most 1000 of them, the oldest first, and says how many.
	Expire(ctx context.Context, tx store.Tx) (int, error)
}

const (
	// KeepFor is how long after its deadline a row is kept.
	KeepFor = time.Hour
	// ExpireMost is how many rows one Expire deletes.
	ExpireMost = 1000

	lookEvery   = time.Second
	lookBatch   = 500
	expireEvery = time.Minute
)

// Topic is the hint that a task has a result.
func Topic(task string) string { return "drover.agent/" + task }

// keep stores that e is being sent; done is the result that another sending has brought meanwhile.
func (c *Client) keep(ctx context.Context, e *entry, agent string) (done *result, err error) {
	if c.cfg.Pending == nil {
		return nil, nil
	}
	var kept Row
	err = c.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		left := e.deadline.Sub(c.env.Clock.Now())
		kept, err = c.cfg.Pending.Add(ctx, tx, Row{Task: string(e.task), URL: e.url.String(), Agent: agent, Key: e.key, Deadline: tx.Now().Add(left)})
		return err
	})
	if err != nil || !kept.Done {
		return nil, err
	}
	r := parseResult(kept.Reply)
	return &r, nil
}

// found is a task in the store, and what its deadline is on this node's clock.
type found struct {
	Row
	deadline time.Time
}

// stored reads the row of a task; nil if there is none.
func (c *Client) stored(ctx context.Context, task Task) (f *found, err error) {
	err = c.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		f = nil
		rows, err := c.cfg.Pending.Get(ctx, tx, []string{string(task)}, false)
		if err == nil && len(rows) > 0 {
			f = &found{rows[0], c.env.Clock.Now().Add(rows[0].Deadline.Sub(tx.Now()))}
		}
		return err
	})
	return f, err
}

// verdict is what becomes of a reply.
type verdict uint8

const (
	taken verdict = iota
	late          // there is a result already
	unknown
	forbidden
)

// settle stores a reply of task, from whoever shows the key; key "" is ourselves, who asked. It answers the result that counts.
func (c *Client) settle(ctx context.Context, task Task, key string, reply []byte) (v verdict, r result, err error) {
	hash := hashKey(key)
	err = c.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		v, r = unknown, result{}
		rows, err := c.cfg.Pending.Get(ctx, tx, []string{string(task)}, false)
		if err != nil || len(rows) == 0 {
			return err
		}
		if key != "" && subtle.ConstantTimeCompare(hash[:], rows[0].Key[:]) != 1 {
			v = forbidden
			return nil
		}
		first := false
		if !rows[0].Done {
			if first, err = c.cfg.Pending.Done(ctx, tx, string(task), reply); err != nil {
				return err
			}
		}
		if first {
			tx.Hint(Topic(string(task)))
			v, r = taken, parseResult(reply)
			return nil
		}
		if rows, err = c.cfg.Pending.Get(ctx, tx, []string{string(task)}, true); err != nil || len(rows) == 0 {
			return err
		}
		v, r = late, parseResult(rows[0].Reply)
		return nil
	})
	return v, r, err
}

// look finishes those of tasks that have a result in the store.
func (c *Client) look(ctx context.Context, tasks []string) error {
	var rows []Row
	err := c.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		rows, err = c.cfg.Pending.Get(ctx, tx, tasks, true)
		return err
	})
	for _, r := range rows {
		if e := c.entry(Task(r.Task)); e != nil {
			c.finish(e, parseResult(r.Reply))
		}
	}
	return err
}

// lookAll is look for all that is outstanding here.
func (c *Client) lookAll(ctx context.Context) {
	tasks := c.outstanding()
	for len(tasks) > 0 && ctx.Err() == nil {
		n := min(len(tasks), lookBatch)
		if err := c.look(ctx, tasks[:n]); err != nil && ctx.Err() == nil {
			c.log.Warn("outstanding tasks cannot be looked up", "error", err)
			return
		}
		tasks = tasks[n:]
	}
}

// expire deletes old rows.
func (c *Client) expire(ctx context.Context) {
	for ctx.Err() == nil {
		n := 0
		err := c.cfg.Tx.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
			n, err = c.cfg.Pending.Expire(ctx, tx)
			return err
		})
		if err != nil && ctx.Err() == nil {
			c.log.Warn("old tasks cannot be deleted", "error", err)
		}
		if err != nil || n < ExpireMost {
			return
		}
	}
}

// storable is a reply as rows keep it: what cannot be read is empty.
func storable(reply []byte) []byte {
	if errors.Is(parseResult(reply).err, ErrBadReply) {
		return nil
	}
	return reply
}

// wrapped is a bare reply as an envelope.
func wrapped(raw []byte) []byte {
	b, err := json.Marshal(envelope{Result: raw})
	if err != nil {
		return nil
	}
	return b
}
