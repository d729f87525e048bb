package syncqueue

import "errors"

var (
	ErrReentrant = errors.New("syncqueue: key already held by this call chain")
	ErrFull      = errors.New("syncqueue: too many pending")
	ErrExpired   = errors.New("syncqueue: deadline passed while pending") // is context.DeadlineExceeded too
	ErrClosed    = errors.New("syncqueue: draining")
	ErrInvalid   = errors.New("syncqueue: invalid")
)
