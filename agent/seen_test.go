package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// book is everything that is told of a process: logs, metrics, spans.
type book struct {
	noop.TracerProvider
	mu     sync.Mutex
	text   bytes.Buffer
	by     map[string]int64
	gauges map[string]metric.Int64Callback
	spans  []*span
}

func newBook() *book {
	return &book{by: map[string]int64{}, gauges: map[string]metric.Int64Callback{}}
}

func (b *book) env(node string) drover.Env {
	return drover.Env{Node: node, Logger: slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), Meter: meters{b: b}, Tracer: b}
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

type meters struct {
	metricnoop.MeterProvider
	b *book
}

type meter struct {
	metricnoop.Meter
	b *book
}

type instrument struct {
	metricnoop.Int64Counter
	name string
	b    *book
}

type histogram struct {
	metricnoop.Float64Histogram
	instrument
}

func (m meters) Meter(string, ...metric.MeterOption) metric.Meter { return meter{b: m.b} }
func (m meter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return instrument{name: name, b: m.b}, nil
}
func (m meter) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return histogram{instrument: instrument{name: name, b: m.b}}, nil
}
func (m meter) Int64ObservableGauge(name string, opts ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.b.gauges[name] = metric.NewInt64ObservableGaugeConfig(opts...).Callbacks()[0]
	return metricnoop.Int64ObservableGauge{}, nil
}

func (instrument) Enabled(context.Context) bool { return true }
func (i instrument) Add(_ context.Context, n int64, opts ...metric.AddOption) {
	i.note(n, metric.NewAddConfig(opts).Attributes())
}

func (histogram) Enabled(context.Context) bool { return true }
func (h histogram) Record(_ context.Context, _ float64, opts ...metric.RecordOption) {
	h.note(1, metric.NewRecordConfig(opts).Attributes())
}

func (i instrument) note(n int64, set attribute.Set) {
	key := i.name
	for _, kv := range set.ToSlice() { // sorted by key
		key += " " + kv.Value.String()
	}
	i.b.mu.Lock()
	defer i.b.mu.Unlock()
	i.b.by[key] += n
}

type observer struct {
	metricnoop.Int64Observer
	n int64
}

func (o *observer) Observe(n int64, _ ...metric.ObserveOption) { o.n = n }

func (b *book) gauge(name string) int64 {
	var o observer
	_ = b.gauges[name](bg, &o)
	return o.n
}

type tracer struct {
	noop.Tracer
	b *book
}

type span struct {
	trace.Span
	b      *book
	sc     trace.SpanContext
	parent trace.SpanContext
	name   string
	kind   trace.SpanKind
	said   []string
	ended  bool
}

func (b *book) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracer{b: b} }

func (t tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	parent := trace.SpanContextFromContext(ctx)
	n := byte(len(t.b.spans) + 1)
	cfg := trace.SpanContextConfig{TraceID: parent.TraceID(), SpanID: trace.SpanID{n, 1}, TraceFlags: trace.FlagsSampled}
	if !parent.IsValid() {
		cfg.TraceID = trace.TraceID{n, 1}
	}
	sc := trace.NewSpanStartConfig(opts...)
	x := &span{Span: noop.Span{}, b: t.b, sc: trace.NewSpanContext(cfg), parent: parent, name: name, kind: sc.SpanKind()}
	for _, a := range sc.Attributes() {
		x.said = append(x.said, string(a.Key)+"="+a.Value.String())
	}
	t.b.spans = append(t.b.spans, x)
	return trace.ContextWithSpan(ctx, x), x
}

func (x *span) SpanContext() trace.SpanContext { return x.sc }
func (x *span) IsRecording() bool              { return true }
func (x *span) SetStatus(_ codes.Code, text string) {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	x.said = append(x.said, text)
}
func (x *span) RecordError(err error, _ ...trace.EventOption) { x.SetStatus(codes.Error, err.Error()) }
func (x *span) End(...trace.SpanEndOption) {
	x.b.mu.Lock()
	defer x.b.mu.Unlock()
	x.ended = true
}

func TestSeen(t *testing.T) {
	bubble(t, "metrics and spans", seen)
	bubble(t, "agent-26 sec-29 canary", canary)
}

func seen(l *lab) {
	var r runs
	b, hb := newBook(), newBook()
	n := l.node("n1", func(c *agent.Config) { c.Env = b.env("n1") })
	h := l.host("h1", func(c *agent.ServerConfig) { c.Env = hb.env("h1") }, nap(&r))
	_, err := agent.Call[string](bg, n.Client, "http://h1/nap", 1.0)
	l.ok(err)
	_, err = agent.Call[string](bg, n.Client, "http://h1/none", 1.0)
	if !agent.NotRun(err) {
		l.Errorf("404: %v", err)
	}
	_, err = agent.Call[string](bg, n.Client, "http://h1/nap", 9.0, agent.Timeout(2*time.Second))
	l.is(err, agent.ErrTimeout)
	_, err = agent.Get[string](bg, n.Client, "http://h1/drover/echo")
	l.is(err, agent.ErrBadReply)
	_, err = n.Start(bg, "http://h1/nap", 40.0)
	l.ok(err)
	l.send("POST", "http://n1/drover/agent/callback", "{}", "Drover-Task", "nobody")
	if g := b.gauge("drover.agent.pending"); g != 1 {
		l.Errorf("pending %d", g)
	}
	if g := b.gauge("drover.agent.slots.waiting"); g != 0 {
		l.Errorf("slots.waiting %d", g)
	}
	time.Sleep(16 * time.Second)
	l.break_(func(r *http.Request) error {
		if r.URL.Host == "n1" {
			return errors.New("no way")
		}
		return nil
	})
	h.stop()
	l.host("h1", nil, nap(&r))
	time.Sleep(16 * time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	hb.mu.Lock()
	defer hb.mu.Unlock()
	for key, want := range map[string]int64{
		"drover.agent.calls h1 ok /nap": 1, "drover.agent.calls h1 not-run /none": 1, "drover.agent.calls h1 timeout /nap": 1,
		"drover.agent.calls h1 bad-reply /drover/echo": 1, "drover.agent.duration h1 /nap": 2,
		"drover.agent.callbacks 200": 2, "drover.agent.callbacks 404": 1, "drover.agent.polled": 2, "drover.agent.lost": 1,
	} {
		if got := b.by[key]; got != want {
			l.Errorf("%s: %d, want %d of %v", key, got, want, slices.Sorted(maps.Keys(b.by)))
		}
	}
	if len(hb.by) != 0 {
		l.Errorf("the agent counts calls: %v", hb.by)
	}
	call, handle := b.spans[0], hb.spans[0]
	if call.name != "agent.call" || call.kind != trace.SpanKindClient || handle.name != "agent.handle" || handle.kind != trace.SpanKindServer ||
		handle.parent.SpanID() != call.sc.SpanID() || handle.sc.TraceID() != call.sc.TraceID() || !call.ended || !handle.ended {
		l.Errorf("spans %+v and %+v", call, handle)
	}
}

// canary has secrets in commands, keys and replies go every way there is, and looks for them in what is told.
func canary(l *lab) {
	const secret = "canary-5f1d"
	b := newBook()
	var errs []string
	n := l.node("n1", func(c *agent.Config) { c.Env = b.env("n1") })
	type cmd struct{ Mode, Password string }
	l.host("h1", func(c *agent.ServerConfig) { c.Env = b.env("h1") }, func(s *agent.Server) {
		agent.Handle(s, "/x", func(ctx context.Context, c cmd) (any, error) {
			switch c.Mode {
			case "panic":
				panic(errors.New("with " + c.Password))
			case "hang":
				<-ctx.Done()
				return nil, ctx.Err()
			case "garbage":
				return json.RawMessage(`{"a":`), nil
			case "type":
				return map[string]string{"N": c.Password}, nil
			}
			return c, nil
		})
	})
	keys := map[string]bool{}
	l.break_(func(r *http.Request) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if k := r.Header.Get("Drover-Key"); k != "" && r.URL.Host == "h1" {
			keys[k] = true
		}
		return nil
	})
	do := func(mode string, opts ...agent.Option) {
		_, err := agent.Call[struct{ N int }](bg, n.Client, "http://h1/x?token="+secret, cmd{mode, secret}, append(opts, agent.Header("X-Password", secret))...)
		b.mu.Lock()
		defer b.mu.Unlock()
		errs = append(errs, fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err))
	}
	for _, mode := range []string{"ok", "panic", "garbage", "type"} {
		do(mode)
	}
	do("hang", agent.Timeout(2*time.Second))
	do("ok", agent.Token("vm/1", "db.1", 1)) // refused
	l.serve("h1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "no such %s", secret)
	}))
	do("ok")
	l.serve("h1", nil)
	do("ok")
	l.serve("h1", &taken{poll: 404})
	go do("ok")
	synctest.Wait()
	b.mu.Lock()
	shown := slices.Collect(maps.Keys(keys))
	b.mu.Unlock()
	for _, k := range shown {
		l.send("POST", "http://n1/drover/agent/callback", `{"result":{"N":"`+secret+`"}}`, "Drover-Task", "who", "Drover-Key", k)
	}
	for _, w := range n.Pending() {
		l.send("POST", "http://n1/drover/agent/callback", secret, "Drover-Task", string(w.Task), "Drover-Key", "wrong")
	}
	time.Sleep(time.Minute)
	b.mu.Lock()
	defer b.mu.Unlock()
	told := b.text.String() + strings.Join(errs, "\n") + fmt.Sprint(slices.Sorted(maps.Keys(b.by)))
	for _, s := range b.spans {
		told += s.name + fmt.Sprint(s.said)
	}
	if len(keys) < 6 || len(b.spans) < 8 || !strings.Contains(told, "panic in a handler") || !strings.Contains(told, "wrong key") {
		l.Fatalf("%d keys, %d spans: %s", len(keys), len(b.spans), told)
	}
	for _, s := range append(slices.Collect(maps.Keys(keys)), secret) {
		if i := strings.Index(told, s); i >= 0 {
			l.Errorf("told: …%s", told[max(0, i-200):min(len(told), i+100)])
		}
	}
}
