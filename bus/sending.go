package bus

import (
	"context"
	"sync"
	"time"

	"github.com/drover-cloud/drover/internal/alarm"
)

// sending is one goroutine's way to end a send at its deadline.
type sending struct {
	alarm.Alarm
	b        *Bus
	mu       sync.Mutex
	ctx      context.Context
	cancel   context.CancelCauseFunc
	deadline time.Time
}

func (s *sending) name() string { return "way" }

// fire ends the send under way if its deadline has come.
func (s *sending) Fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.b.env.Clock.Now().Before(s.deadline) {
		s.cancel(context.DeadlineExceeded)
	}
}

// begin is the context of the next send.
func (s *sending) begin(deadline time.Time) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = deadline
	if s.ctx == nil || s.ctx.Err() != nil {
		s.ctx, s.cancel = context.WithCancelCause(s.b.ctx)
	}
	return s.ctx
}

// free lets the context go.
func (s *sending) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(context.Canceled)
	}
}
