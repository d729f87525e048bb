package job_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// telemetry records what a node tells OpenTelemetry.
type telemetry struct {
	tracenoop.TracerProvider
	mu        sync.Mutex
	spans     []*recordedSpan
	metrics   []string // name and attributes of what was recorded
	callbacks []func(context.Context) error
}

func (t *telemetry) Tracer(string, ...trace.TracerOption) trace.Tracer { return &recordedTracer{to: t} }

type recordedTracer struct {
	tracenoop.Tracer
	to *telemetry
}

type recordedSpan struct {
	tracenoop.Span
	to     *telemetry
	name   string
	sc     trace.SpanContext
	parent trace.SpanContext
	attrs  []attribute.KeyValue
	links  []trace.SpanContext
	status string
	ended  int
}

func (r *recordedTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t := r.to
	t.mu.Lock()
	defer t.mu.Unlock()
	n := byte(len(t.spans) + 1)
	s := &recordedSpan{to: t, name: name, parent: trace.SpanContextFromContext(ctx)}
	s.sc = trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, n}, SpanID: trace.SpanID{1, n}, TraceFlags: trace.FlagsSampled})
	cfg := trace.NewSpanStartConfig(opts...)
	s.attrs = cfg.Attributes()
	t.spans = append(t.spans, s)
	return trace.ContextWithSpan(ctx, s), s
}

func (s *recordedSpan) change(f func()) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	f()
}

func (s *recordedSpan) IsRecording() bool              { return true }
func (s *recordedSpan) SpanContext() trace.SpanContext { return s.sc }
func (s *recordedSpan) End(...trace.SpanEndOption)     { s.change(func() { s.ended++ }) }
func (s *recordedSpan) SetAttributes(kv ...attribute.KeyValue) {
	s.change(func() { s.attrs = append(s.attrs, kv...) })
}
func (s *recordedSpan) SetStatus(c codes.Code, text string) {
	s.change(func() { s.status = c.String() + " " + text })
}
func (s *recordedSpan) AddLink(l trace.Link) {
	s.change(func() { s.links = append(s.links, l.SpanContext) })
}

func (s *recordedSpan) attr(key string) string {
	for _, a := range slices.Backward(s.attrs) {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// named are the spans of that name, in order of their start.
func (t *telemetry) named(name string) (spans []*recordedSpan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.spans {
		if s.name == name {
			spans = append(spans, s)
		}
	}
	return spans
}

func (t *telemetry) record(name string, set attribute.Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics = append(t.metrics, name+" "+fmt.Sprint(set.ToSlice()))
}

// has says whether something was recorded whose text has all these parts.
func (t *telemetry) has(parts ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.metrics, func(m string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(m, p) })
	})
}

// count is how often a metric of that name was recorded.
func (t *telemetry) count(name string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.metrics {
		if strings.HasPrefix(m, name+" ") {
			n++
		}
	}
	return n
}

// collect runs the callbacks.
func (t *telemetry) collect(ctx context.Context) error {
	t.mu.Lock()
	all := slices.Clone(t.callbacks)
	t.mu.Unlock()
	for _, f := range all {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// text is everything.
func (t *telemetry) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, s := range t.spans {
		fmt.Fprintln(&b, s.name, s.attrs, s.status)
	}
	for _, m := range t.metrics {
		fmt.Fprintln(&b, m)
	}
	return b.String()
}

// meters is the metric half: telemetry cannot be both providers, whose embedded types collide.
type meters struct {
	metricnoop.MeterProvider
	to *telemetry
}

func (m meters) Meter(string, ...metric.MeterOption) metric.Meter { return &recordedMeter{to: m.to} }

type recordedMeter struct {
	metricnoop.Meter
	to *telemetry
}

type recordedCounter struct {
	metricnoop.Int64Counter
	name string
	to   *telemetry
}

func (c recordedCounter) Enabled(context.Context) bool { return true }
func (c recordedCounter) Add(_ context.Context, _ int64, o ...metric.AddOption) {
	c.to.record(c.name, metric.NewAddConfig(o).Attributes())
}

type recordedUpDown struct {
	metricnoop.Int64UpDownCounter
	name string
	to   *telemetry
}

func (c recordedUpDown) Enabled(context.Context) bool { return true }
func (c recordedUpDown) Add(_ context.Context, _ int64, o ...metric.AddOption) {
	c.to.record(c.name, metric.NewAddConfig(o).Attributes())
}

type recordedHistogram struct {
	metricnoop.Float64Histogram
	name string
	to   *telemetry
}

func (c recordedHistogram) Enabled(context.Context) bool { return true }
func (c recordedHistogram) Record(_ context.Context, _ float64, o ...metric.RecordOption) {
	c.to.record(c.name, metric.NewRecordConfig(o).Attributes())
}

type namedInt struct {
	metricnoop.Int64ObservableGauge
	name string
}

type namedFloat struct {
	metricnoop.Float64ObservableGauge
	name string
}

func (m *recordedMeter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return recordedCounter{name: name, to: m.to}, nil
}

func (m *recordedMeter) Int64UpDownCounter(name string, _ ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	return recordedUpDown{name: name, to: m.to}, nil
}

func (m *recordedMeter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return recordedHistogram{name: name, to: m.to}, nil
}

func (m *recordedMeter) Int64ObservableGauge(name string, _ ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return namedInt{name: name}, nil
}

func (m *recordedMeter) Float64ObservableGauge(name string, _ ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return namedFloat{name: name}, nil
}

func (m *recordedMeter) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.to.mu.Lock()
	defer m.to.mu.Unlock()
	m.to.callbacks = append(m.to.callbacks, func(ctx context.Context) error { return f(ctx, observer{to: m.to}) })
	return metricnoop.Registration{}, nil
}

type observer struct {
	metricnoop.Observer
	to *telemetry
}

func (o observer) ObserveInt64(g metric.Int64Observable, n int64, opts ...metric.ObserveOption) {
	o.to.record(fmt.Sprint(g.(namedInt).name, " ", n), metric.NewObserveConfig(opts).Attributes())
}

func (o observer) ObserveFloat64(g metric.Float64Observable, _ float64, opts ...metric.ObserveOption) {
	o.to.record(g.(namedFloat).name, metric.NewObserveConfig(opts).Attributes())
}
