package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
)

func nodeName(i int) string { return fmt.Sprintf("node-%d", i) }

// memoryInUse is the live heap and all stacks, in bytes.
func memoryInUse() (heap, stacks float64) {
	var m runtime.MemStats
	for range 2 { // finalizers and pools need a second one
		runtime.GC()
	}
	debug.FreeOSMemory()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(m.StackInuse)
}

// p16 is a count of bytes: no alternative, no rounds.
func p16(b *bench) (figures, error) {
	more := map[string]float64{}
	got, err := b.once(func(ctx context.Context, dsn string) (float64, error) { return b.running(ctx, dsn, more) })
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0], more: more}, nil
}

func (b *bench) running(ctx context.Context, dsn string, more map[string]float64) (float64, error) {
	n := b.size(100_000, 50_000)
	var started atomic.Int64
	release := make(chan struct{})
	d, err := newDrover(ctx, dsn, func(context.Context, int) error {
		started.Add(1)
		<-release
		return nil
	}, workers(n))
	if err != nil {
		return 0, err
	}
	defer d.close()
	once := sync.OnceFunc(func() { close(release) })
	defer once()
	d.start(ctx)
	time.Sleep(time.Second)
	heap0, stacks0 := memoryInUse()
	if err := d.fill(ctx, n, nil); err != nil {
		return 0, err
	}
	if err := reaches(ctx, &started, n); err != nil {
		return 0, err
	}
	heap1, stacks1 := memoryInUse()
	if err := d.fill(ctx, n, nil); err != nil { // these find no worker
		return 0, err
	}
	time.Sleep(2 * time.Second)
	heap2, stacks2 := memoryInUse()
	if now := started.Load(); now != int64(n) {
		return 0, fmt.Errorf("%d jobs run on %d workers", now, n)
	}
	once()
	if err := errors.Join(reaches(ctx, &started, 2*n), d.finish()); err != nil {
		return 0, err
	}
	each := float64(n) * 1024
	more["heap KiB"], more["stacks KiB"] = (heap1-heap0)/each, (stacks1-stacks0)/each
	more["KiB per waiting job"] = (heap2 - heap1 + stacks2 - stacks1) / each
	return more["heap KiB"] + more["stacks KiB"], d.succeeded(ctx, 2*n)
}

// p17 needs no server: four callers submit batches of 1 000 and wait for each job of them.
func p17(b *bench) (figures, error) {
	got, err := b.byTurns(func(ctx context.Context, _ string) (float64, error) { return inMemory(ctx, b.size(400_000, 200_000)) })
	if err != nil {
		return figures{}, err
	}
	return figures{drover: got[0]}, nil
}

func inMemory(ctx context.Context, n int) (float64, error) {
	const callers, batch = 4, 1_000
	var db memory.Store
	c := job.Config{Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}, DB: &db}
	tuned(&c)
	m, err := job.New(c)
	if err != nil {
		return 0, err
	}
	job.Handle(m, "bench", func(_ context.Context, a args) (int, error) { return a.Num, nil })
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var all sync.WaitGroup
	errs := make([]error, callers)
	start := time.Now()
	for c := range callers {
		all.Go(func() {
			for at := c * batch; at < n && errs[c] == nil; at += callers * batch {
				errs[c] = submitAndWait(ctx, m, at, batch)
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	stop()
	return float64(n) / took.Seconds(), errors.Join(append(errs, <-ended)...)
}

func submitAndWait(ctx context.Context, m *job.Manager, at, k int) error {
	rs := make([]job.Request, k)
	for i := range rs {
		rs[i] = job.Request{Kind: "bench", Args: args{at + i}}
	}
	js, err := m.SubmitMany(ctx, rs)
	if err != nil {
		return err
	}
	for i, j := range js {
		ended, err := m.Wait(ctx, j.ID)
		if err != nil {
			return err
		}
		if v, err := job.Result[int](ended); err != nil || v != at+i {
			return fmt.Errorf("job %d answers %d: %w", at+i, v, err)
		}
	}
	return nil
}
