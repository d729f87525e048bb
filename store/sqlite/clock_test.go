package sqlite_test

import (
	"sync"
	"time"
)

// clock is moved by hand; nobody waits on it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// After is asked only by whoever waits for a locked database, which takes real time.
func (c *clock) After(d time.Duration) <-chan time.Time { return time.After(d) }
