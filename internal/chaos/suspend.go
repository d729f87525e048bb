package main

import (
	"sync"
	"time"
)

// asleep is a clock that stands still while the process is frozen, as the monotonic clock of a suspended VM does: whoever
// looks at it does not notice that a lease has passed. What then keeps a stale write out is the store alone.
type asleep struct {
	mu   sync.Mutex
	last time.Time
	lost time.Duration
}

// gap between two looks that counts as frozen; a goroutine looks every tenth of it.
const gap = 400 * time.Millisecond

func newAsleep() *asleep {
	c := &asleep{last: time.Now()}
	go func() {
		for {
			time.Sleep(gap / 10)
			c.Now()
		}
	}()
	return c
}

func (c *asleep) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if d := now.Sub(c.last); d > gap {
		c.lost += d
	}
	c.last = now
	return now.Add(-c.lost)
}

func (c *asleep) After(d time.Duration) <-chan time.Time {
	out := make(chan time.Time, 1)
	due := c.Now().Add(d)
	var t *time.Timer
	ready := make(chan struct{})
	t = time.AfterFunc(d, func() {
		<-ready
		now := c.Now()
		if left := due.Sub(now); left > 0 {
			t.Reset(left)
			return
		}
		out <- now
	})
	close(ready)
	return out
}
