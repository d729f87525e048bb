package drover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
)

type stepFunc func(ctx context.Context) (time.Time, error)

func (f stepFunc) Step(ctx context.Context) (time.Time, error) { return f(ctx) }

func quiet() drover.Env { return drover.Env{Node: "n", Logger: slog.New(slog.DiscardHandler)} }

// instants keeps when things happened, since its making.
type instants struct {
	mu    sync.Mutex
	start time.Time
	at    []time.Duration
}

func (i *instants) add() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at = append(i.at, time.Since(i.start))
}

func (i *instants) all() []time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.at)
}

// looping runs script with a Loop over f beside it, and hands it the wake channel. The Loop is over when it returns.
func looping(t *testing.T, e drover.Env, f stepFunc, script func(wake chan struct{})) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake, done := make(chan struct{}, 1), make(chan error, 1)
	go func() { done <- drover.Loop(ctx, e, wake, f) }()
	synctest.Wait()
	script(wake)
	cancel()
	return <-done
}

func TestSpecLoop(t *testing.T) {
	bubble := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	bubble("service-28 next and wake", func(t *testing.T) {
		start, at := time.Now(), []time.Duration{}
		err := looping(t, quiet(), func(context.Context) (time.Time, error) {
			at = append(at, time.Since(start))
			return time.Now().Add(5 * time.Second), nil
		}, func(wake chan struct{}) {
			time.Sleep(2 * time.Second)
			wake <- struct{}{}
			time.Sleep(6 * time.Second)
		})
		if want := []time.Duration{0, 2 * time.Second, 7 * time.Second}; err != nil || !slices.Equal(at, want) {
			t.Fatalf("steps at %v, want %v; %v", at, want, err)
		}
	})
	bubble("service-28 wake during Step", func(t *testing.T) {
		steps := 0
		looping(t, quiet(), func(context.Context) (time.Time, error) {
			steps++
			time.Sleep(time.Second)
			return time.Time{}, nil
		}, func(wake chan struct{}) {
			time.Sleep(time.Second / 2)
			wake <- struct{}{}
			time.Sleep(time.Hour)
		})
		if steps != 2 {
			t.Fatalf("%d steps, want 2", steps)
		}
	})
	bubble("service-28 hundred wakes", func(t *testing.T) {
		steps := 0
		looping(t, quiet(), func(context.Context) (time.Time, error) {
			steps++
			return time.Time{}, nil
		}, func(wake chan struct{}) {
			steps = 0
			for range 100 {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
			synctest.Wait()
		})
		if steps < 1 || steps > 100 {
			t.Fatalf("%d steps, want 1 to 100", steps)
		}
	})
	bubble("service-28 zero next sleeps", func(t *testing.T) {
		steps := 0
		looping(t, quiet(), func(context.Context) (time.Time, error) {
			steps++
			return time.Time{}, nil
		}, func(wake chan struct{}) {
			time.Sleep(1000 * time.Hour)
			if steps != 1 {
				t.Errorf("%d steps without a wake, want 1", steps)
			}
			wake <- struct{}{}
			synctest.Wait()
		})
		if steps != 2 {
			t.Fatalf("%d steps, want 2", steps)
		}
	})
	bubble("service-29 delays and log", testLoopBackoff)
	bubble("service-29 wake in backoff", func(t *testing.T) {
		steps := &instants{start: time.Now()}
		looping(t, quiet(), func(context.Context) (time.Time, error) {
			steps.add()
			return time.Time{}, errors.New("down")
		}, func(wake chan struct{}) {
			for range 10 { // at all sorts of instants of the backoff
				time.Sleep(777 * time.Millisecond)
				wake <- struct{}{}
				synctest.Wait()
			}
			time.Sleep(time.Minute)
		})
		at := steps.all()
		for i := 2; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < 100*time.Millisecond {
				t.Errorf("step %d came %v after an error", i, d)
			}
		}
		if len(at) < 12 {
			t.Errorf("%d steps: wakes in the backoff are lost", len(at))
		}
	})
	bubble("service-29 early wake waits for 100 ms", func(t *testing.T) {
		steps := &instants{start: time.Now()}
		looping(t, quiet(), func(context.Context) (time.Time, error) {
			steps.add()
			return time.Time{}, errors.New("down")
		}, func(wake chan struct{}) {
			for len(steps.all()) < 5 {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			wake <- struct{}{} // the backoff is 1.6 s now
			time.Sleep(time.Second / 2)
			synctest.Wait()
			at := steps.all()
			if len(at) != 6 || at[5]-at[4] != 100*time.Millisecond {
				t.Errorf("steps at %v: the sixth is due 100 ms after the fifth", at)
			}
		})
	})
	bubble("service-31 ten panics", func(t *testing.T) {
		steps := 0
		err := looping(t, quiet(), func(context.Context) (time.Time, error) {
			steps++
			panic("boom")
		}, func(chan struct{}) { time.Sleep(time.Hour) })
		var p *drover.PanicError
		if !errors.As(err, &p) || p.Value != "boom" || len(p.Stack) == 0 || steps != 10 {
			t.Fatalf("%d steps, %v", steps, err)
		}
	})
	bubble("service-31 nine panics then a good one", func(t *testing.T) {
		steps := 0
		err := looping(t, quiet(), func(context.Context) (time.Time, error) {
			if steps++; steps%10 == 0 {
				return time.Now(), nil
			}
			panic("boom")
		}, func(chan struct{}) { time.Sleep(time.Hour) })
		if err != nil || steps < 100 {
			t.Fatalf("%d steps, %v", steps, err)
		}
	})
	bubble("permanent error is returned", func(t *testing.T) {
		fatal := errors.New("fatal")
		err := looping(t, quiet(), func(context.Context) (time.Time, error) {
			return time.Time{}, fmt.Errorf("step: %w", drover.Permanent(fatal))
		}, func(chan struct{}) {})
		if !errors.Is(err, fatal) {
			t.Fatal(err)
		}
	})
	t.Run("service-30 ctx, timer and wake at once", func(t *testing.T) {
		for seed := range uint64(1000) {
			synctest.Test(t, func(t *testing.T) { testLoopEnd(t, seed) })
		}
	})
}

func testLoopBackoff(t *testing.T) {
	var buf bytes.Buffer
	e := drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(&buf, nil))}
	at := []time.Time{}
	looping(t, e, func(context.Context) (time.Time, error) {
		at = append(at, time.Now())
		switch {
		case len(at) == 16:
			return time.Now().Add(time.Second), nil
		case len(at) == 18:
			return time.Time{}, nil
		}
		return time.Time{}, errors.New("down")
	}, func(chan struct{}) { time.Sleep(time.Hour) })
	want := []time.Duration{}
	for d := 100 * time.Millisecond; len(want) < 15; d = min(2*d, 30*time.Second) {
		want = append(want, d)
	}
	want = append(want, time.Second, 100*time.Millisecond) // good step, then from the start
	for i, w := range want {
		if d := at[i+1].Sub(at[i]); d < w*8/10 || d > w*12/10 {
			t.Errorf("delay %d is %v, want %v ± 20 %%", i, d, w)
		}
	}
	if len(at) != 18 {
		t.Errorf("%d steps, want 18", len(at))
	}
	var rows []string
	for line := range strings.Lines(buf.String()) {
		_, row, _ := strings.Cut(strings.TrimSpace(line), "row=")
		rows = append(rows, row)
	}
	if !slices.Equal(rows, []string{"1", "2", "4", "8", "1"}) {
		t.Errorf("logged errors %v", rows)
	}
}

// trapClock calls trap before the n-th wait, whose timer has then fired already.
type trapClock struct {
	n    int
	trap func()
}

func (c *trapClock) Now() time.Time { return time.Now() }
func (c *trapClock) After(d time.Duration) <-chan time.Time {
	if c.n--; c.n == 0 {
		c.trap()
		d = 0
	}
	return time.After(d)
}

// testLoopEnd ends ctx in the very instant of the timer and a wake: when the loop's select looks, all three are there.
func testLoopEnd(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 30))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake := make(chan struct{}, 1)
	e := quiet()
	e.Clock = &trapClock{n: 1 + rng.IntN(5), trap: func() {
		acts := []func(){cancel, func() { wake <- struct{}{} }}
		rng.Shuffle(2, func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
		acts[0]()
		acts[1]()
	}}
	err := drover.Loop(ctx, e, wake, stepFunc(func(ctx context.Context) (time.Time, error) {
		if ctx.Err() != nil {
			t.Errorf("seed %d: Step after the end", seed)
		}
		if rng.IntN(2) == 0 { // also out of the backoff
			return time.Time{}, errors.New("down")
		}
		return time.Now().Add(time.Second), nil
	}))
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}

func BenchmarkLoop(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	n := 0
	b.ReportAllocs()
	drover.Loop(ctx, quiet(), nil, stepFunc(func(context.Context) (time.Time, error) {
		if n++; n == b.N {
			cancel()
		}
		return time.Unix(1, 0), nil
	}))
}
