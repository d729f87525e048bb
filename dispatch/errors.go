package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Code is a word of the error taxonomy: the same in a command's answer, in a stored job's error, and on every face.
// Codes are never reused or renamed.
type Code string

// The taxonomy. Codes gives what each becomes on the faces.
const (
	Malformed           Code = "malformed"            // a parameter's name has no known shape
	Invalid             Code = "invalid"              // a parameter's value, or the command as a whole
	IdempotencyMismatch Code = "idempotency-mismatch" // an idempotency key or job id is in use by another request
	NotFound            Code = "not-found"            // nothing the caller may see has this id
	TooLarge            Code = "too-large"            // a size limit
	UnknownCommand      Code = "unknown-command"
	Unauthenticated     Code = "unauthenticated"
	Forbidden           Code = "forbidden"
	Limit               Code = "limit" // quota of an account
	NoCapacity          Code = "insufficient-capacity"
	Unavailable         Code = "resource-unavailable" // a host, agent or driver cannot be reached
	Allocation          Code = "allocation"           // a pool is empty
	InUse               Code = "in-use"
	WrongState          Code = "wrong-state"
	Conflict            Code = "conflict" // a compare-and-set lost after retries
	RateLimited         Code = "rate"
	Draining            Code = "draining"
	TimedOut            Code = "timeout"
	Cancelled           Code = "cancelled"
	Lost                Code = "lost"   // the node died, the outcome is unknown
	FencedOff           Code = "fenced" // an operator gave up on it, the outcome is unknown
	Unsupported         Code = "unsupported"
	Internal            Code = "internal" // everything else, panics
)

// CodeInfo is what a code becomes on the faces: CloudStack's errorcode and cserrorcode, the HTTP status of a native face,
// and whether the same request may succeed later.
type CodeInfo struct {
	Code                   Code
	ErrorCode, CSErrorCode int
	Status                 int
	Retryable              bool
}

var codes = []CodeInfo{
	{Malformed, 430, 9999, 400, false},
	{Invalid, 431, 4350, 400, false},
	{IdempotencyMismatch, 431, 4350, 422, false},
	{NotFound, 431, 4350, 404, false},
	{TooLarge, 413, 9999, 413, false},
	{UnknownCommand, 432, 9999, 404, false},
	{Unauthenticated, 401, 0, 401, false},
	{Forbidden, 531, 4365, 403, false},
	{Limit, 532, 9999, 403, false},
	{NoCapacity, 533, 4335, 409, true},
	{Unavailable, 534, 4380, 503, true},
	{Allocation, 535, 4370, 409, false},
	{InUse, 536, 9999, 409, false},
	{WrongState, 530, 4250, 409, false},
	{Conflict, 530, 4300, 409, true},
	{RateLimited, 429, 4545, 429, true},
	{Draining, 503, 9999, 503, true},
	{TimedOut, 530, 4560, 504, true},
	{Cancelled, 530, 9999, 409, false},
	{Lost, 530, 4250, 500, false},
	{FencedOff, 530, 4250, 500, false},
	{Unsupported, 530, 4250, 501, false},
	{Internal, 530, 4250, 500, false},
}

// Codes gives the whole taxonomy, in the order of the documentation.
func Codes() []CodeInfo { return append([]CodeInfo(nil), codes...) }

// Info gives the code's row; an unknown code has Internal's, with the code kept.
func (c Code) Info() CodeInfo {
	for _, i := range codes {
		if i.Code == c {
			return i
		}
	}
	i := codes[len(codes)-1]
	i.Code = c
	return i
}

// Error is the one error type of commands. errors.Is finds the sentinels of this package by code, and whatever it wraps;
// errors.As with *FieldError finds the first field.
type Error struct {
	Code       Code
	Text       string
	Fields     []*FieldError     // of Malformed and Invalid: at most 16, in the order of the command's fields
	Meta       map[string]string // details for the caller
	Retryable  bool              // the same request may succeed later
	RetryAfter time.Duration     // no sooner than this; 0 = not known
	Trace      string            // trace id, set by the stage trace
	err        error
}

// Errorf makes an *Error of the code; %w wraps.
func Errorf(c Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: c, Text: err.Error(), Retryable: c.Info().Retryable, err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Text }

// ErrorCode makes the code survive in a stored job; see job.Error.
func (e *Error) ErrorCode() string { return string(e.Code) }

// Unwrap gives the fields and the cause.
func (e *Error) Unwrap() []error {
	var all []error
	for _, f := range e.Fields {
		all = append(all, f)
	}
	if e.err != nil {
		all = append(all, e.err)
	}
	return all
}

// Is matches the package's sentinels by code.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrUnknown:
		return e.Code == UnknownCommand
	case ErrMalformed:
		return e.Code == Malformed
	case ErrInvalid:
		return e.Code == Invalid
	case ErrDenied:
		return e.Code == Forbidden
	case ErrDraining, drover.ErrStopping:
		return e.Code == Draining
	}
	return false
}

// Sentinels of the most asked for codes; all others are found by CodeOf.
var (
	ErrUnknown   = errors.New("dispatch: unknown command")
	ErrMalformed = errors.New("dispatch: malformed parameters")
	ErrInvalid   = errors.New("dispatch: invalid command")
	ErrDenied    = errors.New("dispatch: denied")
	ErrDraining  = job.ErrDraining
)

// Reasons of a FieldError.
const (
	Missing      = "Missing"
	BadType      = "BadType"
	TooShort     = "TooShort"
	TooLong      = "TooLong"
	OutOfRange   = "OutOfRange"
	NotOneOf     = "NotOneOf"
	NoMatch      = "NoMatch"
	NoSuchEntity = "NoSuchEntity"
	BadText      = "BadText"
	Duplicate    = "Duplicate"
	Unknown      = "Unknown"
	Other        = "Other"
)

// FieldError says which parameter is wrong, and why. It is ErrInvalid.
type FieldError struct {
	Field, Reason string
	Value         string // cut to 64 bytes; never of a secret
	Limit         string // what would be right
}

func (e *FieldError) Error() string {
	switch {
	case e.Reason == Missing:
		return "missing parameter " + e.Field
	case e.Limit != "":
		return fmt.Sprintf("parameter %s: %s: %q, want %s", e.Field, e.Reason, e.Value, e.Limit)
	}
	return fmt.Sprintf("parameter %s: %s: %q", e.Field, e.Reason, e.Value)
}

// Is makes every FieldError ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// fieldsError collects what Bind found: at most 16 fields, the first decides the code.
func fieldsError(fs []*FieldError) *Error {
	if len(fs) > 16 {
		fs = fs[:16]
	}
	e := &Error{Code: Invalid, Text: fs[0].Error(), Fields: fs}
	if fs[0].Reason == NoSuchEntity {
		e.Code = NotFound
	}
	return e
}

// known maps what other packages return to codes, tried in order.
var known = []struct {
	err  error
	code Code
}{
	{ErrUnknown, UnknownCommand},
	{ErrMalformed, Malformed},
	{ErrInvalid, Invalid},
	{ErrDenied, Forbidden},
	{job.ErrDraining, Draining},
	{drover.ErrStopping, Draining},
	{job.ErrOverloaded, RateLimited},
	{job.ErrDuplicate, IdempotencyMismatch},
	{job.ErrTooLarge, TooLarge},
	{job.ErrNotFound, NotFound},
	{job.ErrFinished, WrongState},
	{job.ErrNotCancellable, WrongState},
	{job.ErrInvalid, Invalid},
	{job.ErrCancelled, Cancelled},
	{job.ErrLost, Lost},
	{job.ErrDeadline, TimedOut},
	{store.ErrNotFound, NotFound},
	{store.ErrConflict, Conflict},
	{context.DeadlineExceeded, TimedOut},
	{context.Canceled, Cancelled},
}

// CodeOf finds the code of any error: its own (an *Error, or ErrorCode() string anywhere in the chain), else that of a known
// sentinel, else Internal. nil has "".
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) && coded.ErrorCode() != "" {
		return Code(coded.ErrorCode())
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return Internal
}

// Public makes any error fit for a caller: its code, text, fields and meta. Callers that are not admin get a general text
// and no meta for Internal, NoCapacity and Unavailable; the log has the rest. nil gives nil.
func Public(err error, admin bool) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		e = wrap(err)
	}
	if admin || e.Code != Internal && e.Code != NoCapacity && e.Code != Unavailable {
		return e
	}
	return &Error{Code: e.Code, Text: "The operation could not be completed. Reference: " + e.Trace, Retryable: e.Retryable, RetryAfter: e.RetryAfter, Trace: e.Trace, err: e.err}
}

// wrap makes an *Error of any other.
func wrap(err error) *Error {
	code := CodeOf(err)
	e := &Error{Code: code, Text: err.Error(), Retryable: code.Info().Retryable, err: err}
	var busy *job.OverloadedError
	if errors.As(err, &busy) {
		e.RetryAfter = busy.RetryAfter
	}
	return e
}
