package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover"
)

const scope = "github.com/drover-cloud/drover/dispatch"

// telemetry is what a Registry is seen by.
type telemetry struct {
	clock                       drover.Clock
	tracer                      trace.Tracer
	duration                    metric.Float64Histogram
	commands, stages, unknown   metric.Int64Counter
	replayed, undone, uncertain metric.Int64Counter
}

func newTelemetry(env drover.Env) *telemetry {
	m := env.Meter.Meter(scope)
	note := func(err error) {
		if err != nil {
			env.Logger.Warn("metric refused", "error", err)
		}
	}
	counter := func(name, doc string) metric.Int64Counter {
		c, err := m.Int64Counter("drover.dispatch."+name, metric.WithDescription(doc))
		note(err)
		return c
	}
	d, err := m.Float64Histogram("drover.dispatch.duration", metric.WithUnit("s"), metric.WithDescription("time from a command's arrival to its answer"))
	note(err)
	return &telemetry{
		clock: env.Clock, tracer: env.Tracer.Tracer(scope), duration: d,
		commands: counter("commands", "commands answered"), stages: counter("stage", "commands that a stage refused"),
		unknown:  counter("unknown_params", "parameters that no command knows"),
		replayed: counter("replayed", "requests answered with the first answer"), undone: counter("undone", "entities taken back"),
		uncertain: counter("uncertain", "submissions whose outcome could not be found out"),
	}
}

func count(ctx context.Context, c metric.Int64Counter, attrs ...attribute.KeyValue) {
	if c.Enabled(ctx) {
		c.Add(ctx, 1, metric.WithAttributes(attrs...))
	}
}

func (t *telemetry) rejected(ctx context.Context, stage string, err error) {
	count(ctx, t.stages, attribute.String("stage", stage), attribute.String("code", string(CodeOf(err))))
}

// spanned is check in a span of its own.
func (p *pass) spanned(ctx context.Context, name string, c *Command, check func(context.Context, *pass, *Command) error) error {
	ctx, span := p.reg.telemetry().tracer.Start(ctx, "dispatch.stage "+name)
	defer span.End()
	err := check(ctx, p, c)
	if err != nil {
		span.SetStatus(otelcodes.Error, string(CodeOf(err)))
	}
	return err
}

// Trace opens a span, counts, and writes one log line per command. An error gets the trace id, or a reference of its own where
// nothing is traced, which the log line has too.
func Trace() Stage {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Command) (any, error) {
			p, err := need(ctx, "trace")
			if err != nil {
				return nil, err
			}
			t, lg := p.reg.telemetry(), p.reg.env().Logger
			p.debug = lg.Enabled(ctx, slog.LevelDebug)
			timed := lg.Enabled(ctx, slog.LevelInfo) || t.duration.Enabled(ctx)
			var start time.Time
			if timed {
				start = t.clock.Now()
			}
			ctx, span := t.tracer.Start(ctx, p.reg.spanName(c.Name))
			defer span.End()
			r, err := next.Dispatch(ctx, c)
			if err != nil {
				err = traced(err, span.SpanContext(), p.reg.env().NewID)
			}
			var took time.Duration
			if timed {
				took = t.clock.Now().Sub(start)
			}
			p.account(ctx, span, r, err, took)
			return r, err
		})
	}
}

// account tells span, metrics and log what became of the command.
func (p *pass) account(ctx context.Context, span trace.Span, r any, err error, took time.Duration) {
	t, lg := p.reg.telemetry(), p.reg.env().Logger
	name, mode, version := "other", "", "" // an unknown name is the caller's text and must not become an attribute
	if p.cmd != nil {
		name, mode, version = p.cmd.name, p.cmd.info.Mode, p.cmd.version
	}
	code := string(CodeOf(err))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("command", name), attribute.String("mode", mode), attribute.String("version", version), attribute.String("code", code))
		if err != nil {
			span.SetStatus(otelcodes.Error, code)
		}
	}
	if t.commands.Enabled(ctx) {
		count(ctx, t.commands, attribute.String("command", name), attribute.String("mode", mode), attribute.String("code", code))
	}
	if t.duration.Enabled(ctx) {
		t.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("command", name), attribute.String("mode", mode)))
	}
	if !lg.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{
		slog.String("command", name), slog.String("code", code), slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("caller", p.callerName()), slog.Bool("executing", p.executing),
	}
	if a, ok := r.(Accepted); ok {
		attrs = append(attrs, slog.String("job", a.JobID))
	} else if p.executing {
		attrs = append(attrs, slog.String("job", p.c.JobID))
	}
	lg.LogAttrs(ctx, slog.LevelInfo, "command", append(attrs, reasonFor(err)...)...)
}

// reasonFor is what the log says of a failure: of bad parameters the name and the reason, not the value.
func reasonFor(err error) []slog.Attr {
	var fe *FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fe):
		return []slog.Attr{slog.String("parameter", fe.Field), slog.String("reason", fe.Reason)}
	}
	var e *Error
	attrs := []slog.Attr{slog.String("error", err.Error())}
	if errors.As(err, &e) && e.Trace != "" {
		attrs = append(attrs, slog.String("trace", e.Trace))
	}
	return attrs
}

// traced notes the trace id in the error, so that a caller who gets only a general text can be helped.
func traced(err error, sc trace.SpanContext, newID func() string) error {
	e := asError(err)
	switch {
	case e.Trace != "" && err == error(e): //nolint:errorlint // is it wrapped at all
		return err
	case e.Trace != "":
		return e
	}
	copied := *e
	if sc.HasTraceID() {
		copied.Trace = sc.TraceID().String()
	} else {
		copied.Trace = newID()
	}
	return &copied
}
