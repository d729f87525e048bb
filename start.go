package drover

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/codes"
)

// Check is a condition of the start: a directory that can be written to, a clock, a version.
type Check struct {
	Name string
	Do   func(ctx context.Context) error
}

// start does what comes before the components. end ends its span and time limit.
func (s *Service) start() (ok bool, end func(error)) {
	ctx, span := s.tracer().Start(s.ctx, "service.start")
	s.Components.spans = ctx //nolint:fatcontext // the span of this one start
	over := make(chan struct{})
	if s.StartTimeout > 0 {
		timer := s.env.Clock.After(s.StartTimeout)
		s.env.Go("service/start-timeout", func() {
			select {
			case <-over:
			case <-timer:
				if !isClosed(over) {
					s.fail(fmt.Errorf("drover: start: %w (%v)", ErrNotReady, s.StartTimeout))
				}
			}
		})
	}
	end = func(err error) {
		if isClosed(over) {
			return
		}
		close(over)
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
	limit := s.hookTimeout()
	for _, step := range []func() error{
		func() error { return s.hook(ctx, "Init", s.Init, 0) },
		func() error { return s.checks(ctx) },
		func() error { return s.recall(ctx) },
		func() error { return s.hook(ctx, "PreStart", s.PreStart, limit) },
	} {
		if s.ctx.Err() != nil {
			end(nil)
			return false, end
		}
		if err := step(); err != nil {
			s.fault(err)
			end(err)
			return false, end
		}
	}
	return true, end
}

// checks runs them all and joins what they find.
func (s *Service) checks(ctx context.Context) error {
	var errs []error
	for _, c := range s.Checks {
		if err := s.call(ctx, "check "+c.Name, c.Do, s.hookTimeout()); err != nil {
			errs = append(errs, &phaseError{ErrCheck, c.Name, err})
		}
		if s.ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// becomeReady is the end of the start, when all components are ready.
func (s *Service) becomeReady() error {
	if err := s.hook(s.Components.spans, "PostStart", s.PostStart, s.hookTimeout()); err != nil {
		return err
	}
	if err := s.announce(context.WithoutCancel(s.ctx), true); err != nil {
		s.log.Warn("readiness not announced", "error", err) // sessions and beats tell it themselves, later
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == unasked && s.ctx.Err() == nil {
		s.enterLocked("running")
	}
	return nil
}

// announce tells every Announcer whether this node takes work, one after the other.
func (s *Service) announce(ctx context.Context, accepting bool) error {
	var errs []error
	s.Components.each(func(p *part, c Component) {
		a, ok := c.(Announcer)
		if !ok {
			return
		}
		err := s.call(ctx, "announce/"+p.path, func(ctx context.Context) error { return a.Announce(ctx, accepting) }, announceTimeout)
		if err != nil {
			errs = append(errs, named(p.path, err))
		}
	})
	return errors.Join(errs...)
}

// phaseError is what went wrong in a hook or a check.
type phaseError struct {
	kind error // ErrHook or ErrCheck
	name string
	err  error
}

func (e *phaseError) Error() string        { return e.kind.Error() + ": " + e.name + ": " + e.err.Error() }
func (e *phaseError) Unwrap() error        { return e.err }
func (e *phaseError) Is(target error) bool { return target == e.kind }

// NamedHook is one of several hooks that Sequence makes one.
type NamedHook struct {
	Name string
	Do   func(ctx context.Context) error
}

// Sequence is hooks as one: they run in order until one fails, whose name its error carries.
func Sequence(hooks ...NamedHook) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		for _, h := range hooks {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := guarded(func() error { return h.Do(ctx) }); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		return nil
	}
}
