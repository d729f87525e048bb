package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

// Nodes reaches the consoles of the cluster's other nodes, over whatever the host has: a bus, or HTTP among the nodes. What
// only a process knows (its periodic tasks, its pools of workers) is asked for there.
type Nodes interface {
	// Others are the names of the other nodes of which an answer is expected, sorted.
	Others(ctx context.Context) ([]string, error)
	// Ask hands a question to that node's [Console.Answer] and gives what it answers. It returns when ctx ends.
	Ask(ctx context.Context, node string, question []byte) (answer []byte, err error)
}

const (
	answerTime = time.Second
	factsAge   = 15 * time.Second // how old what is known of other nodes may be where nobody is to wait for it
	noAnswer   = "no answer"
)

// question is what one console asks another.
type question struct {
	Do      string           `json:"do"`             // facts, noted, trigger, enable, disable, drain, resume, resize
	Name    string           `json:"name,omitempty"` // of a task, or a pool
	Workers int              `json:"workers,omitempty"`
	By      string           `json:"by,omitempty"` // for the log
	From    string           `json:"from,omitempty"`
	Watch   bool             `json:"watch,omitempty"` // somebody looks at a page there
	Jobs    map[string]int64 `json:"jobs,omitempty"`  // of noted: which have changed, and their revisions
}

// reply is what comes back.
type reply struct {
	Problem *problem       `json:"problem,omitempty"`
	Tasks   []jobjson.Task `json:"tasks"`
	Pools   []poolObject   `json:"pools,omitempty"`
	Bus     *busFacts      `json:"bus,omitempty"`
}

// Answer is what this node says to another one's console: the other end of [Nodes]. The host lets only its own nodes in.
func (c *Console) Answer(ctx context.Context, asked []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(asked, &q); err != nil {
		return nil, fmt.Errorf("console: question: %w", err)
	}
	r, err := c.answer(ctx, q)
	if err != nil {
		r.Problem = problemOf(err)
	}
	if q.Do != "facts" && q.Do != "noted" {
		c.env.Logger.InfoContext(ctx, "console: "+q.Do, "principal", q.By, "type", "node", "target", c.env.Node, "name", q.Name, "err", err)
	}
	return json.Marshal(r)
}

func (c *Console) answer(ctx context.Context, q question) (r reply, err error) {
	switch q.Do {
	case "noted":
		for _, id := range sortedKeys(q.Jobs) {
			c.hub.note(id, q.Jobs[id])
		}
		return r, nil
	case "facts":
		if q.Watch {
			c.relay.watches(q.From, c.now().Add(watchFor))
		}
		r.Tasks, r.Bus = c.tasks(), c.ownBus()
		if c.cfg.Jobs != nil {
			st, serr := c.stats(ctx)
			r.Pools, err = jobjson.PoolsOf(st), serr
		}
		return r, err
	case "drain":
		if c.cfg.Drain == nil {
			return r, notFound("Drain of " + c.env.Node)
		}
		return r, c.cfg.Drain(ctx)
	case "resume":
		if c.cfg.Resume == nil {
			return r, notFound("Resume of " + c.env.Node)
		}
		return r, c.cfg.Resume(ctx)
	case "resize":
		if c.cfg.Jobs == nil {
			return r, notFound("the pool")
		}
		return r, c.cfg.Jobs.Resize(q.Name, q.Workers)
	}
	return r, c.steerTask(q.Do, q.Name)
}

// nodeReply is what a node answered, or why it did not.
type nodeReply struct {
	node string
	reply
	err error
}

// tellNode asks one node: this one, or another.
func (c *Console) tellNode(ctx context.Context, node string, q question) (reply, error) {
	if node == c.env.Node {
		return c.answer(ctx, q)
	}
	if c.cfg.Nodes == nil {
		return reply{}, notFound("node " + node + ": this console reaches no other, so it")
	}
	others, err := c.cfg.Nodes.Others(ctx)
	if err != nil {
		return reply{}, err
	}
	if !slices.Contains(others, node) {
		return reply{}, notFound("node " + node)
	}
	r := c.scatter(ctx, []string{node}, q)[0]
	if r.err != nil {
		return r.reply, r.err
	}
	return r.reply, nil
}

// scatter asks nodes all at once, and gives their answers in the same order. Who has not answered after a second is listed with an error:
// it may have done what it was told all the same.
func (c *Console) scatter(ctx context.Context, nodes []string, q question) []nodeReply {
	out := make([]nodeReply, len(nodes))
	asked, err := json.Marshal(q)
	if err != nil || len(nodes) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	type came struct {
		i int
		nodeReply
	}
	answers := make(chan came, len(nodes)) // nobody waits for one that is late
	for i, node := range nodes {
		out[i] = nodeReply{node: node, err: &problem{Status: http.StatusGatewayTimeout, Code: "no-answer", Detail: node + ": " + noAnswer}}
		c.env.Go("console/ask/"+node, func() {
			r := nodeReply{node: node}
			b, err := c.cfg.Nodes.Ask(ctx, node, asked)
			if err == nil {
				err = json.Unmarshal(b, &r.reply)
			}
			if r.err = err; err == nil && r.Problem != nil {
				r.err = r.Problem
			}
			answers <- came{i, r}
		})
	}
	for left := len(nodes); left > 0; left-- {
		select {
		case a := <-answers:
			if a.err == nil || errors.As(a.err, new(*problem)) {
				out[a.i] = a.nodeReply
			}
		case <-ctx.Done():
			left = 0
		}
	}
	for _, r := range out {
		if r.err != nil {
			c.meters.missing.Add(context.WithoutCancel(ctx), 1)
		}
	}
	return out
}

// facts are what this node and the others say of themselves, this one first. Unless it is to be fresh, what was said a little while
// ago will do, so that a node that is stuck holds nobody up.
func (c *Console) facts(ctx context.Context, fresh bool) ([]nodeReply, error) {
	own, err := c.answer(ctx, question{Do: "facts"})
	if err != nil {
		return nil, err
	}
	all := []nodeReply{{node: c.env.Node, reply: own}}
	if c.cfg.Nodes == nil {
		return all, nil
	}
	c.mu.Lock()
	known, at := c.known, c.knownAt
	c.mu.Unlock()
	if !fresh && !at.IsZero() && c.now().Sub(at) < factsAge {
		return append(all, known...), nil
	}
	known, err = shared(ctx, c.calm, "facts", func(ctx context.Context) ([]nodeReply, error) {
		others, err := c.cfg.Nodes.Others(ctx)
		if err != nil {
			return nil, err
		}
		return c.scatter(ctx, others, question{Do: "facts", From: c.env.Node, Watch: c.hub.streams() > 0}), nil
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.known, c.knownAt = known, c.now()
	c.mu.Unlock()
	return append(all, known...), nil
}

// pools of this node, with what the cluster has of each.
func (c *Console) pools(ctx context.Context) ([]poolObject, error) {
	if who(ctx).Account != "" {
		return []poolObject{}, nil
	}
	st, err := c.stats(ctx)
	if err != nil {
		return nil, err
	}
	return jobjson.PoolsOf(st), nil
}

func (c *Console) stats(ctx context.Context) (job.Stats, error) {
	return shared(ctx, c.reads, "stats", c.cfg.Jobs.Stats)
}
