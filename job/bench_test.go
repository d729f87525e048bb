package job_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

// BenchmarkMemory works b.N waiting jobs on the memory store: what the manager itself costs.
func BenchmarkMemory(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprintf("keyed=%v", keyed), func(b *testing.B) {
			b.ReportAllocs()
			var db memory.Store
			m, err := job.New(job.Config{Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}, DB: &db, Queues: map[string]int{"default": 2000}})
			if err != nil {
				b.Fatal(err)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan struct{})
			job.Handle(m, "x", func(context.Context, struct{}) (struct{}, error) {
				if left.Add(-1) == 0 {
					close(done)
				}
				return struct{}{}, nil
			})
			rs := make([]job.Request, b.N)
			for i := range rs {
				rs[i] = job.Request{Kind: "x"}
				if keyed {
					rs[i].Sync = syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i)}
				}
			}
			for part := range slices.Chunk(rs, 10_000) {
				if _, err := m.SubmitMany(b.Context(), part); err != nil {
					b.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			b.ResetTimer()
			go func() { ended <- m.Run(ctx) }()
			<-done
			b.StopTimer()
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// cpuTime is what this process has used: other load does not count.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSubmitWorkWait is a job's whole life: four callers submit batches of 1 000, wait for each job of them and read its
// result.
func BenchmarkSubmitWorkWait(b *testing.B) {
	const callers, batch = 4, 1_000
	var db memory.Store
	m, err := job.New(job.Config{
		Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}, DB: &db,
		Queues: map[string]int{"default": 2000}, ClaimBatch: 1000, FinishBatch: 1000,
	})
	if err != nil {
		b.Fatal(err)
	}
	type args struct {
		Num int `json:"num"`
	}
	job.Handle(m, "x", func(_ context.Context, a args) (int, error) { return a.Num, nil })
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for at := c * batch; at < b.N; at += callers * batch {
				rs := make([]job.Request, min(batch, b.N-at))
				for i := range rs {
					rs[i] = job.Request{Kind: "x", Args: args{at + i}}
				}
				js, err := m.SubmitMany(ctx, rs)
				if err != nil {
					b.Error(err)
					return
				}
				for i, j := range js {
					j, err := m.Wait(ctx, j.ID)
					if err != nil {
						b.Error(err)
						return
					}
					if v, err := job.Result[int](j); err != nil || v != at+i {
						b.Error(v, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRunning is what a job costs in memory while its handler runs: heap and stack, in bytes.
func BenchmarkRunning(b *testing.B) {
	var db memory.Store
	m, err := job.New(job.Config{Env: drover.Env{Logger: slog.New(slog.DiscardHandler)}, DB: &db, Queues: map[string]int{"default": 100_000}})
	if err != nil {
		b.Fatal(err)
	}
	var started atomic.Int64
	release := make(chan struct{})
	job.Handle(m, "x", func(context.Context, struct{ Num int }) (struct{}, error) {
		started.Add(1)
		<-release
		return struct{}{}, nil
	}, job.Timeout(job.NoTimeout))
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	rs := make([]job.Request, b.N)
	for i := range rs {
		rs[i] = job.Request{Kind: "x", Args: struct{ Num int }{i}}
	}
	for part := range slices.Chunk(rs, 10_000) {
		if _, err := m.SubmitMany(ctx, part); err != nil {
			b.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	go func() { ended <- m.Run(ctx) }()
	for started.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N), "heap-B/job")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/float64(b.N), "stack-B/job")
	close(release)
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
