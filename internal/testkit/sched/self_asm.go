//go:build amd64 || arm64

package sched

// self tells the calling goroutine from all others that live: the address of the runtime's record of it. It is taken up
// again by a later goroutine. runtime.Stack, the way without assembly, is as slow as the stack is deep.
func self() uintptr
