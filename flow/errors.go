package flow

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrEmpty: the flow has no steps.
	ErrEmpty = errors.New("flow: no steps")
	// ErrStepTimeout is the cause of a step's ctx whose [Timeout] or [UndoTimeout] has passed.
	ErrStepTimeout = errors.New("flow: step timeout")
	// ErrState: the state cannot be stored: it does not encode as JSON, is over 256 KiB, or has fields tagged secret.
	ErrState = errors.New("flow: state cannot be stored")
	// ErrChanged: the steps that were run are not the ones the flow has now.
	ErrChanged = errors.New("flow: definition changed")
	// ErrNoUndo: the step was run by an earlier definition and is unknown now; it was not undone.
	ErrNoUndo = errors.New("flow: step unknown, not undone")
	// ErrSkipped: an item that [Each] did not start.
	ErrSkipped = errors.New("flow: not started")
	// ErrCycle: [LeavesFirst] came back to where it was.
	ErrCycle = errors.New("flow: cycle")
	// Stop, wrapped or not, from a function of [Each]: start no more items.
	Stop = errors.New("flow: stop") //nolint:staticcheck // a word a function says, not something that went wrong
)

// Error is what [Flow.Run] returns after a rollback, or at the end if a step returned [Continue].
type Error struct {
	Flow    string
	Step    string   // that failed, "a/b" for step b of the flow run as step a; "" if the flow ended between steps
	Err     error    // its error; of several Continue errors the first comes first
	Undo    []error  // each a *UndoError: what could not be undone
	Skipped []string // undos not run because of [StopUndo]
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "flow %s: ", e.Flow)
	if e.Step != "" {
		fmt.Fprintf(&b, "step %s: ", e.Step)
	}
	fmt.Fprint(&b, e.Err)
	for _, u := range e.Undo {
		fmt.Fprintf(&b, "; %v", u)
	}
	if len(e.Skipped) > 0 {
		fmt.Fprintf(&b, "; not undone: %s", strings.Join(e.Skipped, ", "))
	}
	return b.String()
}

// Unwrap gives Err and every Undo error.
func (e *Error) Unwrap() []error { return append([]error{e.Err}, e.Undo...) }

// UndoError is an undo that failed for good.
type UndoError struct {
	Step string
	Err  error

	owed string // what do had come to; "" if the undo is not to be tried again
}

func (e *UndoError) Error() string { return "undo " + e.Step + ": " + e.Err.Error() }
func (e *UndoError) Unwrap() error { return e.Err }

type continueError struct{ err error }

func (e *continueError) Error() string { return e.err.Error() }
func (e *continueError) Unwrap() error { return e.err }

// Continue from a step: it counts as done, and err is returned when the flow has ended, without rollback. Continue(nil)
// is nil.
func Continue(err error) error {
	if err == nil {
		return nil
	}
	return &continueError{err}
}

type stopUndoError struct{ err error }

func (e *stopUndoError) Error() string { return e.err.Error() }
func (e *stopUndoError) Unwrap() error { return e.err }

// StopUndo from an undo: it failed, is not tried again, and the remaining undos are not run; [Error].Skipped lists them. None
// of these becomes a debt. StopUndo(nil) is nil.
func StopUndo(err error) error {
	if err == nil {
		return nil
	}
	return &stopUndoError{err}
}
