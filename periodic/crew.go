package periodic

import (
	"sync"
	"time"
)

const (
	quick     = 200 * time.Microsecond // a task whose last run took less is expected to end before others are late for it
	patience  = time.Millisecond       // how long quick ones wait for each other if one of them does not
	mostIdle  = 4
	denseLook = 4 * time.Millisecond // at least between looks while there are many
)

// crew is the goroutines that runs share where the host has no Env.Go of its own: to begin one for each run costs more than most
// runs. Of quick tasks that are due together one goroutine runs one after the other; any other run has a goroutine to itself.
type crew struct {
	set *Set

	mu   sync.Mutex
	line []*run // quick ones that are due
	idle []chan *run
	open bool // Run is under way: only then does anybody wait for more
	all  sync.WaitGroup
}

// isQuick says that a run of e may share a goroutine with others. The caller holds the Set's lock.
func (e *entry) isQuick() bool {
	return e.number > 0 && e.took < quick && e.single == nil && e.lane == nil && e.Overlap.Parallel <= 1
}

// start has r run.
func (c *crew) start(r *run) {
	if !r.quick {
		c.give(r)
		return
	}
	c.mu.Lock()
	c.line = append(c.line, r)
	c.mu.Unlock()
}

// step is one look of the loop. What is in line from the last one waits for a run that is not quick any more: each gets a goroutine
// to itself now.
func (c *crew) step(look func(start func(*run)) time.Time) (next time.Time) {
	c.relieve()
	next = look(c.start)
	c.mu.Lock()
	n := len(c.line)
	c.mu.Unlock()
	if n > 0 {
		c.give(nil)
	}
	if now := c.set.env.Clock.Now(); n > 1 && (next.IsZero() || next.Sub(now) > 2*denseLook) {
		next = now.Add(patience)
	}
	return next
}

// relieve gives each run in line a goroutine to itself.
func (c *crew) relieve() {
	c.mu.Lock()
	line := c.line
	c.line = nil
	c.mu.Unlock()
	for _, r := range line {
		c.give(r)
	}
}

// give has r run on a goroutine that runs nothing else before it; nil: what is in line.
func (c *crew) give(r *run) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		w := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		w <- r // has room
		return
	}
	c.all.Add(1)
	c.mu.Unlock()
	c.set.env.Go("periodic/crew", func() { c.work(r) })
}

func (c *crew) work(r *run) {
	whole := false
	defer func() { // also after runtime.Goexit in a task
		if !whole {
			c.relieve()
		}
		c.all.Done()
	}()
	w := make(chan *run, 1)
	for ok := true; ok; r, ok = <-w {
		if r == nil {
			r = c.next()
		}
		for ; r != nil; r = c.next() {
			_ = c.set.exec(r)
		}
		if !c.rest(w) {
			break
		}
	}
	whole = true
}

// next takes what is first in line, nil if nothing is.
func (c *crew) next() (r *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.line) == 0 {
		c.line = nil
		return nil
	}
	r, c.line = c.line[0], c.line[1:]
	return r
}

// rest puts w among the idle, unless there are enough of them, or there will be nothing to do.
func (c *crew) rest(w chan *run) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open || len(c.idle) >= mostIdle {
		return false
	}
	c.idle = append(c.idle, w)
	return true
}

// gather has goroutines wait for more to do.
func (c *crew) gather() {
	c.mu.Lock()
	c.open = true
	c.mu.Unlock()
}

// dismiss ends the idle ones, and the others when their run has ended.
func (c *crew) dismiss() {
	c.mu.Lock()
	c.open = false
	for _, w := range c.idle {
		close(w)
	}
	c.idle = nil
	c.mu.Unlock()
	c.all.Wait()
}

// looks counts the looks of a loop: many in a short time are spaced out.
type looks struct {
	since time.Time
	n     int
	dense bool
}

// space is what must lie between a look at now and the next one.
func (l *looks) space(now time.Time) time.Duration {
	const window, many = 200 * time.Millisecond, 20
	if now.Sub(l.since) >= window {
		l.dense = l.n >= many
		l.since, l.n = now, 0
	}
	l.n++
	if l.dense {
		return denseLook
	}
	return grain
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
