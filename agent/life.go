package agent

import (
	"context"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
)

const stuckAfter = 5 * time.Second

type phase uint8

const (
	fresh phase = iota
	running
	over
)

// life is what Client and Server have in common: Run once, a context that ends with it, goroutines that it waits for.
type life struct {
	env    drover.Env
	ctx    context.Context // ends with Run
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	phase    phase
	draining bool
	live     int
	still    chan struct{} // closed and replaced when something has ended
}

func (l *life) init(env drover.Env) {
	l.env, l.still = env, make(chan struct{})
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
}

// begin is the first thing Run does.
func (l *life) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.phase {
	case running:
		return drover.ErrRunning
	case over:
		return drover.ErrUsed
	}
	l.phase = running
	return nil
}

// end is the last: it ends what runs and waits for it, at most 5 s by the clock.
func (l *life) end() error {
	l.mu.Lock()
	l.phase, l.draining = over, true
	l.mu.Unlock()
	l.cancel(drover.ErrStopping)
	timer := l.env.Clock.After(stuckAfter)
	for {
		l.mu.Lock()
		live, still := l.live, l.still
		l.mu.Unlock()
		if live == 0 {
			return nil
		}
		select {
		case <-still:
		case <-timer:
			return drover.ErrStuck
		}
	}
}

// spawn runs f as a goroutine that Run waits for.
func (l *life) spawn(name string, f func()) {
	l.mu.Lock()
	l.live++
	l.mu.Unlock()
	l.env.Go(name, func() {
		defer func() {
			l.mu.Lock()
			l.live--
			l.mu.Unlock()
			l.stir()
		}()
		f()
	})
}

// stir wakes who waits in until.
func (l *life) stir() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.still)
	l.still = make(chan struct{})
}

// until waits until ok, which is asked each time something has ended, or gives ctx's cause.
func (l *life) until(ctx context.Context, ok func() bool) error {
	for {
		l.mu.Lock()
		still := l.still
		l.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-still:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
