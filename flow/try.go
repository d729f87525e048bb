package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/chance"
)

const stuckLog = 30 * time.Second

// step runs step i, with its tries. A halt without leave is its failure.
func (r *run[S]) step(ctx context.Context, i int) halt {
	s, m := &r.f.steps[i], &r.marks[i]
	m.state = started
	if err := r.poisoned(i); err != nil {
		m.state = failed
		return halt{err: err, step: s.name}
	}
	var policy backoff.BackOff
	for try := min(m.tries+1, s.opts.max); ; try++ {
		h := r.attempt(ctx, i, try)
		if h.leave {
			return h
		}
		if h.err == nil || r.keep(i, h) {
			m.state = ended
			return halt{}
		}
		if policy == nil && s.opts.max > 1 {
			policy = steady(s.opts.policy, r.env)
		}
		if try >= s.opts.max || h.final || !r.worth(ctx, s, h.err) || !r.pause(ctx, policy) {
			if err := r.bookLeaving(); err != nil {
				return halt{err: err, leave: true}
			}
			m.state = failed
			return h
		}
		if err := r.tried(ctx, i, try, h.err); err != nil {
			return halt{err: err, leave: true}
		}
	}
}

// keep takes a Continue to the end of the flow; false: it is none.
func (r *run[S]) keep(i int, h halt) bool {
	var cont *continueError
	if !errors.As(h.err, &cont) {
		return false
	}
	if len(r.kept) == 0 {
		r.where = h.step
	}
	r.kept, r.keptAt = append(r.kept, cont.err), i
	return true
}

// worth another try?
func (r *run[S]) worth(ctx context.Context, s *step[S], err error) bool {
	var stop *backoff.PermanentError
	switch {
	case ctx.Err() != nil, errors.As(err, &stop), drover.IsPermanent(err), r.book != nil && r.book.job.Permanent(err):
		return false
	case s.opts.retryIf != nil:
		return s.opts.retryIf(err)
	case errors.Is(err, ErrStepTimeout):
		return true
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// attempt calls do once.
func (r *run[S]) attempt(ctx context.Context, i, try int) halt {
	s := &r.f.steps[i]
	sc := &stepCtx{
		Context: ctx, flow: r.f.name, step: s.name, index: i, of: len(r.marks), try: try, phase: PhaseDo,
	}
	r.place(sc, i, try)
	if s.sub != nil {
		return r.attemptSub(sc, i)
	}
	began := r.now()
	var end func(error)
	sc.Context, end = r.meters.span(sc.Context, "step", s.name)
	var err error
	if s.opts.timeout == 0 {
		err = r.call(sc, s.do)
	} else {
		err = r.timed(sc, s.opts.timeout, s.do)
	}
	r.stepped(sc, began)
	end(err)
	if err == nil {
		return halt{}
	}
	return halt{err: err, step: s.name, leave: r.leaves(ctx, err)}
}

// timed calls f under a deadline and waits for it, however long it takes.
func (r *run[S]) timed(sc *stepCtx, d time.Duration, f func(context.Context, *S) error) error {
	ctx, cancel := context.WithTimeoutCause(sc, d, ErrStepTimeout)
	defer cancel()
	back, gone := make(chan struct{}), make(chan struct{})
	r.env.For(ctx).Go("flow/"+sc.flow+"/"+sc.step+"/watch", func() {
		defer close(gone)
		r.watch(ctx, sc, back)
	})
	defer func() { // also when f ends its goroutine
		close(back)
		<-gone
	}()
	err := r.call(ctx, f)
	if err != nil && errors.Is(context.Cause(ctx), ErrStepTimeout) && !errors.Is(err, ErrStepTimeout) {
		return fmt.Errorf("%w after %v: %w", ErrStepTimeout, d, err)
	}
	return err
}

// watch logs a function that does not mind the end of its ctx.
func (r *run[S]) watch(ctx context.Context, sc *stepCtx, back <-chan struct{}) {
	select {
	case <-back:
		return
	case <-ctx.Done():
	}
	for {
		select {
		case <-back:
			return
		case <-r.env.Clock.After(stuckLog):
		}
		select {
		case <-back:
			return
		default:
			r.env.Logger.WarnContext(ctx, "step ignores the end of its ctx", "flow", sc.flow, "step", sc.step, "phase", sc.phase)
		}
	}
}

// pause waits before the next try; false: there is none.
func (r *run[S]) pause(ctx context.Context, policy backoff.BackOff) bool {
	d := policy.NextBackOff()
	if d == backoff.Stop {
		return false
	}
	if r.book != nil {
		return r.book.sleep(ctx, d)
	}
	return r.env.Sleep(ctx, d) == nil
}

// spreadPolicy draws the jitter that the policy itself would take from the global source.
type spreadPolicy struct {
	backoff.BackOff
	share float64
	env   *drover.Env
}

func (p spreadPolicy) NextBackOff() time.Duration {
	d := p.BackOff.NextBackOff()
	if d == backoff.Stop {
		return d
	}
	return chance.Around(p.env.Rand, d, p.share)
}

// steady makes policy's delays depend on env only.
func steady(policy func() backoff.BackOff, env *drover.Env) backoff.BackOff {
	if policy == nil {
		return exponential(env, time.Second, time.Minute, 0.2)
	}
	b := policy()
	e, ok := b.(*backoff.ExponentialBackOff)
	if !ok {
		return b
	}
	share := e.RandomizationFactor
	e.RandomizationFactor, e.MaxElapsedTime = 0, 0
	e.Reset()
	return spreadPolicy{e, share, env}
}

func exponential(env *drover.Env, first, most time.Duration, share float64) backoff.BackOff {
	e := backoff.NewExponentialBackOff()
	e.InitialInterval, e.Multiplier, e.MaxInterval = first, 2, most
	e.RandomizationFactor, e.MaxElapsedTime = 0, 0
	e.Reset()
	return spreadPolicy{e, share, env}
}
