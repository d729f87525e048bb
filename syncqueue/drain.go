package syncqueue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// idleSignal wakes who waits for the last task to go.
type idleSignal struct {
	mu sync.Mutex
	c  chan struct{}
}

func (s *idleSignal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *idleSignal) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}

// gone counts one task less.
func (l *Local) gone() {
	if l.total.Add(-1) == 0 && l.closed.Load() {
		l.idle.send()
	}
}

// Drain refuses new calls with ErrClosed, for good, and waits until no task is inside. When ctx ends first its error names
// the keys left.
func (l *Local) Drain(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.setup()
	l.closed.Store(true)
	for {
		empty := l.idle.wait()
		if l.total.Load() == 0 {
			return nil
		}
		select {
		case <-empty:
		case <-ctx.Done():
		}
		if ctx.Err() != nil && l.total.Load() > 0 {
			return fmt.Errorf("syncqueue: drain: %s left: %w", l.left20(), context.Cause(ctx))
		}
	}
}

// left20 names at most 20 keys in use.
func (l *Local) left20() string {
	keys := l.keys()
	var names []string
	for _, k := range keys[:min(len(keys), 20)] {
		names = append(names, k.String())
	}
	if n := len(keys) - len(names); n > 0 {
		names = append(names, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, ", ")
}

// keys lists the keys in use, those of Single included.
func (l *Local) keys() (keys []Key) {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for k := range sh.entries {
			keys = append(keys, k)
		}
		for k := range sh.singles {
			keys = append(keys, k)
		}
		sh.mu.Unlock()
	}
	slices.SortFunc(keys, Key.Compare)
	return slices.Compact(keys)
}
