package job

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/store"
)

// traceKey is where Identity carries the submitter's span in the store, in W3C form; no job given out has it.
const traceKey = "traceparent"

// traceparent is ctx's span in W3C form, or "".
func traceparent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + hex.EncodeToString([]byte{byte(sc.TraceFlags())})
}

// traceOf is what travels with the jobs of a submission: its span, ctx's. A span that is not sampled and begins its trace tells
// nobody anything: then there is none, and each run is sampled by itself.
func traceOf(caller, ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() && !trace.SpanContextFromContext(caller).IsValid() {
		return ""
	}
	return traceparent(ctx)
}

// remoteSpan reads what traceparent wrote; anything else is no span.
func remoteSpan(s string) (sc trace.SpanContext) {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return sc
	}
	id, err := trace.TraceIDFromHex(s[3:35])
	if err != nil {
		return sc
	}
	span, err := trace.SpanIDFromHex(s[36:52])
	if err != nil {
		return sc
	}
	flags, err := hex.DecodeString(s[53:])
	if err != nil {
		return sc
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]), Remote: true})
}

// span is the span of one run; the zero one is none.
type span struct{ trace.Span }

// asConsumer is made once: it is an allocation.
var asConsumer = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}

// running opens the span of a run, as a child of the submitter's. A tracer that answers a span without an id, where no parent
// has one, is no tracer; it is asked again once per batch of claims, since one may be installed late.
func (t *meters) running(r *run) context.Context {
	if _, traced := r.row.Identity[traceKey]; traced || !t.untraced.Load() {
		return t.traced(r)
	}
	return (*handedContext)(r)
}

// traced is running where there is a tracer. It stands apart since its frame is large: a stack of 2 KiB would grow for it.
func (t *meters) traced(r *run) context.Context {
	ctx := context.Context((*handedContext)(r))
	parent, traced := r.row.Identity[traceKey]
	if traced {
		ctx = trace.ContextWithRemoteSpanContext(ctx, remoteSpan(parent))
	}
	ctx, s := t.tracer.Start(ctx, r.kind.span, asConsumer...)
	if !s.IsRecording() {
		t.untraced.Store(!s.SpanContext().IsValid())
		return ctx
	}
	s.SetAttributes(attribute.String("job.id", r.row.ID), attribute.Int("job.attempt", r.row.Attempt),
		attribute.Int64("job.epoch", r.row.Epoch), attribute.String("queue.kind", r.row.Sync.Kind))
	if r.row.Sync.Kind != "" && r.row.Runs == 1 {
		s.SetAttributes(attribute.Float64("queue.wait", r.row.Started.Sub(r.row.RunAt).Seconds()))
	}
	if r.row.Runs > 1 {
		if sc := t.m.previousSpan(ctx, &r.row); sc.IsValid() {
			s.AddLink(trace.Link{SpanContext: sc})
		}
	}
	r.span = span{s}
	return ctx
}

// previousSpan is that of the run before, as far as its end was noted.
func (m *Manager) previousSpan(ctx context.Context, row *Row) (sc trace.SpanContext) {
	var found Found
	err := m.inTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		found, err = m.find(ctx, tx, Find{IDs: []string{row.ID}, Journal: true})
		return err
	})
	if err != nil {
		return sc
	}
	for _, e := range slices.Backward(found.Journal) {
		var data struct {
			Span string `json:"span"`
		}
		if e.Text == claimedText && e.Epoch < row.Epoch && json.Unmarshal(e.Data, &data) == nil && data.Span != "" {
			return remoteSpan(data.Span)
		}
	}
	return sc
}

// traceparent names the span, or is "".
func (s span) traceparent() string {
	if s.Span == nil {
		return ""
	}
	return traceparent(trace.ContextWithSpan(context.Background(), s.Span))
}

// failed notes what the handler left.
func (s span) failed(o *outcome) {
	if s.Span == nil || o.err == nil {
		return
	}
	e := encode(o.err)
	s.SetAttributes(attribute.String("job.code", e.Code))
	s.SetStatus(codes.Error, e.Code)
}

// end is when the outcome is stored, as state, or is not ours to store any more.
func (s span) end(state State) {
	if s.Span == nil {
		return
	}
	if state != "" {
		s.SetAttributes(attribute.String("job.state", string(state)))
	}
	s.End()
}

// submitting opens the span of a submission.
func (t *meters) submitting(ctx context.Context, n int) (context.Context, func(error)) {
	ctx, s := t.tracer.Start(ctx, "job.submit", trace.WithSpanKind(trace.SpanKindProducer))
	if !s.IsRecording() {
		return ctx, func(error) {}
	}
	s.SetAttributes(attribute.Int("jobs", n))
	return ctx, func(err error) {
		if err != nil {
			s.SetStatus(codes.Error, encode(err).Code)
		}
		s.End()
	}
}
