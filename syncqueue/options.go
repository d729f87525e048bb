package syncqueue

import (
	"fmt"
	"time"
)

// Option is an option of Local.Do and Local.Go.
type Option func(*options)

type options struct {
	name             string
	pending, running time.Duration
	maxPending       int
	maxOf            string
	coalesceOf       string
	limited, shared  bool
	reentrant        bool
}

// Name is shown by Local.Tasks and in warnings.
func Name(s string) Option { return func(o *options) { o.name = s } }

// MaxPending refuses the call with ErrFull when n+1 tasks of the key with the same dedupe string are inside, running or
// pending; n = 0 admits one at a time. Each dedupe string of a key has its own count.
func MaxPending(n int, dedupe string) Option {
	return func(o *options) { o.limited, o.maxPending, o.maxOf = true, n, dedupe }
}

// Coalesce joins a pending task of the key with the same dedupe string, if there is one: it runs once, and its error goes
// to all. A running one is not joined, so the run began after the last request. The task runs on a goroutine of its own,
// with the values of the first caller's ctx; who gives up leaves alone, and the task is dropped, or its ctx cancelled,
// with the last.
func Coalesce(dedupe string) Option {
	return func(o *options) { o.shared, o.coalesceOf = true, dedupe }
}

// Deadline bounds the wait for the turn (ErrExpired) and the run (the function's ctx ends as by context.WithTimeout; its
// turn ends when it returns). 0 is no bound.
func Deadline(pending, running time.Duration) Option {
	return func(o *options) { o.pending, o.running = pending, running }
}

// AllowReentrant runs the function in place, under the turn that is held, when its key is held by the caller already.
func AllowReentrant() Option { return func(o *options) { o.reentrant = true } }

func newOptions(opts []Option) (o options, err error) {
	if len(opts) == 0 {
		return o, nil
	}
	p := new(options)
	for _, f := range opts {
		f(p)
	}
	switch {
	case p.pending < 0 || p.running < 0:
		return o, fmt.Errorf("%w: Deadline(%v, %v) is negative", ErrInvalid, p.pending, p.running)
	case p.maxPending < 0:
		return o, fmt.Errorf("%w: MaxPending(%d) is negative", ErrInvalid, p.maxPending)
	}
	return *p, nil
}
