package watchlock

import "runtime"

// underLock is the frame by which Caller knows who is under a lock.
//
//go:noinline
func underLock(f func()) { f() }

const frame = "github.com/drover-cloud/drover/internal/watchlock.underLock"

// Caller tells whether the calling goroutine is under a Lock, by its stack, and which function took it. It is for test doubles of
// stores, buses, agents and drivers: none of them is to be called then.
func Caller() (taken string, under bool) {
	pcs := make([]uintptr, 64)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		for i, pc := range pcs[:n] {
			if f := runtime.FuncForPC(pc - 1); f == nil || f.Name() != frame {
				continue
			}
			frames := runtime.CallersFrames(pcs[i:n])
			frames.Next()          // underLock
			frames.Next()          // Do
			by, _ := frames.Next() // "" at the end of what was asked for
			return by.Function, true
		}
		if n < len(pcs) {
			return "", false
		}
	}
}
