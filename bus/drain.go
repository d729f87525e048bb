package bus

import (
	"context"
	"time"
)

// Drain takes nothing new and waits for what runs: topics are no longer received, the inbox still is, so that handlers can go
// on calling; then replies are flushed. Sends from outside of handlers are ErrNotSent from its beginning on. It ends with ctx's
// error if that comes first. All callers return when the one drain ends. Before Run, Run is refused afterwards.
func (b *Bus) Drain(ctx context.Context) error {
	b.mu.Lock()
	switch {
	case b.drained != nil:
		done := b.drained
		b.mu.Unlock()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case b.phase == fresh:
		b.phase = over
		b.drained = make(chan struct{})
		close(b.drained)
		b.mu.Unlock()
		b.started()
		return nil
	}
	b.drained = make(chan struct{})
	if b.phase == running {
		b.phase = draining
	}
	done := b.drained
	b.mu.Unlock()
	b.started()
	defer close(done)
	var closing []*inlet
	for _, topic := range b.topics.names() {
		closing = append(closing, b.unlisten(topic)...)
	}
	for _, i := range closing { // what was on its way is refused, not lost
		select {
		case <-i.ended:
		case <-ctx.Done():
		}
	}
	err := b.pool.wait(ctx)
	b.lanes.flush(ctx)
	return err
}

// StopTimeout is how long a Group waits for Run after its ctx has ended.
func (b *Bus) StopTimeout() time.Duration { return b.cfg.DrainTimeout + stuckAfter + 5*time.Second }
