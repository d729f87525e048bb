// Package store holds the one transaction concept. It knows no tables.
package store

import (
	"context"
	"errors"
	"time"
)

// Tx is an open transaction, opaque to components: they hand it to their own Store interface.
type Tx interface {
	Now() time.Time    // the store's clock, fixed for the transaction
	Hint(topic string) // wake the sleepers on topic once, and only if the transaction commits
}

// Runner opens transactions. fn may run again after a serialization failure or deadlock.
type Runner interface {
	InTx(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
}

// Notifier wakes sleepers. A wakeup is a hint: lost, repeated or late, never wrong.
type Notifier interface {
	Wake(topic string) (c <-chan struct{}, stop func()) // coalescing, capacity 1
}

var (
	ErrNotFound = errors.New("store: not found")
	ErrConflict = errors.New("store: lost a compare-and-set") // epoch, state or version not ours
	ErrForeign  = errors.New("store: transaction of another store")
)
