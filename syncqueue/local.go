package syncqueue

import (
	"context"
	"time"

	"github.com/drover-cloud/drover"
)

// Local takes turns within a process: level of them at a time per key, in order of arrival.
// A function's return ends its turn; its context carries the keys held, so re-entry is ErrReentrant.
type Local struct {
	Env        drover.Env
	Level      func(Key) int // nil = 1; <=0 = unlimited; a property of the key, never of the caller
	MaxTotal   int           // 0 = none
	Backlog    int           // first warning; default 50
	StuckAfter time.Duration // default 10m
}

func (l *Local) Do(ctx context.Context, k Key, f func(context.Context) error, opts ...Option) error {
	return nil
}
func (l *Local) Go(ctx context.Context, k Key, f func(context.Context) error, opts ...Option) *Handle {
	return nil
}
func (l *Local) SetLevel(k Key, n int)           {}
func (l *Local) Stats() []Stat                   { return nil }
func (l *Local) Tasks(k Key) []Task              { return nil }
func (l *Local) Running(k Key) bool              { return false }
func (l *Local) Drain(ctx context.Context) error { return nil }

// Single coalesces: callers that arrive while k runs share its result.
func Single[R any](ctx context.Context, l *Local, k Key, f func(context.Context) (R, error)) (r R, err error) {
	return
}

type Option func(*options)
type options struct{}

func Name(s string) Option                           { return nil }
func MaxPending(n int, dedupe string) Option         { return nil } // beyond n pending with the same dedupe: ErrFull
func Coalesce(dedupe string) Option                  { return nil } // joins the pending one
func Deadline(pending, running time.Duration) Option { return nil } // 0 = none
func AllowReentrant() Option                         { return nil }

type Handle struct{ _ int }

func (h *Handle) Wait(ctx context.Context) error { return nil }
func (h *Handle) Cancel()                        {}

type Task struct {
	Name     string
	Since    time.Time
	Running  bool
	Position int
}
