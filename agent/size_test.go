package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// TestSize: 10 000 outstanding calls take at most 60 MiB and no goroutine but the callers'; a callback reaches its caller within a
// millisecond.
func TestSize(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's memory is not ours")
	}
	const calls = 10_000
	l := &lab{TB: t, at: map[string]http.Handler{}}
	c, err := agent.New(agent.Config{Env: drover.Env{Logger: quiet}, Callback: "http://n1", HTTP: accepting{}, Timeout: time.Hour})
	l.ok(err)
	l.run(c)
	used := func() uint64 {
		for range 3 { // stacks shrink by half at a time
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("heap %d KiB, stacks %d KiB", m.HeapAlloc>>10, m.StackInuse>>10)
		return m.HeapAlloc + m.StackInuse
	}
	before, goroutines := used(), runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			_, _ = agent.Call[string](ctx, c, fmt.Sprintf("http://host-%d:7070/vm/start", i%100), map[string]int{"vm": i})
		})
	}
	for accepted := 0; accepted < calls; {
		runtime.Gosched()
		accepted = 0
		for _, w := range c.Pending() {
			if w.Accepted {
				accepted++
			}
		}
	}
	after, more := used(), runtime.NumGoroutine()-goroutines
	t.Logf("%d calls: %.1f MiB, %d goroutines", calls, float64(after-before)/(1<<20), more)
	if after-before > 60<<20 {
		t.Errorf("%d outstanding calls take %d MiB", calls, (after-before)>>20)
	}
	if more > calls+100 {
		t.Errorf("%d goroutines for %d calls", more, calls)
	}
	cancel()
	wg.Wait()
}

// BenchmarkCallback is a call from its beginning to its result by callback, in process: at most a millisecond.
func BenchmarkCallback(b *testing.B) {
	l := &lab{TB: b, at: map[string]http.Handler{}}
	c, err := agent.New(agent.Config{Env: drover.Env{Logger: quiet}, Callback: "http://n1", HTTP: l})
	l.ok(err)
	l.serve("n1", c.Handler())
	l.run(c)
	s, err := agent.NewServer(agent.ServerConfig{Env: drover.Env{Logger: quiet}, Nodes: []string{"http://n1"}, HTTP: l})
	l.ok(err)
	echo(s)
	l.serve("h1", s)
	l.run(s)
	l.ok(c.Ready(bg, "http://h1"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := agent.Call[int](bg, c, "http://h1/echo", 1); err != nil {
			b.Fatal(err)
		}
	}
}
