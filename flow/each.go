package flow

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/drover-cloud/drover"
)

// Each runs fn over items, at most parallel at once (0 = 16; it panics below), and returns one error per item, in item
// order, once all that were started have ended. After fn has returned [Stop], wrapped or not, or ctx has ended, no more
// items are started: theirs is [ErrSkipped]. A panic of fn is its error, a *[drover.PanicError]. Each may be nested.
func Each[T any](ctx context.Context, e drover.Env, parallel int, items []T, fn func(context.Context, T) error) []error {
	if parallel < 0 {
		panic(fmt.Sprintf("flow: Each: parallel %d", parallel))
	}
	if parallel == 0 {
		parallel = 16
	}
	errs := make([]error, len(items))
	if len(items) == 0 {
		return errs
	}
	run := e.Defaults().For(ctx).Go
	var stopped atomic.Bool
	ended := make(chan struct{}, len(items))
	running := 0
	for i := range items {
		if running == parallel {
			<-ended
			running--
		}
		if stopped.Load() || ctx.Err() != nil {
			errs[i] = ErrSkipped
			if ctx.Err() != nil {
				errs[i] = fmt.Errorf("%w: %w", ErrSkipped, context.Cause(ctx))
			}
			continue
		}
		running++
		run(fmt.Sprint("each/", i), func() {
			defer func() { ended <- struct{}{} }()
			errs[i] = &drover.PanicError{} // runtime.Goexit, until fn returns
			errs[i] = safely(func() error { return fn(ctx, items[i]) })
			if errors.Is(errs[i], Stop) {
				stopped.Store(true)
			}
		})
	}
	for ; running > 0; running-- {
		<-ended
	}
	return errs
}

// safely turns a panic into an error.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &drover.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
