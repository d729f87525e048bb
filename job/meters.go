package job

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/job"

// meters are the instruments, made once. Without an SDK none is enabled and nothing is built for them.
type meters struct {
	m      *Manager
	tracer trace.Tracer

	nSubmitted, nClaimed, nFinished, nRetried, nLost, nStale, nCancelled metric.Int64Counter
	nOverdue, nQuiet, nPoison, nDropped                                  metric.Int64Counter
	active                                                               metric.Int64UpDownCounter
	wait, took                                                           metric.Float64Histogram
}

func (t *meters) init(m *Manager) error {
	t.m = m
	t.tracer = m.env.Tracer.Tracer(scope)
	meter := m.env.Meter.Meter(scope)
	var errs []error
	for _, c := range []struct {
		to         *metric.Int64Counter
		name, what string
	}{
		{&t.nSubmitted, "submitted", "Jobs submitted, by kind and queue."},
		{&t.nClaimed, "claimed", "Runs started."},
		{&t.nFinished, "finished", "Jobs that became final, by kind, queue, state and code."},
		{&t.nRetried, "retried", "Runs that failed and are retried."},
		{&t.nLost, "lost", "Jobs swept from dead sessions, and runs of this node ended with its session."},
		{&t.nStale, "stale", "Writes that the store refused because the claim was lost."},
		{&t.nCancelled, "cancelled", "Jobs that became cancelled after they had run."},
		{&t.nOverdue, "overdue", "Handlers that ignored the end of their context past their grace."},
		{&t.nQuiet, "quiet", "Handlers that gave no sign of life for too long."},
		{&t.nPoison, "poison", "Jobs parked because their node died too often."},
		{&t.nDropped, "events.dropped", "Events dropped because the sink panicked."},
	} {
		var err error
		*c.to, err = meter.Int64Counter("drover.job."+c.name, metric.WithDescription(c.what))
		errs = append(errs, err)
	}
	var err error
	t.active, err = meter.Int64UpDownCounter("drover.job.running", metric.WithDescription("Handlers that run here, by queue."))
	errs = append(errs, err)
	t.wait, err = meter.Float64Histogram("drover.job.wait", metric.WithUnit("s"), metric.WithDescription("From due to running."))
	errs = append(errs, err)
	t.took, err = meter.Float64Histogram("drover.job.run", metric.WithUnit("s"), metric.WithDescription("How long handlers ran."))
	return errors.Join(append(errs, err)...)
}

// on says whether measuring is worth its while: one instrument stands for all.
func (t *meters) on() bool { return t.nClaimed.Enabled(context.Background()) }

func labels(r *Row, more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(more, attribute.String("kind", r.Kind), attribute.String("queue", r.Queue))...)
}

func (t *meters) add(c metric.Int64Counter, r *Row, more ...attribute.KeyValue) {
	if t.on() {
		c.Add(context.Background(), 1, labels(r, more...))
	}
}

func (t *meters) submitted(js []*Job) {
	if !t.on() {
		return
	}
	for _, j := range js {
		if !j.Joined && !j.Replayed {
			t.add(t.nSubmitted, &Row{Job: *j})
		}
	}
}

func (t *meters) claimed(rs []*run) {
	if !t.on() {
		return
	}
	for _, r := range rs {
		t.add(t.nClaimed, &r.row)
		t.active.Add(context.Background(), 1, labels(&r.row))
		if w := r.row.Started.Sub(r.row.RunAt); w >= 0 {
			t.wait.Record(context.Background(), w.Seconds(), labels(&r.row))
		}
	}
}

// ran measures one run, when its handler has returned.
func (t *meters) ran(r *run, o *outcome) {
	if t.on() {
		t.active.Add(context.Background(), -1, labels(&r.row))
		t.took.Record(context.Background(), r.since(o.at).Seconds(), labels(&r.row))
	}
	r.span.end(o)
}

// finished notes what a stored outcome was; done is false when the store refused it.
func (t *meters) finished(o *outcome, mv *Move, done bool) {
	r := o.run
	switch {
	case !done:
		t.stale(r, "finish")
	case mv.To == Scheduled && o.err != nil && mv.Attempt > 0:
		t.add(t.nRetried, &r.row)
		t.m.log.Info("job failed, retried", r.attrs("err", encode(o.failure()).Code, "again", o.wait)...)
	case mv.To == Failed && mv.Error != nil:
		t.final(r, mv, mv.Error.Code)
		t.m.log.Warn("job failed", r.attrs("code", mv.Error.Code)...)
	case mv.To == Cancelled:
		t.add(t.nCancelled, &r.row)
		t.final(r, mv, CodeCancelled)
	case mv.To.Final():
		t.final(r, mv, "")
	}
}

func (t *meters) final(r *run, mv *Move, code string) {
	t.add(t.nFinished, &r.row, attribute.String("state", string(mv.To)), attribute.String("code", code))
}

func (t *meters) stale(r *run, what string) {
	t.add(t.nStale, &r.row)
	t.m.log.Warn("job lost: a write of an older run was refused", r.attrs("write", what)...)
}

func (t *meters) lostRun(r *run) { t.add(t.nLost, &r.row) }

func (t *meters) swept(r *Row, mv *Move) {
	t.add(t.nLost, r)
	if mv.Mark&Poisoned != 0 {
		t.add(t.nPoison, r)
	}
	if mv.To.Final() {
		t.add(t.nFinished, r, attribute.String("state", string(mv.To)))
	}
}

func (t *meters) overdue(_ context.Context, r *run) { t.add(t.nOverdue, &r.row) }
func (t *meters) quiet(_ context.Context, r *run)   { t.add(t.nQuiet, &r.row) }
func (t *meters) dropped(ctx context.Context)       { t.nDropped.Add(ctx, 1) }
