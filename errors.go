package drover

import (
	"errors"
	"fmt"
)

// Errors of this package. Errors of a Group carry the component's name and wrap one of these or the component's own.
var (
	ErrRunning      = errors.New("drover: already running")
	ErrUsed         = errors.New("drover: has run before")
	ErrStopping     = errors.New("drover: stopping")
	ErrStuck        = errors.New("drover: did not stop in time")
	ErrNotReady     = errors.New("drover: not ready in time")
	ErrRestarts     = errors.New("drover: too many restarts")
	ErrDrainTimeout = errors.New("drover: drain timeout")
	ErrPanic        = errors.New("drover: panic")
	ErrHook         = errors.New("drover: hook failed")
	ErrCheck        = errors.New("drover: check failed")
	ErrConfig       = errors.New("drover: bad configuration")
	ErrDuplicate    = errors.New("drover: duplicate name")
	ErrUnavailable  = errors.New("drover: unavailable")
	ErrExists       = errors.New("drover: record exists")
	ErrSignals      = errors.New("drover: signals already taken")
)

// FieldError names a field of a configuration that was refused, and why. It is ErrConfig.
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string { return "drover: " + e.Field + ": " + e.Reason }

// Is reports whether target is ErrConfig.
func (e *FieldError) Is(target error) bool { return target == ErrConfig }

// PanicError is a recovered panic, in every package of drover; it is ErrPanic, and the value panicked with when that is
// an error. A nil Value means that the goroutine ended by runtime.Goexit.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

// Error names the value, without the stack.
func (e *PanicError) Error() string {
	if e.Value == nil {
		return "drover: panic: goroutine exited"
	}
	return fmt.Sprintf("drover: panic: %v", e.Value)
}

// Is reports whether target is ErrPanic.
func (e *PanicError) Is(target error) bool { return target == ErrPanic }

// Unwrap gives the value panicked with when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Permanent marks err as one that no Loop, Group or job retries. Permanent(nil) is nil; the mark keeps errors.Is and As.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether err was marked by Permanent anywhere in its chain.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// ExitCode is the process exit code for what Run returned: 0 for nil, 2 when something did not end in time (ErrStuck,
// ErrDrainTimeout), 1 otherwise. drover itself never exits.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrStuck), errors.Is(err, ErrDrainTimeout):
		return 2
	}
	return 1
}
