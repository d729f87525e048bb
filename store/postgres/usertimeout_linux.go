package postgres

import (
	"context"
	"syscall"
	"time"
)

// userTimeout sets TCP_USER_TIMEOUT: unacknowledged data older than d breaks the connection.
func userTimeout(d time.Duration) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, network, _ string, c syscall.RawConn) (err error) {
		if network[:3] != "tcp" {
			return nil
		}
		const tcpUserTimeout = 18
		ctl := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
		})
		if ctl != nil {
			return ctl
		}
		return err
	}
}
