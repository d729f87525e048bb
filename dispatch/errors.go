package dispatch

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
)

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
	notYours   bool              // refused by the stage permit
	err        error
}

// Info is the row of the error's code. CloudStack's numbers differ for a missing parameter, and for a command that the caller may
// not use at all.
func (e *Error) Info() CodeInfo {
	i := e.Code.Info()
	switch {
	case e.notYours && e.Code == Forbidden:
		i.ErrorCode, i.CSErrorCode = UnknownCommand.Info().ErrorCode, UnknownCommand.Info().CSErrorCode
	case e.Code == Invalid && len(e.Fields) > 0 && e.Fields[0].Reason == Missing:
		i.CSErrorCode = 9999
	}
	return i
}

// Errorf makes an *Error of the code; %w wraps.
func Errorf(c Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: c, Text: err.Error(), Retryable: c.Info().Retryable, err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Text }

// ErrorCode makes the code survive in a stored job; see job.Error.
func (e *Error) ErrorCode() string { return string(e.Code) }

// ErrorMeta is what a stored job keeps of the error beside code and text.
func (e *Error) ErrorMeta() map[string]string {
	if e.Trace == "" && len(e.Meta) == 0 {
		return nil
	}
	m := map[string]string{}
	maps.Copy(m, e.Meta)
	if e.Trace != "" {
		m[traceMeta] = e.Trace
	}
	return m
}

// traceMeta is Meta's key of Trace in a stored job.
const traceMeta = "trace"

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

// Public makes any error fit for a caller: its code, text, fields and meta. Callers that are not admin get a general text
// and no meta for Internal, NoCapacity and Unavailable; the log has the rest. nil gives nil.
func Public(err error, admin bool) *Error {
	if err == nil {
		return nil
	}
	e := asError(err)
	if admin || e.Code != Internal && e.Code != NoCapacity && e.Code != Unavailable {
		return e
	}
	return &Error{
		Code: e.Code, Text: "The operation could not be completed. Reference: " + e.Trace,
		Retryable: e.Retryable, RetryAfter: e.RetryAfter, Trace: e.Trace, err: e.err,
	}
}

// asError is err as an *Error, with its whole text. What wraps an *Error is kept, since it may steer the job, as job.Permanent
// does.
func asError(err error) *Error {
	var e *Error
	switch {
	case !errors.As(err, &e):
		return wrap(err)
	case err == error(e): //nolint:errorlint // is it wrapped at all
		return e
	}
	outer := *e
	outer.Text, outer.err = err.Error(), err
	return &outer
}

// wrap makes an *Error of any other.
func wrap(err error) *Error {
	code := CodeOf(err)
	e := &Error{Code: code, Text: err.Error(), Retryable: code.Info().Retryable, err: err}
	var stored *job.Error
	if errors.As(err, &stored) && len(stored.Meta) > 0 {
		e.Meta = maps.Clone(stored.Meta)
		e.Trace = e.Meta[traceMeta]
		delete(e.Meta, traceMeta)
	}
	var busy *job.OverloadedError
	if errors.As(err, &busy) {
		e.RetryAfter = busy.RetryAfter
	}
	return e
}
