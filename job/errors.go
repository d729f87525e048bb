package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
)

// Errors of this package; each method names those it returns.
var (
	ErrNotFound       = errors.New("job: not found")
	ErrDuplicate      = errors.New("job: in use by another request") // *DuplicateError
	ErrInvalid        = errors.New("job: invalid")                   // *FieldError
	ErrTooLarge       = error(&coded{text: "job: too large", code: CodeTooLarge})
	ErrOverloaded     = errors.New("job: queue full") // *OverloadedError
	ErrDraining       = error(&coded{text: "job: node is draining", is: drover.ErrStopping})
	ErrFinished       = errors.New("job: already final")
	ErrNotCancellable = errors.New("job: not cancellable")
)

// Causes of a handler's ctx (context.Cause). ErrStopping is drover.ErrStopping. ErrDeadline is context.DeadlineExceeded too.
// ErrLost is lease.ErrLost too when the session ended.
var (
	ErrLost      = error(&coded{text: "job: claim lost", code: CodeLost})
	ErrCancelled = error(&coded{text: "job: cancelled", code: CodeCancelled})
	ErrDeadline  = error(&coded{text: "job: deadline passed", code: CodeTimeout, is: context.DeadlineExceeded})
	ErrStopping  = drover.ErrStopping
)

// Codes of the errors that the manager itself stores with a job.
const (
	CodeCancelled = "cancelled"
	CodeTimeout   = "timeout"
	CodeLost      = "lost"
	CodeFenced    = "fenced"
	CodeInvalid   = "invalid"
	CodeTooLarge  = "too-large"
	CodeInternal  = "internal"
)

// coded is a sentinel with a code, or one that is another sentinel too.
type coded struct {
	text, code string
	is         error
}

func (e *coded) Error() string        { return e.text }
func (e *coded) Is(target error) bool { return e.is != nil && target == e.is }
func (e *coded) ErrorCode() string    { return e.code }

// errSessionLost is the cause when trust in the session ended.
var errSessionLost = fmt.Errorf("%w: %w", ErrLost, lease.ErrLost)

// cancelledError is the cause of a handler's ctx after a cancel request.
type cancelledError struct{ reason string }

func (e *cancelledError) Error() string {
	if e.reason == "" {
		return ErrCancelled.Error()
	}
	return ErrCancelled.Error() + ": " + e.reason
}
func (e *cancelledError) Is(target error) bool { return target == ErrCancelled }
func (e *cancelledError) ErrorCode() string    { return CodeCancelled }

// FieldError names the field of a request, a configuration or a query that was refused, and why. It is [ErrInvalid].
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string        { return "job: " + e.Field + ": " + e.Reason }
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// ErrorCode is "invalid".
func (e *FieldError) ErrorCode() string { return CodeInvalid }

func invalid(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// DuplicateError names the job that has the ID, Idem or Unique of a different request. It is [ErrDuplicate].
type DuplicateError struct{ ID, Field string }

func (e *DuplicateError) Error() string {
	return "job: " + e.Field + " is in use by another request, job " + e.ID
}
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// BatchError names the first request of a batch that was refused.
type BatchError struct {
	Index int
	Err   error
}

func (e *BatchError) Error() string { return fmt.Sprintf("job: request %d: %v", e.Index, e.Err) }
func (e *BatchError) Unwrap() error { return e.Err }

// OverloadedError says when to try again. It is [ErrOverloaded].
type OverloadedError struct{ RetryAfter time.Duration }

func (e *OverloadedError) Error() string        { return ErrOverloaded.Error() }
func (e *OverloadedError) Is(target error) bool { return target == ErrOverloaded }
