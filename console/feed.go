package console

import (
	"context"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
)

const (
	settle      = 20 * time.Millisecond  // a job that has just changed is read so much later: its transaction is to commit
	flushEvery  = 250 * time.Millisecond // of one object there are four frames a second at most
	flushAtOnce = 1000
	maxUnseen   = 40 // flushes after which a change that nobody has committed is given up
	lookAtSelf  = time.Second
	lookAtNodes = 5 // of these
)

// feed reads what has changed into the ring.
func (c *Console) feed(ctx context.Context) error {
	c.hub.setOpen(true)
	defer c.hub.setOpen(false)
	c.env.For(ctx).Go("console/nodes", func() { c.watchNodes(ctx) })
	if c.cfg.Nodes != nil {
		c.env.For(ctx).Go("console/relay", func() { c.relays(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
		case <-c.hub.dirt:
			if c.env.Sleep(ctx, settle) == nil {
				c.flush(ctx)
				_ = c.env.Sleep(ctx, flushEvery-settle)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// watchNodes looks at what nothing tells of by itself, while somebody looks at the page: members, tasks, and the other nodes.
func (c *Console) watchNodes(ctx context.Context) {
	var members map[string]string
	var tasks []jobjson.Task
	var hosts []hostObject
	all := context.WithValue(ctx, principalKey{}, Principal{Name: "console"})
	for n := 0; c.env.Sleep(ctx, lookAtSelf) == nil; n++ {
		if c.hub.streams() == 0 {
			members, tasks, hosts = nil, nil, nil
			continue
		}
		tasks = c.changedTasks(tasks)
		if n%lookAtNodes != 0 {
			continue
		}
		if hasMembers(c) {
			members = c.changedMembers(all, members)
		}
		if hasHosts(c) {
			hosts = c.changedHosts(all, hosts)
		}
		if c.cfg.Nodes != nil {
			_, _ = c.facts(all, true) // for who must not wait
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
