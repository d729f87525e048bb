package periodic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The built-in decorators. In Every(d, n, f, A, B) A is outermost: A(B(task)). So Retry(p), Timeout(5s) gives every attempt
// 5 s, and Timeout(5s), Retry(p) all of them together. Of a policy set twice the outermost counts.

// wrap is the decorator that changes Do; a missing one stays missing, for Add to say so.
func wrap(f func(next Func) Func) Decorator {
	return func(t Task) Task {
		if t.Do != nil {
			t.Do = f(t.Do)
		}
		return t
	}
}

func set(f func(t *Task)) Decorator { return func(t Task) Task { f(&t); return t } }

// wrong is the decorator that makes Add fail.
func wrong(kind error, format string, a ...any) Decorator {
	err := fmt.Errorf("%w: "+format, append([]any{kind}, a...)...)
	return set(func(t *Task) { t.errs = append(t.errs[:len(t.errs):len(t.errs)], err) })
}

// Timeout ends the ctx of what it wraps after d > 0, with cause [ErrTimeout].
func Timeout(d time.Duration) Decorator {
	if d <= 0 {
		return wrong(ErrSchedule, "Timeout(%v) is not positive", d)
	}
	return wrap(func(next Func) Func {
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, d, ErrTimeout)
			defer cancel()
			err := next(ctx)
			if err != nil && errors.Is(context.Cause(ctx), ErrTimeout) && !errors.Is(err, ErrTimeout) {
				err = fmt.Errorf("%w after %v: %w", ErrTimeout, d, err)
			}
			return err
		}
	})
}

// Retry repeats a failing run after the delays of a backoff, fresh for every run; with errors listed in on, only if the error
// is one of them. An error marked by backoff.Permanent or drover.Permanent, [Done], a panic, and the end of ctx end it.
func Retry(p func() backoff.BackOff, on ...error) Decorator {
	if p == nil {
		return wrong(ErrTask, "Retry without a policy")
	}
	if x, ok := p().(*exponential); ok {
		if err := x.policy.check(); err != nil {
			return wrong(err, "in Retry")
		}
	}
	return wrap(func(next Func) Func {
		return func(ctx context.Context) error { return retry(ctx, p, on, next) }
	})
}

func retry(ctx context.Context, p func() backoff.BackOff, on []error, next Func) error {
	env := envOf(ctx)
	b := fresh(p, env)
	for attempt := 1; ; attempt++ {
		err := next(context.WithValue(ctx, attemptKey{}, attempt))
		var final *backoff.PermanentError
		if errors.As(err, &final) {
			return final.Err
		}
		if err == nil || !worthwhile(err, on) || ctx.Err() != nil {
			return err
		}
		d := b.NextBackOff()
		if d == backoff.Stop || env.Sleep(ctx, d) != nil {
			return err
		}
	}
}

// Traced gives every attempt a span of its own, with attrs: attribute.KeyValue, or a key and its value by turns.
func Traced(attrs ...any) Decorator {
	kvs := attributes(attrs)
	return wrap(func(next Func) Func {
		return func(ctx context.Context) (err error) {
			run := RunOf(ctx)
			ctx, span := envOf(ctx).Tracer.Tracer(scope).Start(ctx, "periodic.attempt", trace.WithAttributes(append(kvs[:len(kvs):len(kvs)],
				attribute.String("task", run.Name), attribute.Int("attempt", run.Attempt))...))
			defer func() {
				if err != nil && !errors.Is(err, Done) {
					span.SetStatus(codes.Error, err.Error())
				}
				span.End()
			}()
			return next(ctx)
		}
	})
}

func attributes(attrs []any) (kvs []attribute.KeyValue) {
	for i := 0; i < len(attrs); i++ {
		switch a := attrs[i].(type) {
		case attribute.KeyValue:
			kvs = append(kvs, a)
		case string:
			if i++; i < len(attrs) {
				kvs = append(kvs, attribute.String(a, fmt.Sprint(attrs[i])))
			}
		}
	}
	return kvs
}

// OnError calls f with the error of every failed run.
func OnError(f func(Run, error)) Decorator {
	if f == nil {
		return wrong(ErrTask, "OnError(nil)")
	}
	return wrap(func(next Func) Func {
		return func(ctx context.Context) error {
			err := next(ctx)
			if err != nil && !errors.Is(err, Done) {
				f(RunOf(ctx), err)
			}
			return err
		}
	})
}

// Jitter puts every start off by chance, less than max; the timetable never moves by it. max is at most half the spacing.
func Jitter(max time.Duration) Decorator { return set(func(t *Task) { t.Jitter = max }) }

// Spread moves the timetable by chance, less than max, once; 0 is off.
func Spread(max time.Duration) Decorator {
	if max <= 0 {
		max = -1
	}
	return set(func(t *Task) { t.Spread = max })
}

// Immediately runs the task once at the start, besides its timetable.
func Immediately() Decorator { return set(func(t *Task) { t.now = true }) }

// Limit is the hard limit of a run, retries included: its ctx ends with cause [ErrTimeout]. Negative is none.
func Limit(d time.Duration) Decorator { return set(func(t *Task) { t.Limit = d }) }

// NoOverlap skips due times that come during a run; the default.
func NoOverlap() Decorator { return set(func(t *Task) { t.Overlap = Overlap{} }) }

// Queued remembers one due time that comes during a run, and starts it when the run ends.
func Queued() Decorator { return set(func(t *Task) { t.Overlap = Overlap{Queued: true} }) }

// Parallel lets up to n runs go on at once, n ≥ 1.
func Parallel(n int) Decorator {
	if n < 1 {
		return wrong(ErrTask, "Parallel(%d) is less than 1", n)
	}
	return set(func(t *Task) { t.Overlap = Overlap{Parallel: n} })
}

// CatchUp runs the newest n due times that were missed, 1 to 1000, one after the other.
func CatchUp(n int) Decorator {
	if n < 1 {
		return wrong(ErrTask, "CatchUp(%d) is less than 1", n)
	}
	return set(func(t *Task) { t.Misfire = Misfire{CatchUp: n} })
}

// SkipMissed drops due times that were missed.
func SkipMissed() Decorator { return set(func(t *Task) { t.Misfire = Misfire{Skip: true} }) }

// On runs the task only while f is true: the leader, a ring's owner, a healthy node. f is quick and does not block.
func On(f func() bool) Decorator {
	if f == nil {
		return wrong(ErrTask, "On(nil)")
	}
	return set(func(t *Task) { t.Gates = append(t.Gates[:len(t.Gates):len(t.Gates)], f) })
}

// Enabled is On for a setting that is read again before every run.
func Enabled(f func() bool) Decorator { return On(f) }

// Initial puts the first run d after the start; the timetable goes on from there.
func Initial(d time.Duration) Decorator {
	return set(func(t *Task) {
		if t.When != nil {
			t.When = First(d, t.When)
		}
	})
}

// FixedDelay makes an Every an After.
func FixedDelay() Decorator {
	return func(t Task) Task {
		g, ok := unwrap(t.When).(grid)
		if !ok {
			return wrong(ErrSchedule, "FixedDelay is for Every")(t)
		}
		t.When = Delay(time.Duration(g))
		return t
	}
}

// Dynamic makes any task an Adaptive one that runs f; the function it had may be nil.
func Dynamic(f func(context.Context) (idle time.Duration, err error)) Decorator {
	return func(t Task) Task { return adaptive(t, f) }
}

// Ceiling is the longest delay of an Adaptive or Backoff task, d ≥ 1 ms.
func Ceiling(d time.Duration) Decorator {
	return func(t Task) Task {
		p, ok := unwrap(t.When).(paced)
		switch {
		case !ok:
			return wrong(ErrSchedule, "Ceiling is for Adaptive and Backoff")(t)
		case d < time.Millisecond:
			return wrong(ErrSchedule, "Ceiling(%v) is less than 1ms", d)(t)
		}
		t.When = paced{func() pacer { return ceiling{p.pacer(), d} }, p.text}
		return t
	}
}

// Stale makes the Set's Health degraded when the task has not succeeded for d; 0 is 3 spacings.
func Stale(d time.Duration) Decorator {
	switch {
	case d < 0:
		return wrong(ErrSchedule, "Stale(%v) is negative", d)
	case d == 0:
		d = -1
	}
	return set(func(t *Task) { t.Stale = d })
}

// Off adds the task disabled.
func Off() Decorator { return set(func(t *Task) { t.Disabled = true }) }

// OnLane lets one task of l run at a time.
func OnLane(l *Lane) Decorator {
	if l == nil {
		return wrong(ErrTask, "OnLane(nil)")
	}
	return set(func(t *Task) { t.lane = l })
}
