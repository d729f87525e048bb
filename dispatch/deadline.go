package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

// bounded is context.WithTimeout with a timer that is made when somebody first asks for it: most sync commands end before
// anybody does, and the timer costs more than the stages.
type bounded struct {
	context.Context
	clock drover.Clock
	began time.Time
	limit time.Duration

	mu     sync.Mutex
	timed  context.Context // with the timer; nil until then
	cancel context.CancelFunc
	over   bool
}

func withTimeout(ctx context.Context, clock drover.Clock, limit time.Duration) *bounded {
	return &bounded{Context: ctx, clock: clock, began: clock.Now(), limit: limit}
}

// full is the context with the timer.
func (b *bounded) full() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed == nil {
		b.timed, b.cancel = context.WithTimeout(b.Context, b.limit-b.clock.Now().Sub(b.began))
		if b.over {
			b.cancel()
		}
	}
	return b.timed
}

// made is full, or nil if nobody has asked for it yet.
func (b *bounded) made() (timed context.Context, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.timed, b.over
}

// Deadline, Done, Err and Value are those of context.WithTimeout.
func (b *bounded) Deadline() (time.Time, bool) { return b.full().Deadline() }

func (b *bounded) Done() <-chan struct{} { return b.full().Done() }

func (b *bounded) Err() error {
	if timed, over := b.made(); timed == nil && !over {
		if err := b.Context.Err(); err != nil {
			return err
		}
		if b.clock.Now().Sub(b.began) < b.limit {
			return nil
		}
	}
	return b.full().Err()
}

// Value finds the timer's context too, once it is there, so that contexts made of this one end with it and need no goroutine.
func (b *bounded) Value(key any) any {
	if timed, _ := b.made(); timed != nil {
		return timed.Value(key)
	}
	return b.Context.Value(key)
}

// end releases the timer.
func (b *bounded) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.cancel != nil {
		b.cancel()
	}
}
