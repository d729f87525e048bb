package testkit

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// stuckAfter is the wall time without anything happening after which a world counts as stuck.
const stuckAfter = 10 * time.Second

// watch ends the test binary when a world does not move on, which nothing inside its bubble can notice. It must be called
// outside.
func watch(running *atomic.Pointer[World], seed uint64, replay string) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(stuckAfter / 20)
		defer tick.Stop()
		var seen int64
		still := 0
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			w := running.Load()
			if w == nil {
				continue
			}
			if n := w.s.Pulse.Load(); n != seen {
				seen, still = n, 0
				continue
			}
			if still++; still == 19 { // ticks, not time: a machine that slept does not count as stuck
				stuck(w, seed, replay)
			}
		}
	}()
	return func() { close(done) }
}

func stuck(w *World, seed uint64, replay string) {
	buf := make([]byte, 4<<20)
	fmt.Fprintf(os.Stderr, `testkit: seed %d: nothing has happened for %v: a mutex is held across a call of the store, or a goroutine waits
for something outside the world (a socket, a lock, a channel made elsewhere) or does not end
  replay: DROVER_SEED=%d %s
  last lines:
    %s

%s
FAIL
`, seed, stuckAfter, seed, replay, strings.Join(w.s.Tail(40), "\n    "), buf[:runtime.Stack(buf, true)])
	os.Exit(1)
}
