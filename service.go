package drover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Service is a process that starts in order, becomes ready, drains and stops: hooks around a Group of components, as Nova's
// Service and Manager, in one value. Fields are set before Run, and the zero value runs nothing until it is stopped. All
// methods may be called at any time from any goroutine.
//
// The start is Init, Checks, Record, PreStart, the components in order of Add (each ready before the next), PostStart; then
// every Announcer is told, Ready is true, and components added with AfterReady start. The stop: Ready is false and every
// Announcer is told; with Shutdown also the Drain hook and every Drainer; then the components in reverse, and the Stop hook.
// A start that fails is undone in the same way. A hook that returns an error, panics or takes too long is ErrHook.
type Service struct {
	Env     Env
	Host    string // of the Record; "" means Env.Node
	Topic   string // what kind of service this is
	Version string // of the program

	Init      func(ctx context.Context) error // wait here for what this service cannot start without: see WaitFor
	PreStart  func(ctx context.Context) error // nothing runs yet
	PostStart func(ctx context.Context) error // all components are ready
	Drain     func(ctx context.Context) error // before the Drainers are asked
	Stop      func(ctx context.Context) error // after the last component; flush telemetry here

	Components Group
	Checks     []Check     // all run before anything starts; see ErrCheck
	Record     RecordStore // what is remembered between the lives of the service; nil = nothing, likewise without a Host or Env.Node: under a name drawn anew nobody would find it

	StartTimeout time.Duration // for the whole start; 0 = no limit
	HookTimeout  time.Duration // for each hook but Init, and for each Check; 0 = 60 s, negative = no limit
	DrainTimeout time.Duration // 0 = as long as it takes, negative = work is not awaited
	StopTimeout  time.Duration // for components that have none of their own; 0 = 10 s

	env  Env
	log  *slog.Logger
	live meters

	mu     sync.Mutex // never held while hooks, components or stores are called
	state  string     // "" = new
	since  time.Time
	asked  stopKind
	faults []error         // in order of arrival
	record *Record         // as it was loaded
	outer  context.Context // given to Run
	ctx    context.Context // of the start and of the components' values; ends when the stop is wanted
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when Run returns
	err    error         // of Run
	damp   damper

	rush  context.Context // of the drain; ends when that is to be cut short
	hurry context.CancelCauseFunc
	turn  chan struct{} // held by the Reload under way
}

// stopKind is how a stop was asked for.
type stopKind int

const (
	unasked stopKind = iota
	drainFirst
	stopNow
)

type serviceKey struct{}

// Run starts the service and runs it until Shutdown, Close or the end of ctx, which means Close, or until a component
// returns. It gives nil after an orderly stop, also one that came during the start; else what went wrong, joined: an error
// of the start (ErrHook, ErrCheck, ErrNotReady, that of Record), of a component with its name, ErrDrainTimeout (a
// *DrainError), ErrStuck. Called again it gives ErrRunning or ErrUsed.
func (s *Service) Run(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrSignals) {
		return cause
	}
	stopped, err := s.open(ctx)
	if err != nil || stopped {
		return err
	}
	defer context.AfterFunc(ctx, func() { s.ask(stopNow) })()
	unobserve := s.live.observe(s)
	started, end := s.start()
	if started {
		s.Components.onReady = func() error { err := s.becomeReady(); end(err); return err }
		s.Components.onStop = s.quiesce
		err := s.Components.Run(s.ctx)
		end(err)
		s.fault(err)
	}
	s.enter("stopping")
	base, span := s.tracer().Start(context.WithoutCancel(s.ctx), "service.stop")
	s.fault(s.hook(base, "Stop", s.Stop, s.hookTimeout()))
	span.End()
	unobserve()
	return s.close()
}

// open begins the one Run; stopped says that a stop came before it.
func (s *Service) open(ctx context.Context) (stopped bool, err error) {
	env := s.Env.Defaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.done != nil && !isClosed(s.done):
		return false, ErrRunning
	case s.done != nil:
		return false, ErrUsed
	}
	s.env, s.done = env, make(chan struct{})
	s.log = env.Logger.With("node", env.Node)
	if s.asked != unasked {
		s.state, s.since = "stopped", env.Clock.Now()
		close(s.done)
		return true, nil
	}
	if err := errors.Join(s.check(), s.Components.prepare(env, s.StopTimeout)); err != nil {
		s.state, s.since, s.err = "failed", env.Clock.Now(), err
		close(s.done)
		return false, err
	}
	s.turn = make(chan struct{}, 1)
	s.outer = ctx
	values := context.WithValue(ctx, serviceKey{}, s)
	s.ctx, s.cancel = context.WithCancelCause(values)
	s.rush, s.hurry = context.WithCancelCause(context.WithoutCancel(values))
	s.live.init(env)
	s.enterLocked("starting")
	return false, nil
}

// prepare makes env the Group's, and gives what was wrong with Add before anything starts.
func (g *Group) prepare(env Env, stop time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Env, g.stopAfter = g.Env.over(env), stop
	return errors.Join(g.config...)
}

func (s *Service) check() error {
	if err := s.Env.Check(); err != nil {
		return err
	}
	if s.StopTimeout < 0 {
		return &FieldError{"Service.StopTimeout", "negative"}
	}
	if s.StartTimeout < 0 {
		return &FieldError{"Service.StartTimeout", "negative"}
	}
	for i, c := range s.Checks {
		if c.Name == "" || c.Do == nil {
			return &FieldError{fmt.Sprintf("Service.Checks[%d]", i), "needs Name and Do"}
		}
	}
	return nil
}

// close ends Run.
func (s *Service) close() error {
	s.cancel(ErrStopping)
	s.hurry(ErrStopping)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.faults...)
	if len(s.faults) == 1 {
		s.err = s.faults[0]
	}
	if s.err != nil {
		s.enterLocked("failed")
	} else {
		s.enterLocked("stopped")
	}
	close(s.done)
	return s.err
}

// fault keeps err for the end of Run, unless it says only that a stop was wanted.
func (s *Service) fault(err error) {
	if err == nil || s.ctx.Err() != nil && isStop(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
}

// fail stops the service with err.
func (s *Service) fail(err error) {
	s.fault(err)
	s.cancel(err)
}

func (s *Service) enter(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enterLocked(state)
}

func (s *Service) enterLocked(state string) {
	if s.state == state {
		return
	}
	s.state, s.since = state, s.env.Clock.Now()
	event := state
	if state == "running" {
		event = "ready"
	}
	s.log.Info("service."+event, "host", s.host(), "topic", s.Topic, "version", s.Version)
}

func (s *Service) host() string {
	if s.Host != "" {
		return s.Host
	}
	return s.env.Node
}

func (s *Service) tracer() trace.Tracer { return s.env.Tracer.Tracer(scope) }

func (s *Service) hookTimeout() time.Duration {
	if s.HookTimeout == 0 {
		return time.Minute
	}
	return s.HookTimeout
}

// hook calls f on a goroutine of its own, so that one that ignores its ctx is named and left behind.
func (s *Service) hook(ctx context.Context, phase string, f func(context.Context) error, limit time.Duration) error {
	if f == nil {
		return nil
	}
	ctx, span := s.tracer().Start(ctx, "service.hook "+phase)
	defer span.End()
	err := s.call(ctx, phase, f, limit)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return &phaseError{ErrHook, phase, err}
	}
	return nil
}

// call is f with its panic as its error. It returns when f has, or 10 s after f's time is over, with ErrStuck.
func (s *Service) call(ctx context.Context, name string, f func(context.Context) error, limit time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var timer <-chan time.Time
	if limit > 0 {
		timer = s.env.Clock.After(limit)
	}
	done, err := make(chan struct{}), error(&PanicError{Stack: []byte("runtime.Goexit")})
	s.env.Go("service/"+name, func() {
		defer close(done)
		err = guarded(func() error { return inHook(ctx, f) })
	})
	select {
	case <-done:
		return err
	case <-ctx.Done():
	case <-timer:
		cancel(fmt.Errorf("took longer than %v: %w", limit, context.DeadlineExceeded))
	}
	select {
	case <-done:
	case <-s.env.Clock.After(cmpOr(s.StopTimeout, stopTimeout)):
	}
	if !isClosed(done) {
		return fmt.Errorf("%w: %w", ErrStuck, context.Cause(ctx))
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// inHook is a frame of the stack by which Close knows that it was called from within.
func inHook(ctx context.Context, f func(context.Context) error) error { return f(ctx) }
