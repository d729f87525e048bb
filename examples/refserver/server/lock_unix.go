//go:build unix

package server

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the file for this process alone. The operating system lets go of it when the process ends, however it does.
func lockFile(f *os.File) (taken bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) // #nosec G115 -- a descriptor is small
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
