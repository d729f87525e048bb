package drover

import (
	"context"
	"fmt"
	"time"
)

const (
	quickPings   = 10
	quickPing    = 10 * time.Second
	slowPing     = time.Minute
	waitBackoff  = time.Second
	waitMaxDelay = 10 * time.Second
)

// WaitOption is an option of WaitFor.
type WaitOption func(*waitOptions)

type waitOptions struct{ attempts int }

// Attempts bounds the pings of WaitFor, which then gives ErrUnavailable; n < 1 is no bound.
func Attempts(n int) WaitOption { return func(o *waitOptions) { o.attempts = n } }

// WaitFor pings until that succeeds: for something a service cannot start without, as Nova waits for its conductor. The
// first ten pings have 10 s each, later ones 60 s, by their ctx; after one that failed earlier it waits 1 s, doubled up to
// 10 s, ±20 %. It gives the cause of ctx as soon as that is done, or ErrUnavailable with the last error after Attempts.
func WaitFor(ctx context.Context, e Env, name string, ping func(ctx context.Context) error, opts ...WaitOption) error {
	var o waitOptions
	for _, f := range opts {
		f(&o)
	}
	e = e.Defaults()
	begun := e.Clock.Now()
	delay := waitBackoff
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		limit := slowPing
		if n <= quickPings {
			limit = quickPing
		}
		sent := e.Clock.Now()
		err := within(ctx, e, limit, ping)
		switch {
		case err == nil:
			e.Logger.Info("reached", "what", name, "after", e.Clock.Now().Sub(begun), "attempts", n)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		e.Logger.Warn("not reached", "what", name, "attempt", n, "error", err)
		if n == o.attempts {
			return fmt.Errorf("drover: %s: %w after %d attempts: %w", name, ErrUnavailable, n, err)
		}
		if e.Clock.Now().Sub(sent) < limit {
			if err := e.Sleep(ctx, spread(e.Rand, delay, 0.2)); err != nil {
				return err
			}
			delay = min(2*delay, waitMaxDelay)
		}
	}
}

// within is f with a ctx that ends after d of e's clock, and its panic as its error.
func within(ctx context.Context, e Env, d time.Duration, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := e.Clock.After(d)
	over := make(chan struct{})
	defer close(over)
	e.Go("wait", func() {
		select {
		case <-over:
		case <-timer:
			cancel(context.DeadlineExceeded)
		}
	})
	return guarded(func() error { return f(ctx) })
}
