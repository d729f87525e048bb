package syncqueue_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestQueueStore(t *testing.T) {
	onEach(t, "queue-35 saturated keys hide nothing", func(c *cluster) {
		const keys, behind = 5000, 20
		b := c.bare()
		n := 1000
		for from := 0; from < keys; from += 500 { // each key's holder, which runs
			rows := make([]job.Row, 500)
			for i := range rows {
				rows[i] = row(n, syncqueue.Key{Kind: "full", ID: strconv.Itoa(from + i)})
				n++
			}
			b.insert(rows...)
			c.same("holders", len(b.claim(1000)), 500)
		}
		for range behind {
			for from := 0; from < keys; from += 5000 {
				rows := make([]job.Row, 5000)
				for i := range rows {
					rows[i] = row(n, syncqueue.Key{Kind: "full", ID: strconv.Itoa(from + i)})
					n++
				}
				b.insert(rows...)
			}
			for more := true; more; { // rounds that meet the arrivals
				got := b.claimed(1000)
				if more = got.More; len(got.Rows) > 0 {
					c.t.Fatal("a waiter was claimed")
				}
			}
		}
		// The two stores take turns, so that whatever else loads the machine loads both. The arrivals have been met above.
		empty := (&cluster{t: c.t, db: c.open(c.t)}).bare()
		best := []time.Duration{time.Hour, time.Hour}
		for i := range 200 {
			for side, b := range []*bare{empty, b} {
				b.insert(row(i, vm))
				began := time.Now()
				rows := b.claim(100)
				best[side] = min(best[side], time.Since(began))
				if len(rows) != 1 || rows[0].Sync != vm {
					c.t.Fatalf("one job is ready, %d were claimed", len(rows))
				}
				b.finish(rows, 0)
			}
		}
		c.t.Logf("round with an empty store %v, beside %d lines %v", best[0], keys, best[1])
		if best[1] > best[0]*3/2+5*time.Microsecond { // what the caches miss; a look at every line takes ten times as long
			c.t.Errorf("a round costs %v beside full lines, %v without", best[1], best[0])
		}
	})

	onEach(t, "queue-50 grants race", func(c *cluster) {
		b := c.bare()
		const keys, perKey = 10, 30
		var mu sync.Mutex
		runs, ended := map[string]int{}, 0
		note := func(rows []job.Row) {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rows {
				runs[r.ID]++
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { // submissions go on, so that arrivals commit beside hand-ons
			for i := range perKey {
				for k := range keys {
					b.insert(row(i*keys+k, syncqueue.Key{Kind: "vm", ID: strconv.Itoa(k)}))
				}
			}
		})
		for range 3 { // nodes
			wg.Go(func() {
				for until := time.Now().Add(patience); ; {
					rows := b.claim(5)
					for len(rows) > 0 {
						note(rows)
						out := b.finish(rows, 3)
						mu.Lock()
						ended += len(rows)
						mu.Unlock()
						rows = out.Started
					}
					mu.Lock()
					all := ended == keys*perKey
					mu.Unlock()
					if all {
						return
					}
					if time.Now().After(until) {
						c.t.Errorf("%d of %d ended: a waiter was forgotten", ended, keys*perKey)
						return
					}
				}
			})
		}
		wg.Wait()
		for id, n := range runs {
			if n != 1 {
				c.t.Fatalf("%s was granted %d times", id, n)
			}
		}
	})

	onEach(t, "queue-51 an open host transaction", func(c *cluster) {
		if c.store != "postgres" {
			c.t.Skip("one transaction at a time")
		}
		a := c.node("a")
		js := c.submit(a, vm, "", 1, 1)
		err := c.db.InTx(c.t.Context(), func(ctx context.Context, tx store.Tx) error {
			mine, err := a.SubmitTx(ctx, tx, job.Request{Kind: "task", Args: task{N: 2}, Sync: vm})
			if err != nil {
				return err
			}
			open := time.Now()
			for n := 3; time.Since(open) < 5*time.Second; n++ {
				began := time.Now()
				more := c.submit(a, vm, "", n, n)
				c.done(a, more...)
				if d := time.Since(began); d > 2*time.Second {
					c.t.Errorf("submit, hand-off and finish took %v beside an open transaction", d)
				}
				js = append(js, more...)
			}
			js = append(js, mine)
			return nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
		c.done(a, js...)
	})

	onEach(t, "queue-57 batches in different orders", func(c *cluster) {
		rounds := 50
		if c.store == "postgres" {
			rounds = 1000
			if os.Getenv("DROVER_LONG") != "" {
				rounds = 10_000 // 3 minutes
			}
		}
		if testing.Short() {
			rounds /= 10
		}
		const keys, workers = 100, 4
		b := c.bare()
		var wg sync.WaitGroup
		for w := range workers { // each ends what it holds in an order of its own
			wg.Go(func() {
				for i := range rounds / workers {
					rows := make([]job.Row, keys)
					for k := range rows {
						rows[k] = row((w*rounds+i)*keys+k, syncqueue.Key{Kind: "vm", ID: strconv.Itoa((k*(2*w+1) + i) % keys)})
					}
					b.insert(rows...)
					got := b.claim(keys)
					slices.SortFunc(got, func(x, y job.Row) int {
						if w%2 == 0 {
							return x.Sync.Compare(y.Sync)
						}
						return y.Sync.Compare(x.Sync)
					})
					for len(got) > 0 {
						got = b.finish(got, keys).Started
					}
				}
			})
		}
		wg.Wait()
		left := func() (n int) {
			b.in(func(ctx context.Context, tx store.Tx) error {
				l, err := c.db.Jobs().List(ctx, tx, job.Find{Query: &job.Query{}})
				n = len(l.Rows)
				return err
			})
			return n
		}
		// A claim that finds nothing behind its cursor need not look at the head of the queue again: that is rationed by time.
		for end := time.Now().Add(20 * time.Second); left() > 0 && time.Now().Before(end); {
			for rows := b.claim(1000); len(rows) > 0; rows = b.claim(1000) {
				b.finish(rows, 0)
			}
		}
		c.same("left", left(), 0)
	})
}
