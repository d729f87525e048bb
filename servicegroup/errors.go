package servicegroup

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/drover-cloud/drover"
)

var (
	// ErrFenced: another incarnation has this ID, or an operator has banned it.
	ErrFenced = errors.New("servicegroup: another incarnation has joined")
	// ErrTaken: the ID or address is in use by a live member.
	ErrTaken = errors.New("servicegroup: in use")
	// ErrGone: the own record has vanished.
	ErrGone = errors.New("servicegroup: own record vanished")
	// ErrUnavailable: the driver cannot answer.
	ErrUnavailable = errors.New("servicegroup: driver cannot answer")
	// ErrNotMember: there is no such member.
	ErrNotMember = errors.New("servicegroup: not a member")
	// ErrUnsupported: the driver has not this ability.
	ErrUnsupported = errors.New("servicegroup: unsupported by the driver")
	// ErrID: an ID or group name is outside its alphabet.
	ErrID = errors.New("servicegroup: bad id")
	// ErrMeta: more than 32 keys or 4 KiB.
	ErrMeta = errors.New("servicegroup: meta too large")
	// ErrConfig: a field of a Config is out of its bounds. It is [drover.ErrConfig] too.
	ErrConfig = fmt.Errorf("servicegroup: %w", drover.ErrConfig)
)

// guard turns a panic of f into an error.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &drover.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
