package tracker

import (
	"errors"
	"strings"
)

// What the tracker's methods return, wrapped.
var (
	ErrNoRoom     = errors.New("tracker: no room")       // *NoRoom
	ErrNotFound   = errors.New("tracker: not found")     // unknown host, claim or workload
	ErrDisabled   = errors.New("tracker: host disabled") // nothing was touched
	ErrMismatch   = errors.New("tracker: other claim")   // same ID, other host, workload, amount or state
	ErrExpired    = errors.New("tracker: claim expired") // the caller must not go on
	ErrStaleEpoch = errors.New("tracker: stale epoch")   // below the row's
	ErrInUse      = errors.New("tracker: host in use")   // it has counted rows
	ErrInvalid    = errors.New("tracker: invalid")       // *FieldError
)

// NoRoom lists every resource that does not fit; it is ErrNoRoom.
type NoRoom struct {
	Host    string
	Reasons []Reason
	Used    Amount // Σ rows at the time of the refusal
}

// Error lists the reasons in order.
func (e *NoRoom) Error() string {
	var rs []string
	for _, r := range e.Reasons {
		rs = append(rs, r.String())
	}
	return ErrNoRoom.Error() + " on " + e.Host + ": " + strings.Join(rs, "; ")
}

// Is makes it ErrNoRoom.
func (e *NoRoom) Is(target error) bool { return target == ErrNoRoom }

// FieldError is bad input; it is ErrInvalid.
type FieldError struct{ Field, Reason string }

// Error names the field and the reason.
func (e *FieldError) Error() string { return "tracker: " + e.Field + ": " + e.Reason }

// Is makes it ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

func invalid(field, reason string) error { return &FieldError{field, reason} }
