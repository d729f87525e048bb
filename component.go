package drover

import (
	"context"
	"time"
)

// Component runs until its ctx is done or it cannot go on. Run is called once per value: a second call gives ErrRunning
// during the first and ErrUsed after it. It returns nil once ctx is done and all its goroutines have returned.
type Component interface {
	Run(ctx context.Context) error
}

// Func is a function as a Component.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Stepper is a component without its loop. Step does all that is due and says when it wants to be called next; the zero
// time means only when woken. It starts no goroutines, does nothing when nothing is due, and is never called concurrently,
// so a test may call it inline in any rhythm. Loop is its production loop.
type Stepper interface {
	Step(ctx context.Context) (next time.Time, err error)
}

// Optional abilities of a component, found by type assertion.
type (
	// Readier closes Ready when it can be used; a Group starts the next component only then.
	Readier interface{ Ready() <-chan struct{} }

	// Drainer finishes what runs and takes nothing new, except what running work needs. Drain returns when that is done
	// or with ctx's error.
	Drainer interface {
		Drain(ctx context.Context) error
	}

	// Reporter answers from memory, within a millisecond.
	Reporter interface{ Health() Health }

	// Reloader reads its configuration again, and keeps the old one on error.
	Reloader interface {
		Reload(ctx context.Context) error
	}

	// Announcer tells peers whether this node accepts new work.
	Announcer interface {
		Announce(ctx context.Context, accepting bool) error
	}

	// Worker lists the work it has in hand.
	Worker interface{ Inflight() []Inflight }

	// Stopper has its own default for Group's StopTimeout in place of 10 s.
	Stopper interface{ StopTimeout() time.Duration }
)

// Inflight is a piece of work in hand.
type Inflight struct {
	Component, Kind, ID string
	Request             string // id of the request that asked for it, if known
	Since               time.Time
	Long                bool // resumable elsewhere: its owner cancels it when draining begins, and does not await it
}
