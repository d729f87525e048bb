package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

// BenchmarkJobs is a job's life in the store alone: inserted, claimed, finished, looked at; in transactions of 100.
func BenchmarkJobs(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprintf("keyed=%v", keyed), func(b *testing.B) { benchmarkJobs(b, keyed) })
	}
}

func benchmarkJobs(b *testing.B, keyed bool) {
	const batch = 100
	var s memory.Store
	var tok lease.Token
	in := func(f func(ctx context.Context, tx store.Tx) error) {
		if err := s.InTx(b.Context(), f); err != nil {
			b.Fatal(err)
		}
	}
	in(func(ctx context.Context, tx store.Tx) (err error) {
		tok, err = s.Leases().Open(ctx, tx, lease.Info{Name: "n", State: lease.Active}, "p", 24*time.Hour)
		return err
	})
	rows, ms, ids := make([]job.Row, batch), make([]job.Move, 0, batch), make([]string, 0, batch)
	c := job.Claim{Session: tok, Kinds: []string{"k"}, Free: map[string]int{"q": batch}, Max: batch}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		for i := range rows {
			id := fmt.Sprintf("%036d", n+i)
			rows[i] = job.Row{Job: job.Job{ID: id, Root: id, Kind: "k", Queue: "q"}}
			if keyed {
				rows[i].Sync = syncqueue.Key{Kind: "vm", ID: id}
			}
		}
		in(func(ctx context.Context, tx store.Tx) error { _, err := s.Jobs().Insert(ctx, tx, rows); return err })
		var got job.Claimed
		in(func(ctx context.Context, tx store.Tx) (err error) { got, err = s.Jobs().Claim(ctx, tx, c); return err })
		ms, ids = ms[:0], ids[:0]
		for i := range got.Rows {
			r := &got.Rows[i]
			ms = append(ms, job.Move{ID: r.ID, From: job.Running, To: job.Succeeded, Epoch: r.Epoch})
			ids = append(ids, r.ID)
		}
		in(func(ctx context.Context, tx store.Tx) error {
			_, err := s.Jobs().(job.Finisher).Finish(ctx, tx, job.Finish{Moves: ms, Start: c})
			return err
		})
		in(func(ctx context.Context, tx store.Tx) error {
			found, err := s.Jobs().List(ctx, tx, job.Find{IDs: ids})
			if len(found.Rows) != batch {
				b.Fatal(len(found.Rows))
			}
			return err
		})
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
