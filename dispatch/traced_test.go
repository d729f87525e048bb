package dispatch

import (
	"errors"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// What wraps a command's error may steer its job, as job.Permanent does: a trace id must not cost it.
func TestTracedKeepsWrappers(t *testing.T) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	wrapper := errors.New("wrapper")
	err := traced(fmt.Errorf("%w: %w", wrapper, Errorf(WrongState, "is off")), sc, nil)
	var e *Error
	if !errors.Is(err, wrapper) || !errors.As(err, &e) || e.Code != WrongState || e.Text != "wrapper: is off" || e.Trace == "" {
		t.Fatalf("%#v", err)
	}
}
