package hypervisor

import (
	"errors"
	"strings"
)

// The classes of errors. A caller decides by them, never by text.
var (
	ErrNotFound     = errors.New("hypervisor: no such vm or object")
	ErrExists       = errors.New("hypervisor: name or id taken")
	ErrState        = errors.New("hypervisor: not possible in this state")
	ErrBusy         = errors.New("hypervisor: vm busy") // retry later
	ErrTimeout      = errors.New("hypervisor: out of time")
	ErrAborted      = errors.New("hypervisor: aborted") // ended on request
	ErrGone         = errors.New("hypervisor: host unreachable")
	ErrUnsupported  = errors.New("hypervisor: unsupported")
	ErrInvalid      = errors.New("hypervisor: invalid")
	ErrIncompatible = errors.New("hypervisor: incompatible cpu") // with ErrUnsupported
	ErrDenied       = errors.New("hypervisor: denied")
	ErrMigration    = errors.New("hypervisor: migration failed")
	ErrNoResources  = errors.New("hypervisor: no resources") // host out of memory or room
	ErrInternal     = errors.New("hypervisor: internal")
	ErrStaleEpoch   = errors.New("hypervisor: stale epoch")
	ErrClosed       = errors.New("hypervisor: closed")
	ErrWrongHost    = errors.New("hypervisor: wrong host")
	ErrTwoCopies    = errors.New("hypervisor: two copies") // of one VM run

	// ErrOutcomeUnknown comes together with ErrGone, ErrTimeout or the context's error: the request was sent, no reply
	// came, it may or may not have happened.
	ErrOutcomeUnknown = errors.New("hypervisor: outcome unknown")
)

// Error is what a driver's methods return. errors.Is matches Class and Err.
type Error struct {
	Class   error  // one of the classes
	Op      string // list, get, define, start, …
	Host    string // id of the host
	VM      string // id of the VM, if the call was about one
	Code    int    // the driver's own, 0 = none
	Domain  int    // the part of the driver that Code belongs to
	Message string // for people
	Err     error  // cause: a context's error, ErrOutcomeUnknown, …
}

// Error names operation, host, VM and cause.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Class != nil {
		b.WriteString(e.Class.Error())
	} else {
		b.WriteString(ErrInternal.Error())
	}
	if e.Op != "" {
		b.WriteString(": " + e.Op)
	}
	if e.VM != "" {
		b.WriteString(" vm " + e.VM)
	}
	if e.Host != "" {
		b.WriteString(" on " + e.Host)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives class and cause.
func (e *Error) Unwrap() []error {
	var out []error
	for _, err := range []error{e.Class, e.Err} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// FieldError is bad input; it is ErrInvalid.
type FieldError struct{ Field, Reason string }

// Error names the field and the reason.
func (e *FieldError) Error() string { return "hypervisor: " + e.Field + ": " + e.Reason }

// Is makes it ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }
