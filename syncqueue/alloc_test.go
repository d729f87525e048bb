package syncqueue_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/drover-cloud/drover/syncqueue"
)

// What a task of a Local may allocate; the times are for the benchmarks.
func TestLocalAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, n := range []int{1, 10_000} {
		t.Run("P18 keys "+strconv.Itoa(n), func(t *testing.T) {
			l := &syncqueue.Local{Env: silent()}
			keys := make([]syncqueue.Key, n)
			for i := range keys {
				keys[i] = syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i)}
			}
			i := 0
			got := testing.AllocsPerRun(20_000, func() {
				_ = l.Do(context.Background(), keys[i%n], nop)
				i++
			})
			if got > 3 {
				t.Fatalf("%v allocations, most are 3", got)
			}
			t.Logf("%v allocations", got)
		})
	}
}
