package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// spanText is a tracer provider, its tracer and their spans: all they say is written.
type spanText struct {
	noop.TracerProvider
	w io.Writer
}

func (p spanText) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracerText{w: p.w} }

type tracerText struct {
	noop.Tracer
	w io.Writer
}

func (t tracerText) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	s := saidSpan{Span: trace.SpanFromContext(ctx), w: t.w}
	c := trace.NewSpanStartConfig(opts...)
	s.say(name, c.Attributes(), c.Links())
	return trace.ContextWithSpan(ctx, s), s
}

type saidSpan struct {
	trace.Span
	w io.Writer
}

func (s saidSpan) say(what ...any) { _, _ = fmt.Fprintln(s.w, what...) }

func (s saidSpan) IsRecording() bool { return true }

func (s saidSpan) SetAttributes(kv ...attribute.KeyValue) { s.say(kv) }

func (s saidSpan) SetStatus(_ codes.Code, text string) { s.say(text) }

func (s saidSpan) SetName(name string) { s.say(name) }

func (s saidSpan) RecordError(err error, o ...trace.EventOption) {
	c := trace.NewEventConfig(o...)
	s.say(err, c.Attributes())
}

func (s saidSpan) AddEvent(name string, o ...trace.EventOption) {
	c := trace.NewEventConfig(o...)
	s.say(name, c.Attributes())
}
