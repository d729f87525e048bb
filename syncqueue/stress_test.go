package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/syncqueue"
)

func silent() drover.Env {
	return drover.Env{Node: "n", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func testSingleEnds(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic(errBoom) }, "exit": runtime.Goexit} {
		var l syncqueue.Local
		var failed atomic.Int32
		for range 10 {
			go func() {
				_, err := syncqueue.Single(t.Context(), &l, k1, func(context.Context) (int, error) {
					time.Sleep(time.Second)
					end()
					return 1, nil
				})
				if errors.Is(err, drover.ErrPanic) {
					failed.Add(1)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		n, err := syncqueue.Single(t.Context(), &l, k1, func(context.Context) (int, error) { return 2, nil })
		if failed.Load() != 10 || n != 2 || err != nil {
			t.Errorf("%s: %d failed, then %d, %v", name, failed.Load(), n, err)
		}
	}
}

func TestSpecLocalMany(t *testing.T) {
	const n = many
	t.Run("queue-01 order", func(t *testing.T) {
		best := time.Hour // of three: the machine may have other work
		for range 3 {
			l := &syncqueue.Local{Env: silent()}
			order := make([]int, 0, n)
			start := time.Now()
			for i := range n {
				l.Go(t.Context(), k1, func(context.Context) error { order = append(order, i); return nil })
			}
			if err := l.Drain(t.Context()); err != nil || len(order) != n || !slices.IsSorted(order) {
				t.Errorf("%d ran, %v", len(order), err)
			}
			best = min(best, time.Since(start))
		}
		if !raceEnabled && best > time.Second/2 {
			t.Errorf("took %v", best)
		}
	})
	t.Run("queue-02 two producers", func(t *testing.T) {
		l := &syncqueue.Local{Env: silent()}
		order := [2][]int{}
		var wg sync.WaitGroup
		for p := range 2 {
			wg.Go(func() {
				for i := range n / 2 {
					l.Go(t.Context(), k1, func(context.Context) error { order[p] = append(order[p], i); return nil })
				}
			})
		}
		wg.Wait()
		_ = l.Drain(t.Context())
		for p := range 2 {
			if len(order[p]) != n/2 || !slices.IsSorted(order[p]) {
				t.Errorf("producer %d: %d ran", p, len(order[p]))
			}
		}
	})
	t.Run("queue-03 drained and filled again", func(t *testing.T) {
		l := &syncqueue.Local{Env: silent()}
		for range 3 {
			var order []int
			var last *syncqueue.Handle
			for i := range 1000 {
				last = l.Go(t.Context(), k1, func(context.Context) error { order = append(order, i); return nil })
			}
			if err := last.Wait(t.Context()); err != nil || len(order) != 1000 || !slices.IsSorted(order) {
				t.Errorf("%d ran, %v", len(order), err)
			}
			checkEmpty(t, l)
		}
	})
	t.Run("queue-04 level 10", func(t *testing.T) {
		l := &syncqueue.Local{Env: silent(), Level: func(syncqueue.Key) int { return 10 }}
		var ran, now atomic.Int32
		for range n {
			l.Go(t.Context(), k1, func(context.Context) error {
				if now.Add(1) > 10 {
					t.Error("more than 10 at once")
				}
				ran.Add(1)
				now.Add(-1)
				return nil
			})
		}
		if err := l.Drain(t.Context()); err != nil || ran.Load() != n {
			t.Errorf("%d ran, %v", ran.Load(), err)
		}
	})
	t.Run("queue-19 Single in two waves", func(t *testing.T) {
		l := &syncqueue.Local{Env: silent()}
		var answers, runs atomic.Int32
		for range 2 {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					r, err := syncqueue.Single(t.Context(), l, k1, func(context.Context) (int32, error) { return runs.Add(1), nil })
					if err == nil && r > 0 {
						answers.Add(1)
					}
				})
			}
			wg.Wait()
		}
		if answers.Load() != 200 || runs.Load() < 2 {
			t.Errorf("%d answers, %d runs", answers.Load(), runs.Load())
		}
	})
	bubble(t, "queue-22 tasks and waiters that use their own key", testMeddle)
	t.Run("queue-23 Stats under load", testStatsUnderLoad)
	t.Run("queue-24 random", func(t *testing.T) {
		for seed := range uint64(many / 200) {
			synctest.Test(t, func(t *testing.T) { testRandom(t, seed) })
		}
	})
	t.Run("queue-28 size", testSize)
}

func testMeddle(t *testing.T) {
	l := &syncqueue.Local{Env: silent()}
	var depth func(ctx context.Context, n int) error
	depth = func(ctx context.Context, n int) error {
		l.Stats()
		l.Tasks(k1)
		l.SetLevel(k1, 1+n%3)
		l.Running(k1)
		if n > 0 {
			h := l.Go(ctx, k1, func(ctx context.Context) error { return depth(ctx, n-1) })
			l.Go(ctx, k2, func(ctx context.Context) error { _ = h.Wait(ctx); return nil })
		}
		return nil
	}
	for range 20 {
		h := l.Go(t.Context(), k1, func(ctx context.Context) error { return depth(ctx, 10) })
		go func() {
			_ = h.Wait(t.Context())
			l.SetLevel(k1, 2)
			_ = l.Do(t.Context(), k1, nop)
			l.Tasks(k1)
		}()
	}
	time.Sleep(time.Second)
	synctest.Wait()
	checkEmpty(t, l)
}

func testStatsUnderLoad(t *testing.T) {
	const n, keys = many, 10
	l := &syncqueue.Local{Env: silent(), Level: func(syncqueue.Key) int { return 3 }}
	gate := make(chan struct{})
	for i := range n {
		l.Go(t.Context(), syncqueue.Key{Kind: "vm", ID: strconv.Itoa(i % keys)}, func(context.Context) error { <-gate; return nil })
	}
	check := func(sum int) {
		stats := l.Stats()
		inside := 0
		for _, s := range stats {
			inside += s.Running + s.Pending
			if s.Running > 3 || s.Level != 3 {
				t.Errorf("stat %+v", s)
			}
			if tasks := l.Tasks(s.Key); len(tasks) > 1000 {
				t.Errorf("%d tasks listed", len(tasks))
			}
		}
		if sum > 0 && (inside != sum || len(stats) != keys) {
			t.Errorf("%d inside %d keys", inside, len(stats))
		}
		if !slices.IsSortedFunc(stats, func(a, b syncqueue.Stat) int { return a.Key.Compare(b.Key) }) {
			t.Error("not sorted")
		}
	}
	check(n)
	close(gate)
	for len(l.Stats()) > 0 {
		check(0)
		runtime.Gosched()
	}
}

// testRandom throws a random mix at 64 keys, and looks for a turn too many, a lost wake-up and leftovers.
func testRandom(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 24))
	const levels, keys = 3, 64
	l := &syncqueue.Local{Env: silent(), Level: func(k syncqueue.Key) int { return 1 + len(k.ID)%levels }}
	var mu sync.Mutex
	now, most := map[syncqueue.Key]int{}, map[syncqueue.Key]int{}
	key := func() syncqueue.Key {
		return syncqueue.Key{Kind: "vm", ID: strconv.Itoa(rng.IntN(keys) % (1 + rng.IntN(keys)))}
	}
	body := func(k syncqueue.Key, d time.Duration, end int) func(context.Context) error {
		return func(ctx context.Context) error {
			mu.Lock()
			now[k]++
			if now[k] > max(most[k], 1+len(k.ID)%levels) {
				t.Errorf("seed %d: %d turns of %v at once", seed, now[k], k)
			}
			mu.Unlock()
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
			mu.Lock()
			now[k]--
			mu.Unlock()
			switch end {
			case 0:
				panic(errBoom)
			case 1:
				runtime.Goexit()
			}
			return nil
		}
	}
	done, started := 0, 0
	for range 200 {
		k, d := key(), time.Duration(rng.IntN(5))*time.Millisecond
		f := body(k, d, rng.IntN(10))
		ctx, cancel := context.WithCancel(t.Context())
		switch rng.IntN(8) {
		case 0:
			n := 1 + rng.IntN(4)
			mu.Lock()
			most[k] = max(most[k], n)
			mu.Unlock()
			l.SetLevel(k, n)
		case 1:
			time.Sleep(time.Millisecond)
		case 2, 3:
			started++
			go func() {
				defer func() { _ = recover(); mu.Lock(); done++; mu.Unlock() }()
				_ = l.Do(ctx, k, f, syncqueue.Deadline(time.Duration(rand.New(rand.NewPCG(seed, 1)).IntN(4))*time.Millisecond, 0))
			}()
		case 4:
			started++
			h := l.Go(ctx, k, f, syncqueue.Coalesce("c"))
			go func() { _ = h.Wait(t.Context()); mu.Lock(); done++; mu.Unlock() }()
		default:
			started++
			h := l.Go(ctx, k, f, syncqueue.MaxPending(rng.IntN(4), strconv.Itoa(rng.IntN(2))))
			if rng.IntN(3) == 0 {
				h.Cancel()
			}
			go func() { _ = h.Wait(t.Context()); mu.Lock(); done++; mu.Unlock() }()
		}
		if rng.IntN(3) == 0 {
			time.AfterFunc(time.Duration(rng.IntN(10))*time.Millisecond, cancel)
		} else {
			defer cancel()
		}
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	if mu.Lock(); done != started {
		t.Errorf("seed %d: %d of %d calls returned", seed, done, started)
	}
	mu.Unlock()
	checkEmpty(t, l)
	if err := l.Drain(t.Context()); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}

func testSize(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has its own memory")
	}
	const n = 100_000
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	l := &syncqueue.Local{Env: silent()}
	gate := make(chan struct{})
	wait := func(context.Context) error { <-gate; return nil }
	before, goroutines := used(), runtime.NumGoroutine()
	for range n {
		l.Go(t.Context(), k1, wait)
	}
	if g := runtime.NumGoroutine() - goroutines; g > 20 {
		t.Errorf("%d goroutines for one key", g)
	}
	mid := used()
	for i := range n {
		l.Go(t.Context(), syncqueue.Key{Kind: "vm", ID: fmt.Sprint("x", i)}, wait)
	}
	for runtime.NumGoroutine() < n {
		runtime.Gosched()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("stack %d heap %d", m.StackInuse>>20, m.HeapInuse>>20)
	oneKey, manyKeys := (mid-before)>>20, (used()-mid)>>20
	t.Logf("%d MiB for %d tasks in one line, %d MiB for as many keys", oneKey, n, manyKeys)
	if manyKeys > 300 {
		t.Errorf("%d MiB for %d keys", manyKeys, n)
	}
	close(gate)
	if err := l.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}
