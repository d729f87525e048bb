package lease

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/drover-cloud/drover"
)

var (
	// ErrLost: the session has ended, or its store could not be reached for so long that it may have.
	ErrLost = errors.New("lease: session lost")
	// ErrHeld: another live session holds it; see [HeldError].
	ErrHeld = errors.New("lease: held by another session")
	// ErrConfig: a field of Config, or a name, is out of its bounds. It is [drover.ErrConfig] too.
	ErrConfig = fmt.Errorf("lease: %w", drover.ErrConfig)
)

// HeldError says who holds a lease, or which newer session has taken over a session's name. It is [ErrHeld].
type HeldError struct {
	Name   string
	Holder Token
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lease: %s is held by %s (incarnation %d, epoch %d)", e.Name, e.Holder.Node, e.Holder.Incarnation, e.Holder.Epoch)
}

// Is makes errors.Is(err, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// checkName holds for sessions and named leases.
func checkName(field, s string) error {
	if s == "" || len(s) > 128 {
		return fmt.Errorf("%w: %s: %d bytes, must be 1 to 128", ErrConfig, field, len(s))
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s: not UTF-8", ErrConfig, field)
	}
	for i, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: %s: not printable at byte %d", ErrConfig, field, i)
		}
	}
	return nil
}
