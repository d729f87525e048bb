package drover

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	loopBackoff    = 100 * time.Millisecond
	loopBackoffMax = 30 * time.Second
	loopMaxPanics  = 10
	loopHot        = 1000 // steps in a second that make a loop hot
	loopWindow     = 10 * time.Second
)

// Loop is the production loop of every Stepper: step, then sleep until the step's next time or a wake. wake should have
// capacity 1 and may be nil; a wake sent during a Step is not lost.
//
// A failed Step is repeated after 100 ms × 2 up to 30 s, ±20 %; a wake shortens that, but not below 100 ms. Errors 1, 2, 4,
// 8… of a row are logged. A panic counts as an error, and the tenth without a good Step between is returned as a
// *PanicError; an error marked by Permanent is returned as it is. Once ctx is done no Step begins, and Loop returns nil.
func Loop(ctx context.Context, e Env, wake <-chan struct{}, s Stepper) error {
	l := newLoop(ctx, e, s)
	defer l.owner.listen(l.beat)()
	for ctx.Err() == nil {
		select { // what this wake asks for, the coming Step sees
		case <-wake:
		default:
		}
		next, err := l.step(ctx)
		if err == nil {
			l.pause(ctx, next, wake)
			continue
		}
		if IsPermanent(err) || l.panics >= loopMaxPanics {
			return err
		}
		if ctx.Err() == nil {
			l.failed(err)
			l.backoff(ctx, wake)
		}
	}
	return nil
}

type loop struct {
	env    Env
	s      Stepper
	owner  *part // nil outside a Group
	beat   *beat
	log    *slog.Logger
	errors int // in a row
	panics int // without a good Step between

	hotSince time.Time
	hotSteps int
	hot      bool

	winStart time.Time
	winBusy  time.Duration

	attrs                 metric.MeasurementOption
	steps, failures       metric.Int64Counter
	busyGauge, hotReading metric.Float64Gauge
}

func newLoop(ctx context.Context, e Env, s Stepper) *loop {
	e = e.Defaults()
	l := &loop{env: e, s: s, owner: ownerOf(ctx), beat: &beat{}}
	name := fmt.Sprintf("%T", s)
	if l.owner != nil {
		name = l.owner.path
	}
	l.log = e.Logger.With("component", name, "node", e.Node)
	l.attrs = metric.WithAttributeSet(attribute.NewSet(attribute.String("component", name)))
	m := e.Meter.Meter(scope)
	l.steps, _ = m.Int64Counter("drover.loop.steps")
	l.failures, _ = m.Int64Counter("drover.loop.errors")
	l.busyGauge, _ = m.Float64Gauge("drover.loop.busy")
	l.hotReading, _ = m.Float64Gauge("drover.loop.hot")
	l.winStart = e.Clock.Now()
	return l
}

// step calls Step, measures it and turns a panic into an error.
func (l *loop) step(ctx context.Context) (next time.Time, err error) {
	begin := l.env.Clock.Now()
	l.beat.began.Store(begin.UnixNano())
	defer func() {
		l.beat.began.Store(0)
		if v := recover(); v != nil {
			l.panics++
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		if err == nil {
			l.errors, l.panics = 0, 0
		}
		l.measure(begin, l.env.Clock.Now())
	}()
	next, err = l.s.Step(ctx)
	l.beat.expect(begin, next)
	return next, err
}

func (l *loop) measure(begin, end time.Time) {
	l.winBusy += end.Sub(begin)
	l.hotSteps++
	if end.Sub(l.hotSince) >= time.Second {
		if l.hot && l.hotSteps < loopHot {
			l.hot = false
			l.hotReading.Record(context.Background(), 0, l.attrs)
		}
		l.steps.Add(context.Background(), int64(l.hotSteps), l.attrs)
		l.hotSince, l.hotSteps = end, 0
	}
	if !l.hot && l.hotSteps >= loopHot {
		l.hot = true
		l.hotReading.Record(context.Background(), 1, l.attrs)
		l.log.Warn("loop is hot: it steps without pause", "steps", l.hotSteps)
	}
	if span := end.Sub(l.winStart); span >= loopWindow {
		l.busyGauge.Record(context.Background(), float64(l.winBusy)/float64(span), l.attrs)
		l.winStart, l.winBusy = end, 0
	}
}

// pause waits for next, a wake or ctx.
func (l *loop) pause(ctx context.Context, next time.Time, wake <-chan struct{}) {
	l.beat.due(next)
	var timer <-chan time.Time
	if !next.IsZero() {
		d := next.Sub(l.env.Clock.Now())
		if d <= 0 {
			return
		}
		timer = l.env.Clock.After(d)
	}
	select {
	case <-ctx.Done():
	case <-timer:
	case <-wake:
	}
}

// failed counts an error and logs the first of a row and then at each doubling.
func (l *loop) failed(err error) {
	l.errors++
	l.failures.Add(context.Background(), 1, l.attrs)
	if l.errors&(l.errors-1) == 0 {
		l.log.Warn("step failed", "error", err, "row", l.errors)
	}
}

// backoff waits after an error; a wake shortens it, but not below the first delay.
func (l *loop) backoff(ctx context.Context, wake <-chan struct{}) {
	d := loopBackoffMax
	if n := l.errors - 1; n < 9 {
		d = min(loopBackoff<<n, loopBackoffMax)
	}
	d = spread(l.env.Rand, d, 0.2)
	floor := min(d, loopBackoff)
	if l.env.Sleep(ctx, floor) != nil || d == floor {
		return
	}
	l.pause(ctx, l.env.Clock.Now().Add(d-floor), wake)
}
