package syncqueue

import (
	"context"
	"errors"
)

// Errors of this package; compare with errors.Is.
var (
	ErrReentrant = errors.New("syncqueue: key already held by this call chain")
	ErrFull      = errors.New("syncqueue: too many pending")
	ErrClosed    = errors.New("syncqueue: draining")
	ErrInvalid   = errors.New("syncqueue: invalid")

	// ErrExpired is context.DeadlineExceeded too.
	ErrExpired error = expired{}
)

type expired struct{}

func (expired) Error() string        { return "syncqueue: deadline passed while pending" }
func (expired) Is(target error) bool { return target == context.DeadlineExceeded }
func (expired) Timeout() bool        { return true }
