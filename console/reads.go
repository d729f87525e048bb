package console

import (
	"context"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

const (
	quietRead = 3 * time.Second        // how old an answer may be while nothing is known to have changed
	busyRead  = 250 * time.Millisecond // and while much changes
	keepReads = 256
)

// reads are shared: many viewers of one list cost one read of the store. Nobody waits for a read under the lock.
type reads struct {
	clock drover.Clock
	mu    sync.Mutex
	m     map[string]*read
	epoch int64 // of what is known of changes
}

type read struct {
	done  chan struct{}
	at    time.Time
	epoch int64
	value any
	err   error
}

func newReads(env drover.Env) *reads { return &reads{clock: env.Clock, m: map[string]*read{}} }

// changed says that jobs have changed: answers get old sooner.
func (s *reads) changed() {
	s.mu.Lock()
	s.epoch++
	s.mu.Unlock()
}

// forget drops all answers: whoever has changed something is to see it.
func (s *reads) forget() {
	s.mu.Lock()
	s.m = map[string]*read{}
	s.mu.Unlock()
}

// fresh says whether r may be answered now; a read under way always may.
func (s *reads) fresh(r *read) bool {
	select {
	case <-r.done:
	default:
		return true
	}
	age := s.clock.Now().Sub(r.at)
	return r.err == nil && (age < busyRead || r.epoch == s.epoch && age < quietRead)
}

// shared answers f's value, or one of a little while ago under the same key.
func shared[V any](ctx context.Context, s *reads, key string, f func(context.Context) (V, error)) (v V, err error) {
	s.mu.Lock()
	r := s.m[key]
	mine := r == nil || !s.fresh(r)
	if mine {
		r = &read{done: make(chan struct{}), at: s.clock.Now(), epoch: s.epoch}
		s.prune()
		s.m[key] = r
	}
	s.mu.Unlock()
	if mine {
		func() {
			defer close(r.done)
			r.err = context.Canceled // if f panics
			// who began the read may leave, others wait for it
			r.value, r.err = f(context.WithoutCancel(ctx))
		}()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
	v, _ = r.value.(V)
	return v, r.err
}

// prune keeps the map small.
func (s *reads) prune() {
	if len(s.m) < keepReads {
		return
	}
	for k, r := range s.m {
		if !s.fresh(r) {
			delete(s.m, k)
		}
	}
	if len(s.m) >= keepReads {
		s.m = map[string]*read{}
	}
}
