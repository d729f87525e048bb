package job

import "sync"

// crew runs handlers on goroutines of its own, named "jobs", which go from one run to the next: most handlers return without ever
// having blocked, and a goroutine of their own that has to grow its stack first costs more than they do. As long as a run
// waits to be taken one goroutine more is on its way, so that no run waits for another's handler.
//
// A host that gives Env.Go sees a goroutine per job, named after it, instead.
type crew struct {
	start func(name string, f func())

	mu     sync.Mutex
	runs   []*run // not taken yet, in order, from next on
	next   int
	coming bool // a goroutine is started that has not taken a run yet
}

func (c *crew) add(runs []*run) {
	c.mu.Lock()
	if c.next == len(c.runs) {
		clear(c.runs)
		c.runs, c.next = c.runs[:0], 0
	}
	c.runs = append(c.runs, runs...)
	start := !c.coming
	c.coming = true
	c.mu.Unlock()
	if start {
		c.start("jobs", c.work)
	}
}

// work runs what is there. A handler that ends its goroutine leaves the rest to another one.
func (c *crew) work() {
	for first := true; ; first = false {
		r, more := c.take(first)
		if r == nil {
			return
		}
		if more {
			c.start("jobs", c.work)
		}
		r.exec()
	}
}

// take is the next run, nil if there is none, and whether a goroutine is to be started for those behind it.
func (c *crew) take(first bool) (r *run, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first {
		c.coming = false
	}
	if c.next == len(c.runs) {
		return nil, false
	}
	r, c.runs[c.next] = c.runs[c.next], nil
	c.next++
	more = c.next < len(c.runs) && !c.coming
	c.coming = c.coming || more
	return r, more
}
