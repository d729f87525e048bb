package console

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

const (
	relayEvery = 100 * time.Millisecond
	relayMost  = 10_000           // jobs kept for a node that is slow; beyond, it reads again in time
	watchFor   = 30 * time.Second // how long a node that has viewers is told of changes, after it last said so
)

// relay tells the nodes that somebody looks at which jobs have changed here, for their own live streams.
type relay struct {
	mu   sync.Mutex
	to   map[string]*outbox
	dirt chan struct{} // capacity 1
}

// outbox is what a node is still to be told.
type outbox struct {
	until time.Time // it has viewers
	jobs  map[string]int64
	busy  bool
}

func newRelay() *relay { return &relay{to: map[string]*outbox{}, dirt: make(chan struct{}, 1)} }

// watches notes that a node has viewers.
func (r *relay) watches(node string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to[node] == nil {
		r.to[node] = &outbox{jobs: map[string]int64{}}
	}
	r.to[node].until = until
}

// note keeps a change for all nodes that have viewers.
func (r *relay) note(id string, rev int64, now time.Time) {
	r.mu.Lock()
	told := false
	for _, node := range sortedKeys(r.to) {
		o := r.to[node]
		if o.until.Before(now) {
			delete(r.to, node)
		} else if o.jobs[id] < rev && len(o.jobs) < relayMost {
			o.jobs[id], told = rev, true
		}
	}
	r.mu.Unlock()
	if told {
		select {
		case r.dirt <- struct{}{}:
		default:
		}
	}
}

// take gives what each node is to be told now.
func (r *relay) take() map[string]map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]map[string]int64{}
	for _, node := range sortedKeys(r.to) {
		if o := r.to[node]; len(o.jobs) > 0 && !o.busy {
			out[node], o.jobs, o.busy = o.jobs, map[string]int64{}, true
		}
	}
	return out
}

// free lets a node be told again; more: there is something already.
func (r *relay) free(node string) (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.to[node]
	if o == nil {
		return false
	}
	o.busy = false
	return len(o.jobs) > 0
}

// relays sends until ctx ends. A node that does not answer misses what it was told: it reads what it shows again in time.
func (c *Console) relays(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
		case <-c.relay.dirt:
		}
		if ctx.Err() != nil || c.env.Sleep(ctx, settle) != nil {
			return
		}
		told := c.relay.take()
		for _, node := range sortedKeys(told) {
			asked, err := json.Marshal(question{Do: "noted", From: c.env.Node, Jobs: told[node]})
			if err != nil {
				continue
			}
			c.env.Go("console/tell/"+node, func() {
				ask, cancel := context.WithTimeout(ctx, answerTime)
				defer cancel()
				if _, err := c.cfg.Nodes.Ask(ask, node, asked); err != nil && ctx.Err() == nil {
					c.meters.missing.Add(ctx, 1)
				}
				if c.relay.free(node) {
					select {
					case c.relay.dirt <- struct{}{}:
					default:
					}
				}
			})
		}
		if c.env.Sleep(ctx, relayEvery-settle) != nil {
			return
		}
	}
}
