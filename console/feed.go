package console

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/drover-cloud/drover/lease"
)

const (
	settle      = 20 * time.Millisecond  // a job that has just changed is read so much later: its transaction is to commit
	flushEvery  = 250 * time.Millisecond // of one object there are four frames a second at most
	flushAtOnce = 1000
	maxUnseen   = 40 // flushes after which a change that nobody has committed is given up
	lookAtNodes = 5 * time.Second
)

// feed reads what has changed into the ring.
func (c *Console) feed(ctx context.Context) error {
	c.hub.setOpen(true)
	defer c.hub.setOpen(false)
	last, nodes := map[string]string(nil), c.env.Clock.Now()
	for {
		select {
		case <-ctx.Done():
		case <-c.hub.dirt:
			if c.env.Sleep(ctx, settle) == nil {
				c.flush(ctx)
				_ = c.env.Sleep(ctx, flushEvery-settle)
			}
		case <-c.env.Clock.After(lookAtNodes):
		}
		if ctx.Err() != nil {
			return nil
		}
		if now := c.env.Clock.Now(); c.cfg.Leases != nil && c.hub.streams() > 0 && now.Sub(nodes) >= lookAtNodes {
			nodes = now
			last = c.members(ctx, last)
		}
	}
}

// flush reads the jobs that have changed, all at once, and sends what is committed. One that is not yet is read again.
func (c *Console) flush(ctx context.Context) {
	ids := c.hub.take()
	if len(ids) == 0 {
		return
	}
	js, err := c.cfg.Jobs.Lookup(ctx, sortedKeys(ids))
	if err != nil {
		if ctx.Err() == nil {
			c.env.Logger.WarnContext(ctx, "console: the live stream cannot read what has changed", "err", err)
		}
		c.hub.again(ids)
		return
	}
	var fs []frame
	for _, id := range sortedKeys(ids) {
		j := js[id]
		if j == nil || j.Rev < ids[id].rev {
			continue
		}
		if delete(ids, id); j.State.Final() {
			c.hub.count(j)
		}
		fs = append(fs, frameOf(j))
	}
	c.reads.changed()
	c.hub.add(fs...)
	c.hub.again(ids)
}

// take gives the jobs to read, the longest unread not being left behind for ever: the map is small, or all of it is taken.
func (h *hub) take() map[string]*dirtyJob {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.dirty) <= flushAtOnce {
		taken := h.dirty
		h.dirty = map[string]*dirtyJob{}
		return taken
	}
	taken := map[string]*dirtyJob{}
	for _, id := range sortedKeys(h.dirty)[:flushAtOnce] {
		taken[id] = h.dirty[id]
		delete(h.dirty, id)
	}
	h.poke()
	return taken
}

// again keeps jobs for the next flush.
func (h *hub) again(ids map[string]*dirtyJob) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range sortedKeys(ids) {
		d := ids[id]
		if d.tries++; d.tries > maxUnseen || h.dirty[id] != nil {
			continue // rolled back, or removed; or noted anew
		}
		h.dirty[id] = d
		h.poke()
	}
}

func (h *hub) poke() {
	select {
	case h.dirt <- struct{}{}:
	default:
	}
}

// members sends a frame per node whose state has changed since last.
func (c *Console) members(ctx context.Context, last map[string]string) map[string]string {
	infos, err := c.leases(ctx)
	if err != nil {
		return last
	}
	now, fs := map[string]string{}, []frame(nil)
	for _, m := range membersOf(infos) {
		now[m.Name] = m.State
		if last != nil && last[m.Name] != m.State {
			data, err := json.Marshal(map[string]string{"id": m.Name, "state": m.State})
			if err == nil {
				fs = append(fs, frame{topic: "member", data: data})
			}
		}
	}
	c.hub.add(fs...)
	return now
}

func (c *Console) leases(ctx context.Context) ([]lease.Info, error) {
	return shared(ctx, c.calm, "leases", c.cfg.Leases.List)
}

// memberObject is a node as the API shows it: its lease session.
type memberObject struct {
	Name        string   `json:"id"`
	State       string   `json:"state"` // up, draining, down
	Incarnation int64    `json:"incarnation"`
	Epoch       int64    `json:"epoch"`
	Until       stamp    `json:"until"`
	Kinds       []string `json:"kinds,omitempty"`
	Pools       []string `json:"pools,omitempty"`
}

// membersOf is the latest session of each node, by name.
func membersOf(infos []lease.Info) (ms []memberObject) {
	at := map[string]int{}
	for _, i := range infos {
		if i.Named {
			continue
		}
		m := memberObject{
			Name: i.Name, State: nodeState(i), Incarnation: i.Holder.Incarnation, Epoch: i.Holder.Epoch, Until: stamp(i.Until),
			Kinds: i.Kinds, Pools: i.Queues,
		}
		if n, found := at[i.Name]; !found {
			at[i.Name] = len(ms)
			ms = append(ms, m)
		} else if ms[n].Epoch < m.Epoch {
			ms[n] = m
		}
	}
	slices.SortFunc(ms, func(a, b memberObject) int { return compare(a.Name, b.Name) })
	return ms
}

func nodeState(i lease.Info) string {
	switch i.State {
	case lease.Active:
		return "up"
	case lease.Draining:
		return "draining"
	}
	return "down"
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}
