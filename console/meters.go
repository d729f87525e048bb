package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/console"

// meters are the console's instruments. Without an SDK none is enabled.
type meters struct {
	tracer                                 trace.Tracer
	requests, frames, gone, verbs, missing metric.Int64Counter
	duration                               metric.Float64Histogram
	watch                                  metric.Registration
}

func (m *meters) init(c *Console) error {
	m.tracer = c.env.Tracer.Tracer(scope)
	meter := c.env.Meter.Meter(scope)
	var errs []error
	for _, n := range []struct {
		to         *metric.Int64Counter
		name, what string
	}{
		{&m.requests, "requests", "Requests, by route and code."},
		{&m.frames, "stream.frames", "Frames sent to live streams, by topic."},
		{&m.gone, "stream.gone", "Streams that were told to read again, by reason."},
		{&m.verbs, "verbs", "Verbs, by verb and outcome."},
		{&m.missing, "scatter.missing", "Nodes that did not answer in time."},
	} {
		var err error
		*n.to, err = meter.Int64Counter("drover.console."+n.name, metric.WithDescription(n.what))
		errs = append(errs, err)
	}
	var err error
	m.duration, err = meter.Float64Histogram("drover.console.request.duration", metric.WithUnit("s"), metric.WithDescription("Requests but streams, by route."))
	errs = append(errs, err)
	streams, err := meter.Int64ObservableGauge("drover.console.streams", metric.WithDescription("Live streams that are open."))
	errs = append(errs, err)
	m.watch, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(streams, int64(c.hub.streams()))
		return nil
	}, streams)
	return errors.Join(append(errs, err)...)
}

// told counts a frame.
func (m *meters) told(topic, reason string) {
	ctx := context.Background()
	if topic == "gone" {
		m.gone.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
	}
	if m.frames.Enabled(ctx) {
		m.frames.Add(ctx, 1, metric.WithAttributes(attribute.String("topic", topic)))
	}
}

func (m *meters) verb(v Verb, outcome string) {
	m.verbs.Add(context.Background(), 1, metric.WithAttributes(attribute.String("verb", string(v)), attribute.String("outcome", outcome)))
}

// watched notes the status of an answer.
type watched struct {
	http.ResponseWriter
	code int
}

func (w *watched) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *watched) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets a ResponseController reach the server's writer.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// measured serves a request under a span named by the pattern of its route, and counts it.
func (c *Console) measured(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request)) {
	_, pattern := c.mux.Handler(r)
	if pattern == "" {
		pattern = "none"
	}
	from := c.now()
	ctx, span := c.meters.tracer.Start(r.Context(), pattern, trace.WithSpanKind(trace.SpanKindServer))
	ww := &watched{ResponseWriter: w}
	defer func() {
		code := ww.code
		if span.IsRecording() {
			span.SetAttributes(attribute.String("http.route", pattern), attribute.Int("http.response.status_code", code))
			if code >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, http.StatusText(code))
			}
		}
		span.End()
		if c.meters.requests.Enabled(ctx) {
			route := attribute.String("route", pattern)
			c.meters.requests.Add(ctx, 1, metric.WithAttributes(route, attribute.Int("code", code)))
			if pattern != "GET /v1/events" {
				c.meters.duration.Record(ctx, c.now().Sub(from).Seconds(), metric.WithAttributes(route))
			}
		}
	}()
	serve(ww, r.WithContext(ctx))
}

// since is how long ago t was.
func (c *Console) since(t time.Time) time.Duration { return c.now().Sub(t) }
