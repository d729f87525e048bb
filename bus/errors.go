package bus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of every verb. NotRun and Unknown tell what they mean for the handler.
var (
	ErrInvalid     = errors.New("bus: invalid")
	ErrNotSent     = errors.New("bus: not sent")
	ErrNoRoute     = errors.New("bus: no receiver")
	ErrBusy        = errors.New("bus: receiver busy") // *BusyError says when to try again
	ErrNotOwner    = errors.New("bus: receiver does not own the key")
	ErrUnsupported = errors.New("bus: no handler for this version")
	ErrTimeout     = errors.New("bus: deadline passed, outcome unknown")
	ErrNodeLost    = errors.New("bus: receiver lost, outcome unknown")
	// ErrCancelled is the cause of a handler's ctx when its caller has gone.
	ErrCancelled = errors.New("bus: caller cancelled")
)

var errOpen = errors.New("bus: caller left, outcome unknown")

// NotRun reports that no handler has run and none will: what was sent may be sent again.
func NotRun(err error) bool {
	return isAny(err, ErrInvalid, ErrNotSent, ErrNoRoute, ErrBusy, ErrNotOwner, ErrUnsupported) && !Unknown(err)
}

// Unknown reports that a handler may have run.
func Unknown(err error) bool {
	var remote *RemoteError
	if errors.As(err, &remote) {
		return false
	}
	return isAny(err, ErrTimeout, ErrNodeLost, errOpen)
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// fault is a sentinel with what happened and why.
type fault struct {
	kind, cause error
	text        string
}

func (f *fault) Error() string {
	s := f.kind.Error()
	if f.text != "" {
		s += ": " + f.text
	}
	if f.cause != nil && f.text == "" {
		s += ": " + f.cause.Error()
	}
	return s
}

func (f *fault) Unwrap() []error {
	if f.cause == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

func invalid(format string, args ...any) error {
	return &fault{kind: ErrInvalid, text: fmt.Sprintf(format, args...)}
}

func because(kind, cause error) error { return &fault{kind: kind, cause: cause} }

func notSent(text string) error { return &fault{kind: ErrNotSent, text: text} }

func noRoute(to string) error { return &fault{kind: ErrNoRoute, text: to} }

var (
	errTimeout  = because(ErrTimeout, context.DeadlineExceeded)
	errNoTime   = because(ErrNotSent, context.DeadlineExceeded)
	errDraining = notSent("the bus is draining")
)

// BusyError is ErrBusy: a queue, a lane or a limit is full.
type BusyError struct {
	What       string
	RetryAfter time.Duration
}

func (e *BusyError) Error() string { return ErrBusy.Error() + ": " + e.What }

// Is reports whether target is ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

func busy(what string) error { return &BusyError{what, time.Second} }

// NotOwnerError is ErrNotOwner: by the receiver's view the key is another node's.
type NotOwnerError struct {
	Owner string // "" if nobody's
	Epoch int64
}

func (e *NotOwnerError) Error() string { return ErrNotOwner.Error() + ": it is " + e.Owner + "'s" }

// Is reports whether target is ErrNotOwner.
func (e *NotOwnerError) Is(target error) bool { return target == ErrNotOwner }

// DispatchError is ErrUnsupported: no endpoint took a message.
type DispatchError struct {
	Topic, Namespace, Method, Version string
	// Method says that the version was fine and the method is unknown.
	UnknownMethod bool
}

func (e *DispatchError) Error() string {
	what := "unsupported version"
	if e.UnknownMethod {
		what = "unknown method"
	}
	return fmt.Sprintf("%s: %s: %s %s/%s %s", ErrUnsupported.Error(), what, e.Topic, e.Namespace, e.Method, e.Version)
}

// Is reports whether target is ErrUnsupported.
func (e *DispatchError) Is(target error) bool { return target == ErrUnsupported }
