package periodic_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover/periodic"
)

func TestCrew(t *testing.T) {
	t.Run("a quick task that blocks for once", func(t *testing.T) {
		bubble(t, func(l *live) {
			const s = time.Second
			runs := 0
			l.add(periodic.Every(10*s, "a", func(context.Context) error {
				l.started("a")
				if runs++; runs == 2 {
					time.Sleep(time.Hour)
				}
				return nil
			}, periodic.Spread(0)), periodic.Every(10*s, "b", l.costs("b", 0), periodic.Spread(0)), periodic.Every(10*s, "c", l.costs("c", 0), periodic.Spread(0)))
			l.run()
			l.till(35 * s)
			for _, name := range []string{"b", "c"} {
				at := l.at(name)
				if len(at) != 3 || at[0] != 10*s || at[1] < 20*s || at[1] > 20*s+time.Millisecond || at[2] != 30*s {
					t.Errorf("%s: %v", name, at)
				}
			}
			if at := l.at("a"); !slices.Equal(at, []time.Duration{10 * s, 20 * s}) {
				t.Errorf("a: %v", at)
			}
		})
	})
	t.Run("quick ones share a goroutine", func(t *testing.T) {
		bubble(t, func(l *live) {
			var most, runs atomic.Int64
			was := int64(runtime.NumGoroutine())
			for i := range 100 {
				l.add(periodic.Every(time.Second, fmt.Sprintf("t%02d", i), func(context.Context) error {
					if runs.Add(1) > 100 {
						most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
					}
					return nil
				}, periodic.Spread(0)))
			}
			l.run()
			l.till(5500 * time.Millisecond)
			if n := most.Load() - was; runs.Load() != 500 || n > 20 { // other tests' too
				t.Errorf("%d runs on %d goroutines", runs.Load(), n)
			}
		})
	})
}
