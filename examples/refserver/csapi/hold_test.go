package csapi

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// counted counts transactions.
type counted struct {
	*memory.Store
	n atomic.Int64
}

func (c *counted) InTx(ctx context.Context, f func(context.Context, store.Tx) error) error {
	c.n.Add(1)
	return c.Store.InTx(ctx, f)
}

func TestManyHolds(t *testing.T) {
	t.Run("ref-30 one subscription", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const waiters = 10_000
			db := &counted{Store: &memory.Store{}}
			m, err := job.New(job.Config{DB: db})
			if err != nil {
				t.Fatal(err)
			}
			job.Handle(m, "work", func(ctx context.Context, _ struct{}) (struct{}, error) {
				time.Sleep(10*time.Second + 300*time.Millisecond)
				return struct{}{}, nil
			})
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- m.Run(ctx) }()
			synctest.Wait()
			j, err := m.Submit(ctx, job.Request{Kind: "work"})
			if err != nil {
				t.Fatal(err)
			}
			h := newHolds(drover.Env{}.Defaults(), m, waiters)
			began := time.Now()
			var wg sync.WaitGroup
			for range waiters {
				wg.Go(func() {
					h.wait(ctx, j.ID, 20*time.Second)
					if d := time.Since(began); d > 10*time.Second+350*time.Millisecond {
						t.Errorf("woken after %v", d)
					}
				})
			}
			synctest.Wait()
			if h.n != waiters || len(h.waits) != 1 {
				t.Errorf("%d wait, by %d subscriptions", h.n, len(h.waits))
			}
			h.wait(ctx, j.ID, 20*time.Second) // one too many
			if d := time.Since(began); d > 0 {
				t.Errorf("one too many was held %v", d)
			}
			before := db.n.Load()
			time.Sleep(10 * time.Second)
			if reads := db.n.Load() - before; reads > 25 { // the manager's own round, and one of the subscription, once a second
				t.Errorf("%d transactions in 10 s of waiting", reads)
			}
			wg.Wait()
			if h.n != 0 || len(h.waits) != 0 {
				t.Errorf("left: %d, %d", h.n, len(h.waits))
			}
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	})
}
