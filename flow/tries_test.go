package flow_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/flow"
)

func TestTries(t *testing.T) {
	t.Parallel()
	constant := func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) }
	for _, c := range []struct {
		name  string
		fails int
		err   error
		opts  []flow.Option
		calls int
		took  time.Duration
		ok    bool
	}{
		{"flow-15 third time", 2, errBoom, []flow.Option{flow.Retry(constant, 3)}, 3, 2 * time.Second, true},
		{"flow-15 RetryIf", 2, errBoom, []flow.Option{flow.Retry(constant, 3), flow.RetryIf(func(error) bool { return false })}, 1, 0, false},
		{"flow-15 permanent", 2, backoff.Permanent(errBoom), []flow.Option{flow.Retry(constant, 3)}, 1, 0, false},
		{"flow-15 drover.Permanent", 2, drover.Permanent(errBoom), []flow.Option{flow.Retry(constant, 3)}, 1, 0, false},
		{"flow-15 all fail", 9, errBoom, []flow.Option{flow.Retry(constant, 3)}, 3, 2 * time.Second, false},
		{"flow-15 policy stops", 9, errBoom, []flow.Option{flow.Retry(func() backoff.BackOff { return &backoff.StopBackOff{} }, 3)}, 1, 0, false},
		{"one try by default", 1, errBoom, nil, 1, 0, false},
		{"continue is no failure", 1, flow.Continue(errBoom), []flow.Option{flow.Retry(constant, 3)}, 1, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, calls, undone := time.Now(), 0, 0
				var tries []int
				f := abc("", nil).Then("x", func(ctx context.Context, _ *trail) error {
					tries = append(tries, flow.Current(ctx).Try)
					if calls++; calls <= c.fails {
						return c.err
					}
					return nil
				}, func(context.Context, *trail) error { undone++; return nil }, c.opts...)
				err := f.Run(t.Context(), &trail{})
				if (err == nil) != c.ok || calls != c.calls || time.Since(begin) != c.took || tries[len(tries)-1] != calls {
					t.Errorf("%v after %d calls (%v) and %v", err, calls, tries, time.Since(begin))
				}
			})
		})
	}
	t.Run("flow-16 timeout", timeouts)
}

func timeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		env := drover.Env{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		var cause error
		f := flow.New[trail]("f").Env(env).Then("slow", func(ctx context.Context, _ *trail) error {
			select {
			case <-ctx.Done():
				cause = context.Cause(ctx)
				return ctx.Err()
			case <-time.After(10 * time.Second):
				return nil
			}
		}, nil, flow.Timeout(time.Second))
		begin := time.Now()
		wantStep(t, f.Run(t.Context(), &trail{}), "slow", flow.ErrStepTimeout)
		if time.Since(begin) != time.Second || !errors.Is(cause, flow.ErrStepTimeout) {
			t.Errorf("after %v, cause %v", time.Since(begin), cause)
		}
		f = flow.New[trail]("f").Env(env).Then("deaf", func(context.Context, *trail) error {
			time.Sleep(40 * time.Second)
			return errBoom
		}, nil, flow.Timeout(time.Second))
		begin = time.Now()
		wantStep(t, f.Run(t.Context(), &trail{}), "deaf", flow.ErrStepTimeout)
		if d := time.Since(begin); d != 40*time.Second || strings.Count(log.String(), "step=deaf") != 2 { // the warning, the end
			t.Errorf("after %v, log: %s", d, &log)
		}
	})
}
