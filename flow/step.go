package flow

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const defaultUndoTimeout = 5 * time.Minute

// step is a step as a flow keeps it: a function, or another flow.
type step[S any] struct {
	name     string
	do, undo func(context.Context, *S) error
	when     func(context.Context, *S) (bool, error)
	sub      subflow[S]
	opts     options
}

type options struct {
	when                 any
	timeout, undoTimeout time.Duration
	policy               func() backoff.BackOff
	max                  int // tries
	retryIf              func(error) bool
	undoOnlyDone         bool
	undoTries            int
	bad                  string
}

// Option of a step.
type Option func(*options)

func newStep[S any](flow, name string, do, undo func(context.Context, *S) error, opts []Option) step[S] {
	s := step[S]{name: name, do: do, undo: undo, opts: options{undoTimeout: defaultUndoTimeout, max: 1, undoTries: 3}}
	for _, o := range opts {
		o(&s.opts)
	}
	if s.opts.when != nil {
		when, ok := s.opts.when.(func(context.Context, *S) (bool, error))
		if !ok {
			s.opts.bad = fmt.Sprintf("When takes another state than the flow's %T", new(S))
		}
		s.when = when
	}
	if s.opts.bad != "" {
		panic(fmt.Sprintf("flow: %s: step %q: %s", flow, name, s.opts.bad))
	}
	return s
}

// When asks, once, just before the step, whether it is needed; if not it is skipped. An error fails the step without
// starting it.
func When[S any](ask func(context.Context, *S) (bool, error)) Option {
	return func(o *options) {
		if o.when = ask; ask == nil {
			o.bad = "When(nil)"
		}
	}
}

// Timeout ends the ctx of each try of do after d, with cause [ErrStepTimeout]; default none. A do that ignores it is waited
// for, and logged every 30 s.
func Timeout(d time.Duration) Option {
	return func(o *options) { o.timeout = positive(o, "Timeout", d) }
}

// UndoTimeout does so for each try of undo; default 5 min.
func UndoTimeout(d time.Duration) Option {
	return func(o *options) { o.undoTimeout = positive(o, "UndoTimeout", d) }
}

func positive(o *options, name string, d time.Duration) time.Duration {
	if d <= 0 {
		o.bad = fmt.Sprintf("%s(%v) must be positive", name, d)
	}
	return d
}

// Retry runs a failing do up to max times in all; between tries it waits as a fresh policy says (nil: 1 s, doubled up to
// 1 min, ±20 %), whose Stop ends it. The randomisation of an exponential policy is drawn from Env.Rand and its
// MaxElapsedTime ignored. Default: one try.
func Retry(policy func() backoff.BackOff, max int) Option {
	return func(o *options) {
		if o.policy, o.max = policy, max; max < 1 {
			o.bad = fmt.Sprintf("Retry: max %d must be at least 1", max)
		}
	}
}

// RetryIf says which errors are worth another try. Default: all but backoff.Permanent, drover.Permanent and the end of ctx.
func RetryIf(worth func(error) bool) Option { return func(o *options) { o.retryIf = worth } }

// UndoOnlyDone leaves out the undo if do has failed.
func UndoOnlyDone() Option { return func(o *options) { o.undoOnlyDone = true } }

// NoRetryUndo gives undo one try instead of three.
func NoRetryUndo() Option { return func(o *options) { o.undoTries = 1 } }
