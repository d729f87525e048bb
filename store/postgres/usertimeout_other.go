//go:build !linux

package postgres

import (
	"context"
	"syscall"
	"time"
)

func userTimeout(time.Duration) func(context.Context, string, string, syscall.RawConn) error {
	return nil
}
