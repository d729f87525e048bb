package dispatch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/dispatch"
)

// What f is handed is context.WithTimeout in all but its price.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r dispatch.Registry
		var use func(ctx context.Context)
		var kept context.Context
		dispatch.Sync(&r, "c", func(ctx context.Context, _ empty) (int, error) { use(ctx); kept = ctx; return 0, nil }, dispatch.Timeout(time.Second))
		run := func(name string, parent context.Context, f func(ctx context.Context)) {
			t.Helper()
			use = f
			if _, err := r.Dispatch(parent, &dispatch.Command{Name: "c"}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		run("dispatch-20 deadline and children", t.Context(), func(ctx context.Context) {
			time.Sleep(300 * time.Millisecond)
			if ctx.Err() != nil {
				t.Error("ended early")
			}
			if at, ok := ctx.Deadline(); !ok || time.Until(at) != 700*time.Millisecond {
				t.Errorf("deadline in %v", time.Until(at))
			}
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			if !errors.Is(child.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(child), context.DeadlineExceeded) || ctx.Err() == nil {
				t.Errorf("child %v, cause %v", child.Err(), context.Cause(child))
			}
		})
		run("dispatch-20 Err alone", t.Context(), func(ctx context.Context) {
			time.Sleep(time.Second)
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("after the timeout: %v", ctx.Err())
			}
		})
		cause := errors.New("caller left")
		parent, leave := context.WithCancelCause(t.Context())
		run("dispatch-20 the caller leaves", parent, func(ctx context.Context) {
			leave(cause)
			if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), cause) {
				t.Errorf("%v, cause %v", ctx.Err(), context.Cause(ctx))
			}
			<-ctx.Done()
		})
		run("dispatch-20 kept", t.Context(), func(context.Context) {})
		select {
		case <-kept.Done():
		default:
			t.Error("what was kept of the context goes on")
		}
		if !errors.Is(kept.Err(), context.Canceled) {
			t.Errorf("kept: %v", kept.Err())
		}
	})
}
