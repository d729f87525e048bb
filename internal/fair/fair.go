// Package fair has locks that serve in order of arrival and whose waiting ends with a context.
//
// Guarantees: first come, first served; a waiter that leaves costs nobody a turn; an ended ctx gives its error even when the
// lock is free. Waiting is on a channel, so a waiter does not stall testing/synctest.
//
// Not guaranteed: re-entry; it deadlocks until ctx ends.
package fair

import (
	"context"
	"sync"
)

// Lock is a mutual exclusion lock. Its zero value is unlocked.
type Lock struct {
	mu    sync.Mutex
	held  bool
	queue []chan struct{}
}

// Lock waits for its turn or gives ctx's cause.
func (l *Lock) Lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	if !l.held {
		l.held = true
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	l.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	if !l.leave(turn) {
		l.Unlock() // the turn came at the same time
	}
	return context.Cause(ctx)
}

// leave says whether turn was still queued.
func (l *Lock) leave(turn chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range l.queue {
		if c == turn {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return true
		}
	}
	return false
}

// Unlock hands the lock to who waits longest.
func (l *Lock) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.held = false
		return
	}
	close(l.queue[0])
	l.queue = l.queue[1:]
}

// Waiting is how many wait for the lock.
func (l *Lock) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// Keyed is a Lock per key that costs nothing while nobody holds or wants it. Its zero value is ready.
type Keyed struct {
	mu sync.Mutex
	m  map[string]*counted
}

type counted struct {
	Lock
	users int
}

// Lock waits for key's turn; unlock ends it and is called once.
func (k *Keyed) Lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*counted{}
	}
	c := k.m[key]
	if c == nil {
		c = &counted{}
		k.m[key] = c
	}
	c.users++
	k.mu.Unlock()
	if err := c.Lock.Lock(ctx); err != nil {
		k.drop(key, c)
		return nil, err
	}
	return func() {
		c.Unlock()
		k.drop(key, c)
	}, nil
}

func (k *Keyed) drop(key string, c *counted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.users--; c.users == 0 {
		delete(k.m, key)
	}
}
