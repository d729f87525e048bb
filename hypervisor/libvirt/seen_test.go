package libvirt_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// book is all that is told of a driver: counts by name and labels, gauges, names of spans, logs.
type book struct {
	metricnoop.MeterProvider
	mu       sync.Mutex
	log      bytes.Buffer
	counts   map[string]int64
	spans    []string
	callback metric.Callback
}

type (
	meter struct {
		metricnoop.Meter
		b *book
	}
	counter struct {
		metricnoop.Int64Counter
		name string
		b    *book
	}
	histogram struct {
		metricnoop.Float64Histogram
		counter
	}
	gauge struct {
		metricnoop.Int64ObservableGauge
		name string
	}
	observer struct {
		metricnoop.Observer
		b *book
	}
	tracers struct {
		noop.TracerProvider
		b *book
	}
	tracer struct {
		noop.Tracer
		b *book
	}
	span struct {
		trace.Span
		b    *book
		name string
	}
)

func (b *book) Meter(string, ...metric.MeterOption) metric.Meter { return meter{b: b} }
func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *book) note(name string, n int64, set attribute.Set) {
	for _, kv := range set.ToSlice() { // sorted by key
		name += " " + kv.Value.String()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[strings.TrimPrefix(name, "drover.hypervisor.")] += n
}

func (m meter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counter{name: name, b: m.b}, nil
}

func (m meter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return histogram{counter: counter{name: name, b: m.b}}, nil
}

func (m meter) Int64ObservableGauge(name string, _ ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return gauge{name: name}, nil
}

func (m meter) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.b.callback = f
	return metricnoop.Registration{}, nil
}
func (counter) Enabled(context.Context) bool { return true }
func (c counter) Add(_ context.Context, n int64, opts ...metric.AddOption) {
	c.b.note(c.name, n, metric.NewAddConfig(opts).Attributes())
}
func (histogram) Enabled(context.Context) bool { return true }
func (h histogram) Record(_ context.Context, _ float64, opts ...metric.RecordOption) {
	h.b.note(h.name, 1, metric.NewRecordConfig(opts).Attributes())
}

func (o observer) ObserveInt64(g metric.Int64Observable, n int64, opts ...metric.ObserveOption) {
	o.b.note(g.(gauge).name, n, metric.NewObserveConfig(opts).Attributes())
}

func (t tracers) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracer{b: t.b} }
func (t tracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	if parent, ok := trace.SpanFromContext(ctx).(span); ok {
		name = parent.name + "/" + name
	}
	s := span{trace.SpanFromContext(context.Background()), t.b, name}
	return trace.ContextWithSpan(ctx, s), s
}
func (span) IsRecording() bool { return true }
func (s span) End(...trace.SpanEndOption) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.spans = append(s.b.spans, s.name)
}

func TestTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := &book{counts: map[string]int64{}}, newFake()
		f.set("a", on)
		d, err := libvirt.New(libvirt.Config{URI: "qemu:///session", Dial: f.dial,
			Env: drover.Env{Meter: b, Tracer: tracers{b: b}, Logger: slog.New(slog.NewTextHandler(b, nil))}})
		ok(t, err)
		e := hear(t, d, nil)
		same(t, e.fresh(), "sync a", "synced")
		_, err = d.Get(t.Context(), fakeID(1))
		ok(t, err)
		_, err = d.Get(t.Context(), fakeID(9))
		is(t, err, hypervisor.ErrNotFound)
		is(t, d.Stop(t.Context(), fakeID(1), hypervisor.StopOptions{Epoch: -1}), hypervisor.ErrStaleEpoch)
		f.on(rpc.DomainSuspend, func(rpc.Reply) (rpc.Args, error) { return nil, errNoReply })
		is(t, d.Pause(within(t, time.Second), fakeID(1)), hypervisor.ErrOutcomeUnknown)
		ok(t, b.callback(t.Context(), observer{b: b}))
		ok(t, d.Close())
		f.refuses(true)
		if err := <-e.done; !errors.Is(err, hypervisor.ErrClosed) {
			t.Error(err)
		}
		for name, n := range map[string]int64{
			"calls ok get": 1, "calls not_found get": 1, "calls stale_epoch stop": 1, "calls timeout pause": 1, "duration get": 2, "dials ok": 2,
			"events synced": 1, "stale_epoch": 1, "outcome_unknown": 1, "inflight control " + fakeHost: 1, "state " + fakeHost + " up": 1,
		} {
			if b.counts[name] != n {
				t.Errorf("%s: %d, want %d", name, b.counts[name], n)
			}
		}
		if b.counts["queue_wait query"] == 0 || !strings.Contains(strings.Join(b.spans, " "), "hypervisor.get/libvirt.DOMAIN_LOOKUP_BY_UUID") {
			t.Error(b.counts, b.spans)
		}
		for name := range b.counts {
			if strings.Contains(name, fakeID(1)) || strings.Contains(name, fakeID(9)) {
				t.Error("a label names a vm:", name)
			}
		}
	})
}
