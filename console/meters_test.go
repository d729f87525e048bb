package console_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/drover-cloud/drover/console"
)

// telemetry notes what a console tells OpenTelemetry.
type telemetry struct {
	metricnoop.MeterProvider
	tracenoop.TracerProvider
	mu   sync.Mutex
	told []string
}

func (t *telemetry) note(s string) { t.mu.Lock(); t.told = append(t.told, s); t.mu.Unlock() }

func (t *telemetry) Meter(string, ...metric.MeterOption) metric.Meter  { return meter{to: t} }
func (t *telemetry) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracer{to: t} }

type meter struct {
	metricnoop.Meter
	to *telemetry
}

type counter struct {
	metricnoop.Int64Counter
	name string
	to   *telemetry
}

type histogram struct {
	metricnoop.Float64Histogram
	name string
	to   *telemetry
}

func (m meter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counter{name: name, to: m.to}, nil
}

func (m meter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return histogram{name: name, to: m.to}, nil
}

func (counter) Enabled(context.Context) bool { return true }
func (c counter) Add(_ context.Context, _ int64, opts ...metric.AddOption) {
	set := metric.NewAddConfig(opts).Attributes()
	c.to.note(c.name + " " + set.Encoded(attribute.DefaultEncoder()))
}

func (h histogram) Record(_ context.Context, _ float64, opts ...metric.RecordOption) {
	set := metric.NewRecordConfig(opts).Attributes()
	h.to.note(h.name + " " + set.Encoded(attribute.DefaultEncoder()))
}

type tracer struct {
	tracenoop.Tracer
	to *telemetry
}

func (t tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.to.note("span " + name)
	return t.Tracer.Start(ctx, name, opts...)
}

func TestTelemetry(t *testing.T) {
	t.Run("requests, verbs, frames and silent nodes are counted", func(t *testing.T) {
		seen := &telemetry{}
		inRig(t, func(c *console.Config) {
			c.Env.Meter, c.Env.Tracer = seen, seen
			c.Nodes = mesh{"ms1", map[string]*console.Console{"ms1": nil, "ms2": nil}, map[string]bool{"ms2": true}}
			c.Periodic = (&rig{env: c.Env}).task(nil, nil)
		}, func(r *rig) {
			v := view(r.c, "topics=job")
			j := r.submit("work", args{Name: "a"})
			time.Sleep(time.Second)
			r.ask(200, "POST", "/v1/jobs/"+j.ID+"/cancel", `{}`)
			r.ask(404, "GET", "/v1/jobs/no-such-job", "")
			r.ask(200, "GET", "/v1/periodic", "")
			view(r.c, "after=nonsense").close()
			v.close()
			for _, want := range []string{
				"span GET /v1/jobs/{id}", "drover.console.requests code=404,route=GET /v1/jobs/{id}", "drover.console.request.duration route=GET /v1/periodic",
				"drover.console.verbs outcome=done,verb=cancel", "drover.console.stream.frames topic=job", "drover.console.stream.gone reason=unknown id", "drover.console.scatter.missing ",
			} {
				if !slices.Contains(seen.told, want) {
					t.Errorf("no %q in %s", want, strings.Join(seen.told, "\n"))
				}
			}
		})
	})
}
