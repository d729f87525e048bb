// Package flow runs steps forward and, on failure, undoes those begun, backwards.
package flow

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

// Flow is a list of steps over a state S, which is saved after every step.
type Flow[S any] struct{ _ *S }

func New[S any](name string) *Flow[S] { return nil }

type Step[S any] struct {
	Name     string
	Do, Undo func(context.Context, *S) error
	Opts     []Option
}

// Then adds a step. undo may be nil. Both must be idempotent: after a crash the
// step that was under way is run again.
func (f *Flow[S]) Then(name string, do, undo func(context.Context, *S) error, opts ...Option) *Flow[S] {
	return f
}
func (f *Flow[S]) Clone() *Flow[S] { return f }
func (f *Flow[S]) Replace(name string, do, undo func(context.Context, *S) error, opts ...Option) *Flow[S] {
	return f
}
func (f *Flow[S]) Before(name string, s Step[S]) *Flow[S]            { return f }
func (f *Flow[S]) After(name string, s Step[S]) *Flow[S]             { return f }
func (f *Flow[S]) Check(func(context.Context, *S) error) *Flow[S]    { return f }
func (f *Flow[S]) Finally(func(context.Context, *S, error)) *Flow[S] { return f }
func (f *Flow[S]) NoUndo() *Flow[S]                                  { return f }
func (f *Flow[S]) Grace(d time.Duration) *Flow[S]                    { return f } // default 30m
func (f *Flow[S]) Version(n int) *Flow[S]                            { return f }
func (f *Flow[S]) Plan() []string                                    { return nil }

// Run runs in place; in a job it keeps its boundaries as job steps and resumes.
func (f *Flow[S]) Run(ctx context.Context, s *S) error { return nil }

// Sub adds another flow as one step; its undo is g's rollback.
func Sub[S, T any](f *Flow[S], name string, g *Flow[T], pick func(*S) *T, opts ...Option) *Flow[S] {
	return f
}

// Register makes the kinds flow:<name> (Unwinds, Grace of the flow) and flow-undo:<name>.
func Register[S any](m *job.Manager, f *Flow[S]) {}

func Journal(ctx context.Context, m *job.Manager, jobID string) iter.Seq2[StepRecord, error] {
	return nil
}

type StepRecord struct {
	Path, State, Cause string
	Tries              int
	Started, Ended     time.Time
}

type Option func(*step)
type step struct{}

func When[S any](f func(context.Context, *S) (bool, error)) Option { return nil }
func Timeout(d time.Duration) Option                               { return nil } // default none
func UndoTimeout(d time.Duration) Option                           { return nil } // default 5m
func Retry(b func() backoff.BackOff, max int) Option               { return nil }
func RetryIf(f func(error) bool) Option                            { return nil }
func UndoOnlyDone() Option                                         { return nil }
func NoRetryUndo() Option                                          { return nil }

// Errors a step may return.
func Continue(err error) error { return err } // the step counts as done, err is returned at the end
func StopUndo(err error) error { return err } // from an undo: the rest is not run

type Info struct {
	Flow, Step     string
	Index, Of, Try int
	Phase, Outcome string // do, undo; done, failed, interrupted
	Cause          error
}

func Current(ctx context.Context) Info { return Info{} }

// Error is what Run returns after a rollback or a Continue.
type Error struct {
	Flow, Step string
	Err        error    // what failed
	Undo       []error  // *UndoError: what could not be undone
	Skipped    []string // undos not run
}

func (e *Error) Error() string   { return e.Flow + "/" + e.Step }
func (e *Error) Unwrap() []error { return append([]error{e.Err}, e.Undo...) }

type UndoError struct {
	Step string
	Err  error
}

func (e *UndoError) Error() string { return e.Step }
func (e *UndoError) Unwrap() error { return e.Err }

// Each runs fn over items, at most parallel at once; one error per item, in item order.
func Each[T any](ctx context.Context, e drover.Env, parallel int, items []T, fn func(context.Context, T) error) []error {
	return nil
}

// LeavesFirst lists children before parents, each node once.
func LeavesFirst[T comparable](roots []T, children func(T) ([]T, error)) ([]T, error) {
	return nil, nil
}

var (
	ErrEmpty       = errors.New("flow: no steps")
	ErrStepTimeout = errors.New("flow: step timeout")
	ErrState       = errors.New("flow: state cannot be stored")
	ErrChanged     = errors.New("flow: definition changed")
	ErrNoUndo      = errors.New("flow: step unknown, not undone")
	ErrSkipped     = errors.New("flow: not started")
	ErrCycle       = errors.New("flow: cycle")
	Stop           = errors.New("flow: stop") // wrapped by an Each function: start no more
)
