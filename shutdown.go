package drover

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	announceTimeout = 5 * time.Second
	drainReport     = 10 * time.Second
)

// errRush is the cause of a drain that is cut short.
var errRush = fmt.Errorf("drover: drain cut short: %w", ErrStopping)

// DrainError lists the work that a drain did not see the end of; it is ErrDrainTimeout.
type DrainError struct {
	After time.Duration
	Left  []Inflight
	now   time.Time
}

// Error names 20 pieces of work at most.
func (e *DrainError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %d left after %v", ErrDrainTimeout, len(e.Left), e.After)
	for i, w := range e.Left[:min(len(e.Left), 20)] {
		fmt.Fprintf(&b, "%s%s %s (%s, %v)", []string{": ", ", "}[min(i, 1)], w.Kind, w.ID, w.Component, e.now.Sub(w.Since).Round(time.Millisecond))
		if w.Request != "" {
			fmt.Fprintf(&b, " of request %s", w.Request)
		}
	}
	return b.String()
}

// Is reports whether target is ErrDrainTimeout.
func (e *DrainError) Is(target error) bool { return target == ErrDrainTimeout }

// Shutdown drains, then stops, and returns Run's error once that has returned. The end of ctx, a second Shutdown, Close and
// the end of Run's ctx cut the drain short. Before Run it makes Run return at once; from a hook or component, known by ctx,
// it returns at once. A ctx that is done already is its error, and nothing happens.
func (s *Service) Shutdown(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := s.ask(drainFirst)
	if done == nil || ctx.Value(serviceKey{}) == s {
		return nil
	}
	select {
	case <-done:
	case <-ctx.Done():
		s.ask(stopNow)
		<-done
	}
	return s.result()
}

// Close stops without draining, and returns Run's error once that has returned. Before Run it makes Run return at once;
// called on a goroutine of a hook or component, of any Service, it returns at once.
func (s *Service) Close() error {
	done := s.ask(stopNow)
	if done == nil || inComponent() {
		return nil
	}
	<-done
	return s.result()
}

func (s *Service) result() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ask begins a stop, or hurries the one under way. done is nil before Run.
func (s *Service) ask(kind stopKind) (done chan struct{}) {
	s.mu.Lock()
	again := s.asked != unasked
	s.asked = max(s.asked, kind)
	done, cancel, hurry := s.done, s.cancel, s.hurry
	s.mu.Unlock()
	if cancel == nil {
		return done
	}
	if again || kind == stopNow {
		hurry(errRush)
	}
	cancel(ErrStopping)
	return done
}

// inComponent says whether the calling goroutine is one of a component or hook.
func inComponent() bool {
	pcs := make([]uintptr, 64)
	for skip := 0; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if slices.ContainsFunc(insiders, func(name string) bool { return strings.Contains(f.Function, name) }) {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

var insiders = []string{"drover.(*part).runOnce", "drover.inHook", "drover.Env.For.func"}

// quiesce is the stop up to the components: the Group calls it when it is to stop.
func (s *Service) quiesce() {
	s.mu.Lock()
	drain := s.asked == drainFirst && s.outer.Err() == nil && s.rush.Err() == nil && !isClosed(s.Components.stopping)
	if drain {
		s.enterLocked("draining")
	} else {
		s.enterLocked("stopping")
	}
	s.mu.Unlock()
	s.cancel(ErrStopping)
	s.fault(s.announce(context.WithoutCancel(s.ctx), false))
	if !drain {
		return
	}
	ctx, span := s.tracer().Start(s.rush, "service.drain")
	defer span.End()
	s.rushed(s.hook(ctx, "Drain", s.Drain, s.hookTimeout()))
	s.rushed(s.drainAll(ctx))
	s.enter("stopping")
}

// rushed is fault, save for what says only that the drain was cut short.
func (s *Service) rushed(err error) {
	if s.rush.Err() != nil && (errors.Is(err, errRush) || errors.Is(err, context.Canceled)) {
		return
	}
	s.fault(err)
}

// drainAll asks every Drainer, and waits within DrainTimeout.
func (s *Service) drainAll(ctx context.Context) error {
	if s.DrainTimeout < 0 || ctx.Err() != nil {
		return nil
	}
	begun, left := s.env.Clock.Now(), len(s.Inflight())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	s.env.Go("service/drain", func() { done <- s.Components.Drain(ctx) })
	var limit <-chan time.Time
	if s.DrainTimeout > 0 {
		limit = s.env.Clock.After(s.DrainTimeout)
	}
	report := s.env.Clock.After(drainReport)
	failed := s.Components.stopping
	for {
		select {
		case err := <-done:
			s.drained(begun, left, len(s.Inflight()))
			return err
		case <-failed:
			failed = nil
			cancel(errRush)
			s.hurry(errRush)
		case <-report:
			s.log.Info("drain.waiting", "inflight", len(s.Inflight()), "since", s.env.Clock.Now().Sub(begun))
			report = s.env.Clock.After(drainReport)
		case <-limit:
			rest := s.Inflight()
			err := &DrainError{s.DrainTimeout, rest, s.env.Clock.Now()}
			cancel(err)
			s.log.Warn("drain.timeout", "after", s.DrainTimeout, "left", err.Error())
			s.drained(begun, left, len(rest))
			return errors.Join(err, genuine(<-done, err))
		}
	}
}

func (s *Service) drained(begun time.Time, before, left int) {
	took := s.env.Clock.Now().Sub(begun)
	s.live.drained(took)
	s.log.Info("service.drained", "took", took, "finished", max(before-left, 0), "left", left)
}

// genuine is err without what says only that the drain's time was over.
func genuine(err, over error) error {
	var errs []error
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, e := range all {
		if e != nil && !errors.Is(e, over) && !errors.Is(e, context.Canceled) {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

// Inflight is the work that the components have in hand, in order of Add.
func (s *Service) Inflight() (all []Inflight) {
	s.Components.each(func(p *part, c Component) {
		w, ok := c.(Worker)
		if !ok {
			return
		}
		_ = guarded(func() error { // one that panics has shown nothing
			for _, i := range w.Inflight() {
				if i.Component == "" {
					i.Component = p.path
				}
				all = append(all, i)
			}
			return nil
		})
	})
	return all
}
