// Package drover is the orchestration core of a cloud as a library. (The package doc is the map.)
package drover

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Clock is the part of benbjohnson/clock that drover uses: clock.New() and *clock.Mock satisfy it.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// Env is the ambience of a component. The zero value is ready for production.
type Env struct {
	Node   string                      // this process, unique in the cluster; "" = host/pid/random
	Clock  Clock                       // nil = real time (clock.New())
	Logger *slog.Logger                // nil = slog.Default()
	Tracer trace.TracerProvider        // nil = the global OpenTelemetry one
	Meter  metric.MeterProvider        // nil = the global OpenTelemetry one
	Rand   rand.Source                 // nil = seeded by the OS; jitter and tie-breaks only
	NewID  func() string               // nil = UUIDv7
	Go     func(name string, f func()) // nil = go f(); the only place where drover starts goroutines
}

func (e Env) Defaults() Env                                    { return e } // every nil field filled; called once in each New
func (e Env) Sleep(ctx context.Context, d time.Duration) error { return nil }

// Component runs until ctx is done or it cannot go on. Run is called once.
type Component interface {
	Run(ctx context.Context) error
}
type Func func(ctx context.Context) error

func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Stepper is a component without its loop: Step does all that is due and says when it wants to be
// called next (zero: only when woken).
type Stepper interface {
	Step(ctx context.Context) (next time.Time, err error)
}

// Loop is the production loop of every Stepper: step, sleep until next or wake, retry transient
// errors with backoff, report its saturation, end on ctx or a fatal error.
func Loop(ctx context.Context, e Env, wake <-chan struct{}, s Stepper) error { panic("sketch") }

// Optional abilities of a component, found by type assertion.
type (
	Readier interface{ Ready() <-chan struct{} }
	Drainer interface {
		Drain(ctx context.Context) error
	} // finish what runs, take nothing new
	Reporter interface{ Health() Health }
	Reloader interface {
		Reload(ctx context.Context) error
	}
	Announcer interface {
		Announce(ctx context.Context, accepting bool) error
	}
	Worker  interface{ Inflight() []Inflight }
	Stopper interface{ StopTimeout() time.Duration } // its own default in place of 10s
)

// Group runs components together and stops them in reverse order of Add. The zero value is empty.
type Group struct{ _ int }

func (g *Group) Add(name string, c Component, opts ...GroupOption) {}
func (g *Group) Replicate(name string, n int, f func(i int) Component, opts ...GroupOption) {
}
func (g *Group) Run(ctx context.Context) error   { panic("sketch") }
func (g *Group) Drain(ctx context.Context) error { panic("sketch") }
func (g *Group) Health() []Health                { return nil } // in order of Add
func (g *Group) Status() []Status                { return nil }

type GroupOption func(*groupOptions)
type groupOptions struct{}

func Restart(b func() time.Duration) GroupOption { panic("sketch") } // supervised restart; nil = Backoff(Policy{})
func StopTimeout(d time.Duration) GroupOption    { panic("sketch") } // stop waiting, report ErrStuck
func ReadyTimeout(d time.Duration) GroupOption   { panic("sketch") } // default 60s
func AfterReady() GroupOption                    { panic("sketch") } // start only when the Service is ready
func Background() GroupOption                    { panic("sketch") } // its normal return stops nobody
func Needs(names ...string) GroupOption          { panic("sketch") } // earlier ones only

// Policy of supervised restarts; zero fields are the defaults 1s, 2, 30s, 0.2, 60s, 5 in 60s.
type Policy struct {
	Initial     time.Duration
	Factor      float64
	Max         time.Duration
	Jitter      float64
	Healthy     time.Duration
	MaxFailures int
	Window      time.Duration
}

func Backoff(p Policy) func() time.Duration { panic("sketch") }

type Health struct {
	Name  string
	State string // starting, ready, degraded, failing, draining, stopped
	Err   error
	Since time.Time
}

func Worst(hs []Health) Health { return Health{} }

type Inflight struct {
	Component, Kind, ID string
	Since               time.Time
	Long                bool // resumable elsewhere: cancelled at drain start, not awaited
}
type Status struct {
	Name, State string
	Since, Next time.Time
	Restarts    int
	Err         error
	Health      Health
}

// PanicError is a recovered panic, in every package of drover; it is ErrPanic.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string        { return "drover: panic" }
func (e *PanicError) Is(target error) bool { return target == ErrPanic }

func Permanent(err error) error { return err } // no supervisor retries it
func ExitCode(err error) int    { return 0 }   // 0, 1, 2

var (
	ErrRunning   = errors.New("drover: already running")
	ErrUsed      = errors.New("drover: has run before")
	ErrStopping  = errors.New("drover: stopping")
	ErrStuck     = errors.New("drover: did not stop in time")
	ErrNotReady  = errors.New("drover: not ready in time")
	ErrRestarts  = errors.New("drover: too many restarts")
	ErrPanic     = errors.New("drover: panic")
	ErrConfig    = errors.New("drover: bad configuration")
	ErrDuplicate = errors.New("drover: duplicate name")
)
