package drover_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
)

func TestSpecWaitFor(t *testing.T) {
	bubble(t, "service-07 fifteen failures", func(t *testing.T) {
		var buf bytes.Buffer
		e := drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(&buf, nil))}
		var limits []time.Duration
		err := drover.WaitFor(t.Context(), e, "store", func(ctx context.Context) error {
			begun := time.Now()
			if len(limits) == 15 {
				limits = append(limits, 60*time.Second)
				return nil
			}
			<-ctx.Done()
			limits = append(limits, time.Since(begun))
			return context.Cause(ctx)
		})
		if err != nil || len(limits) != 16 {
			t.Fatal(limits, err)
		}
		for i, d := range limits {
			if want := []time.Duration{10 * time.Second, time.Minute}[min(i/10, 1)]; d != want {
				t.Errorf("ping %d had %v, want %v", i+1, d, want)
			}
		}
		text := buf.String()
		if n := strings.Count(text, "level=WARN"); n != 15 || strings.Count(text, "level=INFO") != 1 || !strings.Contains(text, "attempt=15") || !strings.Contains(text, "after=6m40s") {
			t.Errorf("%d warnings:\n%s", n, text)
		}
	})
	bubble(t, "service-07 pings that fail early", func(t *testing.T) {
		var at []time.Time
		err := drover.WaitFor(t.Context(), quiet(), "store", func(context.Context) error { at = append(at, time.Now()); panic(errBoom) }, drover.Attempts(7))
		if !errors.Is(err, drover.ErrUnavailable) || !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "store") {
			t.Error(err)
		}
		checkDelays(t, at, 1, 2, 4, 8, 10, 10)
	})
	bubble(t, "service-07 attempts and the end of ctx", func(t *testing.T) {
		n := 0
		fail := func(context.Context) error { n++; return errBoom }
		if err := drover.WaitFor(t.Context(), quiet(), "x", fail, drover.Attempts(3)); !errors.Is(err, drover.ErrUnavailable) || n != 3 {
			t.Errorf("%d pings: %v", n, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(1500*time.Millisecond, func() { cancel(errBoom) })
		start := time.Now()
		if err := drover.WaitFor(ctx, quiet(), "x", func(ctx context.Context) error { return errors.New("no") }); err != errBoom || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		n = 0
		if err := drover.WaitFor(ctx, quiet(), "x", fail); err != errBoom || n != 0 {
			t.Errorf("%d pings: %v", n, err)
		}
	})
}
