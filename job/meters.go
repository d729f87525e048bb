package job

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/drover-cloud/drover/job"

// meters are the instruments, made once. Without an SDK none is enabled and nothing is built for them.
type meters struct {
	m      *Manager
	tracer trace.Tracer

	untraced atomic.Bool // no tracer is installed, when last asked

	mu    sync.RWMutex // held for memory only
	known map[tagged]*tags

	nSubmitted, nClaimed, nFinished, nRetried, nLost, nStale, nCancelled metric.Int64Counter
	nOverdue, nQuiet, nPoison, nDropped                                  metric.Int64Counter
	active                                                               metric.Int64UpDownCounter
	wait, turn, took, claims, finishes                                   metric.Float64Histogram
	blocked, depth, unhandled                                            metric.Int64ObservableGauge
	oldest                                                               metric.Float64ObservableGauge
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
	errs = append(errs, err)
	for _, h := range []struct {
		to         *metric.Float64Histogram
		name, what string
	}{
		{&t.wait, "wait", "From due, or ready again, to running, of jobs that need no turn or have it."},
		{&t.turn, "turn", "From due to running of jobs that need a turn: for it, and for a worker."},
		{&t.took, "run", "How long handlers ran."},
		{&t.claims, "claim", "How long claims took."},
		{&t.finishes, "finish", "How long it took to store a batch of outcomes."},
	} {
		*h.to, err = meter.Float64Histogram("drover.job."+h.name, metric.WithUnit("s"), metric.WithDescription(h.what))
		errs = append(errs, err)
	}
	for _, g := range []struct {
		to         *metric.Int64ObservableGauge
		name, what string
	}{
		{&t.blocked, "blocked", "Handlers of this node that block in Wait, by queue."},
		{&t.depth, "depth", "Live jobs in the cluster, by queue and state."},
		{&t.unhandled, "unhandled", "Jobs that no live node handles, told by one node of the cluster."},
	} {
		*g.to, err = meter.Int64ObservableGauge("drover.job."+g.name, metric.WithDescription(g.what))
		errs = append(errs, err)
	}
	t.oldest, err = meter.Float64ObservableGauge("drover.job.oldest", metric.WithUnit("s"),
		metric.WithDescription("How long the first job has been due that waits for its turn or a worker, by queue."))
	return errors.Join(append(errs, err)...)
}

// on says whether measuring is worth its while: one instrument stands for all.
func (t *meters) on() bool { return t.nClaimed.Enabled(context.Background()) }

// tags are attributes of measurements, in the form that costs least: made once.
type tags struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

// tagged is what tags are made of.
type tagged struct{ kind, queue, state, code string }

// mostTags bounds what is kept: codes and queues are the host's.
const mostTags = 10_000

func (t *meters) tags(of tagged) *tags {
	t.mu.RLock()
	known := t.known[of]
	t.mu.RUnlock()
	if known != nil {
		return known
	}
	return t.newTags(of)
}

// newTags stands apart, since its frame is large: handlers' stacks would grow for it.
func (t *meters) newTags(of tagged) *tags {
	kv := []attribute.KeyValue{attribute.String("kind", of.kind), attribute.String("queue", of.queue)}
	if of.state != "" {
		kv = append(kv, attribute.String("state", of.state), attribute.String("code", of.code))
	}
	set := metric.WithAttributeSet(attribute.NewSet(kv...))
	made := &tags{[]metric.AddOption{set}, []metric.RecordOption{set}}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= mostTags {
		t.known = map[tagged]*tags{}
	}
	t.known[of] = made
	return made
}

func (t *meters) of(r *Row) *tags { return t.tags(tagged{kind: r.Kind, queue: r.Queue}) }

func (t *meters) add(c metric.Int64Counter, r *Row) {
	if t.on() {
		c.Add(context.Background(), 1, t.of(r).add...)
	}
}

// tally counts what is alike in a batch with one call.
type tally struct {
	count func(n int64, o []metric.AddOption)
	tags  *tags
	n     int64
}

func (y *tally) one(g *tags) {
	if g != y.tags {
		y.flush()
		y.tags = g
	}
	y.n++
}

func (y *tally) flush() {
	if y.n > 0 {
		y.count(y.n, y.tags.add)
	}
	y.n = 0
}

func tallyOf(c metric.Int64Counter) *tally {
	return &tally{count: func(n int64, o []metric.AddOption) { c.Add(context.Background(), n, o...) }}
}

func (t *meters) submitted(js []*Job) {
	if !t.on() {
		return
	}
	y := tallyOf(t.nSubmitted)
	for _, j := range js {
		if !j.Joined && !j.Replayed {
			y.one(t.tags(tagged{kind: j.Kind, queue: j.Queue}))
		}
	}
	y.flush()
}

func (t *meters) claimed(rs []*run) {
	t.untraced.Store(false)
	if t.m.log.Enabled(context.Background(), slog.LevelDebug) {
		for _, r := range rs {
			t.m.log.Debug("job claimed", r.attrs()...)
			if len(r.row.Wakes) > 0 {
				t.m.log.Debug("job woken", r.attrs("why", r.row.Wakes[0].Why)...)
			}
		}
	}
	if !t.on() {
		return
	}
	y := &tally{count: func(n int64, o []metric.AddOption) {
		t.nClaimed.Add(context.Background(), n, o...)
		t.active.Add(context.Background(), n, o...)
	}}
	for _, r := range rs {
		g := t.of(&r.row)
		y.one(g)
		w := r.row.Started.Sub(r.row.RunAt)
		switch {
		case w < 0 || r.row.Runs > 1 && r.row.Attempt == 0: // when it became ready is not known
		case r.row.Turn && r.row.Runs == 1:
			t.turn.Record(context.Background(), w.Seconds(), g.record...)
		default:
			t.wait.Record(context.Background(), w.Seconds(), g.record...)
		}
		if r.row.Turn && r.row.Runs == 1 && t.m.turns != nil {
			t.m.turns.Granted(r.row.Sync.Kind)
		}
	}
	y.flush()
}

// handedOn measures turns that a finish asked for at gave to rows, which run now.
func (t *meters) handedOn(rows []Row, at time.Time) {
	if len(rows) == 0 || t.m.turns == nil || !t.on() {
		return
	}
	took := t.m.env.Clock.Now().Sub(at)
	for i := range rows {
		if r := &rows[i]; r.Turn {
			t.m.turns.HandedOn(r.Sync.Kind, took)
			if r.Runs > 1 { // the first run is counted as it starts
				t.m.turns.Granted(r.Sync.Kind)
			}
		}
	}
}

// since measures a claim or a finish that was asked for at.
func (t *meters) since(h metric.Float64Histogram, at time.Time) {
	if t.on() && !at.IsZero() {
		h.Record(context.Background(), t.m.env.Clock.Now().Sub(at).Seconds())
	}
}

// observe tells the depth of the queues, counted a second ago at most, and what the reporting node has found, while the manager
// runs; the answer ends it.
func (t *meters) observe() (stop func()) {
	reg, err := t.m.env.Meter.Meter(scope).RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		s, err := t.m.Stats(ctx)
		if err != nil {
			return err
		}
		for _, q := range slices.Sorted(maps.Keys(s.Queues)) {
			st, queue := s.Queues[q], attribute.String("queue", q)
			o.ObserveInt64(t.blocked, int64(st.Blocked), metric.WithAttributes(queue))
			o.ObserveFloat64(t.oldest, st.Oldest.Seconds(), metric.WithAttributes(queue))
			for _, state := range []State{Scheduled, Waiting, Ready, Running, Parked} {
				o.ObserveInt64(t.depth, int64(st.Depth[state]), metric.WithAttributes(queue, attribute.String("state", string(state))))
			}
		}
		t.m.mu.Lock()
		unhandled := t.m.reporter.unhandled
		t.m.mu.Unlock()
		for k, n := range unhandled { // in no order that matters
			o.ObserveInt64(t.unhandled, int64(n), metric.WithAttributes(attribute.String("kind", k[0]), attribute.String("queue", k[1])))
		}
		return nil
	}, t.blocked, t.oldest, t.depth, t.unhandled)
	if err != nil {
		t.m.log.Warn("job queues not observed", "err", err)
		return func() {}
	}
	lines := func() {}
	if t.m.turns != nil {
		lines = t.m.turns.Observe()
	}
	return func() {
		_ = reg.Unregister()
		lines()
	}
}

// ran measures one run, when its handler has returned.
func (t *meters) ran(r *run, o *outcome) {
	if t.on() {
		g := t.of(&r.row)
		t.active.Add(context.Background(), -1, g.add...)
		t.took.Record(context.Background(), r.since(o.at).Seconds(), g.record...)
	}
	r.span.failed(o)
}

// finished notes what a stored outcome was, for ended to count; done is false when the store refused it.
func (t *meters) finished(o *outcome, mv *Move, done bool, ended *tally) {
	r := o.run
	if !done {
		r.span.end("")
	}
	r.span.end(mv.To) // the first end counts
	t.told(r, mv, done)
	switch {
	case !done:
		t.stale(r, "finish")
	case mv.To == Scheduled && o.err != nil && mv.Attempt > 0:
		t.add(t.nRetried, &r.row)
		t.m.log.Info("job failed, retried", r.attrs("err", encode(o.failure()).Code, "again", o.wait)...)
	case mv.To == Failed && mv.Error != nil:
		t.final(ended, &r.row, mv, mv.Error.Code)
		t.m.log.Warn("job failed", r.attrs("code", mv.Error.Code)...)
	case mv.To == Cancelled:
		t.add(t.nCancelled, &r.row)
		t.final(ended, &r.row, mv, CodeCancelled)
	case mv.To.Final():
		t.final(ended, &r.row, mv, "")
	}
}

// told logs what few want to read.
func (t *meters) told(r *run, mv *Move, done bool) {
	if !done || !t.m.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	switch mv.To {
	case Parked:
		t.m.log.Debug("job parked", r.attrs()...)
	case Cancelled:
		t.m.log.Debug("job cancelled", r.attrs()...)
	case Succeeded:
		t.m.log.Debug("job finished", r.attrs()...)
	}
}

func (t *meters) final(ended *tally, r *Row, mv *Move, code string) {
	if t.on() {
		ended.one(t.tags(tagged{r.Kind, r.Queue, string(mv.To), code}))
	}
}

func (t *meters) stale(r *run, what string) {
	t.add(t.nStale, &r.row)
	r.span.end("")
	t.m.log.Warn("job lost: a write of an older run was refused", r.attrs("write", what)...)
}

func (t *meters) lostRun(r *run) { t.add(t.nLost, &r.row) }

func (t *meters) swept(r *Row, mv *Move) {
	t.add(t.nLost, r)
	if mv.Mark&Poisoned != 0 {
		t.add(t.nPoison, r)
	}
	if mv.To.Final() {
		ended := tallyOf(t.nFinished)
		t.final(ended, r, mv, "")
		ended.flush()
	}
}

func (t *meters) overdue(_ context.Context, r *run) { t.add(t.nOverdue, &r.row) }
func (t *meters) quiet(_ context.Context, r *run)   { t.add(t.nQuiet, &r.row) }
func (t *meters) dropped(ctx context.Context)       { t.nDropped.Add(ctx, 1) }
