package testkit_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/testkit"
)

func ExampleInline() {
	env, clock := testkit.Inline()
	late := env.Clock.After(time.Hour)
	early := env.Clock.After(time.Minute)
	clock.Add(2 * time.Hour)
	fmt.Println((<-early).Format(time.TimeOnly), (<-late).Format(time.TimeOnly), clock.Now().Format(time.TimeOnly))
	// Output: 00:01:00 01:00:00 02:00:00
}

func TestClock(t *testing.T) {
	env, clock := testkit.Inline()
	if got := <-env.Clock.After(0); !got.Equal(clock.Now()) {
		t.Errorf("After(0) gave %v", got)
	}
	c := clock.After(time.Second)
	clock.Add(time.Second - 1)
	select {
	case at := <-c:
		t.Errorf("fired early, at %v", at)
	default:
	}
	clock.Add(1)
	<-c
	if a, b := env.NewID(), env.NewID(); a == b || !uuid7.MatchString(a) {
		t.Errorf("ids %s and %s", a, b)
	}
}

var uuid7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestEnv(t *testing.T) {
	t.Run("ids are UUIDv7, rise with time, and follow from the seed", func(t *testing.T) {
		counted(t)
		var mu sync.Mutex
		bySeed := map[uint64][]string{}
		for range 2 {
			testkit.Explore(t, 5, func(w *testkit.World) {
				n := w.Node("n", nil)
				perWorker := make([][]string, 4)
				for i := range perWorker {
					n.Env.Go(fmt.Sprint("worker/", i), func() {
						for range 50 {
							perWorker[i] = append(perWorker[i], n.Env.NewID())
							if len(perWorker[i])%10 == 0 {
								<-n.Env.Clock.After(time.Millisecond)
							}
						}
					})
				}
				w.Advance(time.Second)
				var ids []string
				for _, own := range perWorker {
					if !slices.IsSorted(own) || len(own) != 50 {
						w.T.Errorf("%d ids, not rising: %v", len(own), own)
					}
					ids = append(ids, own...)
				}
				for _, id := range ids {
					if !uuid7.MatchString(id) {
						w.T.Errorf("%s is no UUIDv7", id)
					}
				}
				sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
				if len(sorted) != len(ids) {
					w.T.Errorf("%d ids, %d distinct", len(ids), len(sorted))
				}
				mu.Lock()
				defer mu.Unlock()
				if old := bySeed[w.Seed]; old != nil && !slices.Equal(old, ids) {
					w.T.Error("other ids in a second run")
				}
				bySeed[w.Seed] = ids
			})
		}
		if slices.Equal(bySeed[1], bySeed[2]) {
			t.Error("two seeds gave the same ids")
		}
	})
	t.Run("a skewed wall clock leaves measured durations alone, a rate does not", func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n", nil)
			before := n.Env.Clock.Now()
			if now := time.Now(); !before.Round(0).Equal(now) || !before.Equal(now) {
				w.T.Errorf("the node's clock shows %v, the world's %v", before, now)
			}
			ctx, cancel := context.WithDeadline(context.Background(), before.Add(5*time.Second))
			defer cancel()
			<-ctx.Done()
			if d := n.Env.Clock.Now().Sub(before); d != 5*time.Second {
				w.T.Errorf("a deadline in 5 s ended after %v", d)
			}
			before = n.Env.Clock.Now()
			n.Skew(time.Hour, 1)
			jumped := n.Env.Clock.Now()
			if d := jumped.Sub(before); d != 0 {
				w.T.Errorf("measured %v over a jump", d)
			}
			if d := jumped.Round(0).Sub(before.Round(0)); d != time.Hour {
				w.T.Errorf("the wall clock jumped by %v", d)
			}
			n.Skew(time.Hour, 1.1)
			w.Advance(time.Minute)
			if d := n.Env.Clock.Now().Sub(jumped); d != 66*time.Second {
				w.T.Errorf("measured %v in a minute at rate 1.1", d)
			}
			begin := time.Now()
			<-n.Env.Clock.After(66 * time.Second)
			if d := time.Since(begin); d < time.Minute || d > time.Minute+time.Microsecond {
				w.T.Errorf("66 s at rate 1.1 took %v", d)
			}
		})
	})
	t.Run("the store's clock jumps, and never back", func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			n := w.Node("n", nil)
			begin := storeNow(n)
			w.StoreJump(time.Hour)
			if d := storeNow(n).Sub(begin); d != time.Hour {
				w.T.Errorf("after a jump of 1h: %v", d)
			}
			w.StoreJump(-2 * time.Hour)
			if d := storeNow(n).Sub(begin); d != time.Hour {
				w.T.Errorf("after a jump back: %v", d)
			}
		})
	})
}
