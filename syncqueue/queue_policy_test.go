package syncqueue_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestQueuePolicies(t *testing.T) {
	onEach(t, "queue-36 the store's limit wins", func(c *cluster) {
		c.node("a")
		if err := c.q.SetLimit(c.t.Context(), "vm", 1); err != nil {
			c.t.Fatal(err)
		}
		var out bytes.Buffer
		q, err := syncqueue.New(syncqueue.Config{
			Env: drover.Env{Logger: slog.New(slog.NewTextHandler(&out, nil))}, Tx: c.db, Store: c.db.Queues(),
			Policies: map[string]syncqueue.Policy{"vm": {Limit: 5}, "host": {Limit: 3}},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		b := c.node("b", turns(q))
		js := c.submit(b, vm, "hold", 1, 3)
		c.runs(1)
		c.lineIs(vm, js, "[1]", "2", "3")
		rows, err := q.Policies(c.t.Context())
		c.same("policies", rows, []syncqueue.PolicyRow{{Kind: "host", Policy: syncqueue.Policy{Limit: 3}}, {Kind: "vm", Policy: syncqueue.Policy{Limit: 1}}})
		if err := errors.Join(err, b.stop()); err != nil {
			c.t.Fatal(err)
		}
		if n := strings.Count(out.String(), "limit differs"); n != 1 || !strings.Contains(out.String(), "kind=vm") {
			c.t.Fatalf("%d warnings: %s", n, out.String())
		}
		c.letGo(1, 2, 3)
	})

	onEach(t, "queue-37 a declared limit holds", func(c *cluster) {
		q := c.queue(map[string]syncqueue.Policy{"snapshot-host": {Limit: 2}})
		k := syncqueue.Key{Kind: "snapshot-host", ID: "h1"}
		a, b := c.node("a", turns(q)), c.node("b", turns(q))
		js := append(c.submit(a, k, "hold", 1, 2), c.submit(b, k, "hold", 3, 4)...)
		c.lineIs(k, js, "[1]", "[2]", "3", "4")
		c.letGo(2)
		c.done(a, js[1])
		c.lineIs(k, js, "[1]", "[3]", "4")
		c.letGo(1, 3, 4)
		c.done(b, js...)
		if c.peak[k] > 2 {
			c.t.Fatalf("%d at once", c.peak[k])
		}
	})

	onEach(t, "queue-38 SetLimit", func(c *cluster) {
		a := c.node("a")
		set := func(n int) {
			c.t.Helper()
			if err := c.q.SetLimit(c.t.Context(), "vm", n); err != nil {
				c.t.Fatal(err)
			}
		}
		js := c.submit(a, vm, "hold", 1, 6)
		c.runs(1)
		set(3)
		c.same("granted in the call", c.line(vm, js), []string{"[1]", "[2]", "[3]", "4", "5", "6"})
		c.until("three run", func() bool { return len(c.order()) == 3 }, func() any { return c.order() })
		set(1)
		c.letGo(1, 2)
		c.done(a, js[0], js[1])
		c.same("still one too many, then just one", c.line(vm, js), []string{"[3]", "4", "5", "6"})
		c.letGo(3)
		c.done(a, js[2])
		c.same("one would fit", c.line(vm, js), []string{"[4]", "5", "6"})
		set(0)
		c.same("all ready", c.line(vm, js), []string{"[4]", "[5]", "[6]"})
		c.until("all run", func() bool { return len(c.order()) == 6 }, func() any { return c.order() })
		js = append(js, c.submit(a, vm, "hold", 7, 8)...)
		c.until("5 run", func() bool { return len(c.order()) == 8 }, func() any { return c.order() })
		set(1) // 4…8 run
		js = append(js, c.submit(a, vm, "hold", 9, 10)...)
		for n := 4; n <= 8; n++ {
			c.same("nothing starts beside them", len(c.order()), 8)
			c.same("waiting", c.line(vm, js)[9-n:], []string{"9", "10"})
			c.letGo(n)
			c.done(a, js[n-1])
		}
		c.runs(9)
		c.letGo(9, 10)
		c.done(a, js...)
		if err := c.q.SetLimit(c.t.Context(), "vm", -1); !errors.Is(err, syncqueue.ErrInvalid) {
			c.t.Fatal(err)
		}
		if err := c.q.SetKeyLimit(c.t.Context(), vm, 2); err != nil {
			c.t.Fatal(err)
		}
		js = c.submit(a, vm, "hold", 11, 13)
		other := syncqueue.Key{Kind: "vm", ID: "other"}
		js2 := c.submit(a, other, "hold", 14, 15)
		c.lineIs(vm, js, "[1]", "[2]", "3")
		c.lineIs(other, js2, "[1]", "2")
		c.letGo(11, 12, 13, 14, 15)
		c.done(a, append(js, js2...)...)
	})

	onEach(t, "queue-39 SetLimit races with submissions", func(c *cluster) {
		ns := []*node{c.node("a"), c.node("b")}
		if err := c.q.SetLimit(c.t.Context(), "vm", 0); err != nil {
			c.t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var js []*job.Job
		for g := range 4 {
			wg.Go(func() {
				for i := range 25 {
					j, err := ns[g%2].Submit(c.t.Context(), job.Request{Kind: "task", Args: task{100*g + i, "hold"}, Sync: vm})
					if err != nil {
						c.t.Error(err)
						return
					}
					mu.Lock()
					js = append(js, j)
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			c.until("some are in", func() bool { mu.Lock(); defer mu.Unlock(); return len(js) > 20 }, func() any { return len(js) })
			if err := c.q.SetLimit(context.WithoutCancel(c.t.Context()), "vm", 1); err != nil {
				c.t.Error(err)
			}
		})
		wg.Wait()
		items, err := c.q.List(c.t.Context(), vm)
		if err != nil {
			c.t.Fatal(err)
		}
		counted := map[string]bool{}
		for _, it := range items {
			if !it.Since.IsZero() {
				counted[it.Content] = true
			}
		}
		c.until("the counted ones run", func() bool { return len(c.order()) >= len(counted) }, func() any { return len(counted) })
		for len(c.order()) < len(js) { // end those that run, one after the other
			before := len(c.order())
			c.mu.Lock()
			first := c.running[0].N
			more := len(c.running)
			c.mu.Unlock()
			if before > max(1, len(counted)) && more > 1 {
				c.t.Fatalf("%d run at once, started beside %d that were counted", more, len(counted))
			}
			c.letGo(first)
			c.until("it has ended", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return len(c.running) > 0 && !slices.ContainsFunc(c.running, func(a task) bool { return a.N == first })
			}, func() any { return first })
		}
		c.mu.Lock()
		rest := slices.Clone(c.running)
		c.mu.Unlock()
		for _, a := range rest {
			c.letGo(a.N)
		}
		c.done(ns[0], js...)
	})
}
