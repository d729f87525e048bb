package job_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

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
