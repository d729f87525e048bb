package console

import (
	"context"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

const (
	quietRead = 4 * time.Second        // how old an answer may be while nothing is known to have changed
	busyRead  = 400 * time.Millisecond // between two reads of the same while much changes
	keepReads = 256
)

// reads are shared: many viewers of one list cost one read of the store. Nobody waits for a read under the lock.
type reads struct {
	env   drover.Env
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

func newReads(env drover.Env) *reads { return &reads{env: env, m: map[string]*read{}} }

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

// look gives the read under a key, and whether it is the caller's to fill, after a pause if the last one was just now.
func (s *reads) look(key string) (r *read, mine bool, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.env.Clock.Now()
	if r = s.m[key]; r != nil {
		if !r.over() {
			return r, false, 0
		}
		age := now.Sub(r.at)
		if r.err == nil && r.epoch == s.epoch && age < quietRead {
			return r, false, 0
		}
		if r.err == nil {
			pause = max(0, busyRead-age)
		}
	}
	s.prune(now)
	r = &read{done: make(chan struct{}), at: now, epoch: -1}
	s.m[key] = r
	return r, true, pause
}

func (r *read) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// shared answers f's value, or one of a little while ago under the same key that nothing is known to have changed since.
func shared[V any](ctx context.Context, s *reads, key string, f func(context.Context) (V, error)) (v V, err error) {
	s.mu.Lock()
	known := s.epoch // what is answered was read after the changes that the caller may know of
	s.mu.Unlock()
	for {
		r, mine, pause := s.look(key)
		if mine {
			fill(ctx, s, r, pause, f)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
		if mine || r.epoch >= known || r.err != nil {
			v, _ = r.value.(V)
			return v, r.err
		}
	}
}

// fill reads. Who began a read may leave: others wait for it.
func fill[V any](ctx context.Context, s *reads, r *read, pause time.Duration, f func(context.Context) (V, error)) {
	defer close(r.done)
	ctx = context.WithoutCancel(ctx)
	if pause > 0 {
		_ = s.env.Sleep(ctx, pause)
	}
	s.mu.Lock()
	r.at, r.epoch = s.env.Clock.Now(), s.epoch
	s.mu.Unlock()
	r.err = context.Canceled // if f panics
	r.value, r.err = f(ctx)
}

// prune keeps the map small.
func (s *reads) prune(now time.Time) {
	if len(s.m) < keepReads {
		return
	}
	for _, k := range sortedKeys(s.m) {
		if r := s.m[k]; r.over() && now.Sub(r.at) > quietRead {
			delete(s.m, k)
		}
	}
	if len(s.m) >= keepReads {
		s.m = map[string]*read{}
	}
}
