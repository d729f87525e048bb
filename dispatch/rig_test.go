package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	otel "go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// spans is a tracer provider that keeps what its spans say.
type spans struct {
	otel.TracerProvider
	mu  sync.Mutex
	all []*span
}

type tracer struct {
	otel.Tracer
	*spans
}

type span struct {
	trace.Span
	sc     trace.SpanContext
	parent trace.SpanContext
	name   string
	said   []string
	mu     sync.Mutex
}

func (s *spans) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracer{spans: s} }

func (s tracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent := trace.SpanContextFromContext(ctx)
	cfg := trace.SpanContextConfig{TraceID: parent.TraceID(), SpanID: trace.SpanID{byte(len(s.all) >> 8), byte(len(s.all)), 1}}
	if !parent.IsValid() {
		cfg.TraceID = trace.TraceID{byte(len(s.all) >> 8), byte(len(s.all)), 1}
	}
	x := &span{Span: noop.Span{}, sc: trace.NewSpanContext(cfg), parent: parent, name: name}
	s.all = append(s.all, x)
	return trace.ContextWithSpan(ctx, x), x
}

// find gives the first span of a name.
func (s *spans) find(name string) *span {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.all {
		if x.name == name {
			return x
		}
	}
	return nil
}

func (x *span) SpanContext() trace.SpanContext { return x.sc }
func (x *span) IsRecording() bool              { return true }
func (x *span) SetStatus(_ codes.Code, text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.said = append(x.said, text)
}
func (x *span) SetAttributes(kv ...attribute.KeyValue) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range kv {
		x.said = append(x.said, string(a.Key)+"="+a.Value.String())
	}
}

// logbook is a log that may be written to by several goroutines.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// shaky is a store in memory whose transactions fail as told, and which counts what is read.
type shaky struct {
	*memory.Store
	down     atomic.Bool // all fail
	lost     atomic.Bool // the next commit is done and its answer lost; then all fail if downNext
	downNext atomic.Bool
	lists    atomic.Int32
	noLists  atomic.Bool
}

var errLost = errors.New("answer lost")

func newShaky() *shaky { return &shaky{Store: &memory.Store{}} }

func (s *shaky) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	if s.down.Load() {
		return errDown
	}
	err := s.Store.InTx(ctx, fn)
	if err == nil && s.lost.CompareAndSwap(true, false) {
		s.down.Store(s.downNext.Load())
		return errLost
	}
	return err
}

func (s *shaky) Jobs() job.Store { return countingJobs{s.Store.Jobs(), s} }

// countingJobs has no abilities beyond job.Store and Turner, so that its List is seen.
type countingJobs struct {
	job.Store
	s *shaky
}

func (c countingJobs) List(ctx context.Context, tx store.Tx, f job.Find) (job.Found, error) {
	if len(f.Resources) > 0 {
		c.s.lists.Add(1)
		if c.s.noLists.Load() {
			return job.Found{}, errDown
		}
	}
	return c.Store.List(ctx, tx, f)
}

// submitOnly makes a manager that runs nothing.
func submitOnly(c *job.Config) { c.Queues = map[string]int{} }

func named(node string) func(*job.Config) {
	return func(c *job.Config) { c.Env.Node = node }
}

// user is a caller with roles.
func user(name string, roles ...string) map[string]string {
	id := map[string]string{"user": name, "account": "account-" + name}
	for _, r := range roles {
		id["roles"] += r + ","
	}
	return id
}

// accept dispatches an async command.
func accept(t *testing.T, r *dispatch.Registry, c dispatch.Command) dispatch.Accepted {
	t.Helper()
	out, err := r.Dispatch(t.Context(), &c)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	return out.(dispatch.Accepted)
}

// final waits for a job's end.
func final(t *testing.T, m *job.Manager, id string) *job.Job {
	t.Helper()
	j, err := m.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// failedWith checks that a job failed with a code.
func failedWith(t *testing.T, j *job.Job, code dispatch.Code) {
	t.Helper()
	if j.State != job.Failed || j.Error == nil || j.Error.Code != string(code) {
		t.Errorf("job is %s with %+v, want failed with %s", j.State, j.Error, code)
	}
}

// eventually waits, in real time or a bubble's, for something that has no event of its own.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not so: %s", what)
}

// meters is a meter provider that counts.
type meters struct {
	metricnoop.MeterProvider
	mu sync.Mutex
	by map[string]int64
}

type meter struct {
	metricnoop.Meter
	m *meters
}

type counter struct {
	metricnoop.Int64Counter
	name string
	m    *meters
}

func (m *meters) Meter(string, ...metric.MeterOption) metric.Meter { return meter{m: m} }

func (m meter) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counter{name: name, m: m.m}, nil
}

func (counter) Enabled(context.Context) bool { return true }

func (c counter) Add(_ context.Context, n int64, opts ...metric.AddOption) {
	set := metric.NewAddConfig(opts).Attributes()
	key := c.name
	for _, kv := range set.ToSlice() { // sorted by key
		key += " " + kv.Value.String()
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.by[key] += n
}

func (m *meters) get(key string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.by[key]
}
