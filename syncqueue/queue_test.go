package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/syncqueue"
)

func TestQueueTurns(t *testing.T) {
	for _, limit := range []int{1, 3} {
		onEach(t, fmt.Sprintf("queue-31 never more than %d", limit), func(c *cluster) {
			ns := []*node{c.node("a", workers(8)), c.node("b", workers(8)), c.node("c", workers(8))}
			if err := c.q.SetLimit(t.Context(), "vm", limit); err != nil {
				t.Fatal(err)
			}
			var rs []job.Request
			for i := range 1000 {
				rs = append(rs, job.Request{Kind: "task", Args: task{i, ""}, Sync: syncqueue.Key{Kind: "vm", ID: fmt.Sprint(i % 20)}})
			}
			var js []*job.Job
			for i := range 4 {
				part, err := ns[i%3].SubmitMany(c.t.Context(), rs[250*i:250*(i+1)])
				if err != nil {
					c.t.Fatal(err)
				}
				js = append(js, part...)
			}
			c.done(ns[0], js...)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.same("starts", len(c.starts), 1000)
			for k, n := range c.peak {
				if n > limit {
					c.t.Fatalf("%d of %v ran at once", n, k)
				}
			}
		})
	}

	onEach(t, "queue-32 handed on in the finishing commit", func(c *cluster) {
		slow := func(cfg *job.Config) { cfg.Poll = time.Minute } // nothing comes by a tick
		a := c.node("a", slow)
		b := c.node("b", slow, func(cfg *job.Config) { cfg.Queues = map[string]int{"other": 5} })
		first := c.submit(a, vm, "hold", 1, 1)[0]
		c.runs(1)
		second, err := b.Submit(c.t.Context(), job.Request{Kind: "task", Args: task{2, "hold"}, Sync: vm, Queue: "other"})
		if err != nil {
			c.t.Fatal(err)
		}
		third := c.submit(a, vm, "hold", 3, 3)[0]
		c.same("third", third.State, job.Waiting)
		for i, j := range []*job.Job{first, second} {
			c.letGo(i + 1)
			c.done(a, j)
			next := []*job.Job{second, third}[i]
			got, err := a.Get(c.t.Context(), next.ID)
			switch {
			case err != nil:
				c.t.Fatal(err)
			case c.store == "postgres": // a claim that holds the row just now takes the turn in its own commit
			case got.State == job.Waiting:
				c.t.Fatal("the holder is final and the next still waits")
			}
			c.runs(i + 2)
		}
		c.letGo(3)
		c.done(b, third)
	})

	// Without a claim at the same time, which may take the turn in a commit of its own, there is nothing to wait for at all.
	onEach(t, "queue-32 by the finish alone, for another node", func(c *cluster) {
		a, b := c.bareNode("a"), c.bareNode("b")
		a.insert(row(1, vm), row(2, vm), row(3, vm))
		is := func(ctx context.Context, tx store.Tx) string {
			l, err := c.db.Jobs().List(ctx, tx, job.Find{IDs: []string{row(2, vm).ID}})
			if err != nil || len(l.Rows) != 1 {
				c.t.Fatalf("%d rows, %v", len(l.Rows), err)
			}
			return fmt.Sprint(l.Rows[0].State, " ", l.Rows[0].Turn)
		}
		seen := func() (s string) {
			a.in(func(ctx context.Context, tx store.Tx) error { s = is(ctx, tx); return nil })
			return s
		}
		first := a.claim(5)
		c.same("claimed", len(first), 1)
		a.in(func(ctx context.Context, tx store.Tx) error {
			done, err := c.db.Jobs().Move(ctx, tx, []job.Move{{ID: first[0].ID, From: job.Running, To: job.Succeeded, Epoch: first[0].Epoch}})
			c.same("finished", fmt.Sprint(done), "[true]")
			c.same("inside", is(ctx, tx), "ready true")
			if c.store == "postgres" { // which shows others nothing before the commit
				c.same("before the commit", seen(), "waiting false")
			}
			return err
		})
		c.same("after the commit", seen(), "ready true")
		second := b.claim(5)
		if len(second) != 1 || second[0].ID != row(2, vm).ID {
			c.t.Fatalf("the other node claims %v", second)
		}
		out := b.finish(second, 5)
		if len(out.Started) != 1 || out.Started[0].ID != row(3, vm).ID {
			c.t.Fatalf("the finish starts %v", out.Started)
		}
		b.finish(out.Started, 0)
	})

	onEach(t, "queue-33 start order is submit order", submitOrder)

	onEach(t, "queue-34 a submission that fails leaves nothing", func(c *cluster) {
		a := c.node("a", workers(0))
		undo := errors.New("undo")
		err := c.db.InTx(c.t.Context(), func(ctx context.Context, tx store.Tx) error {
			_, err := a.SubmitTx(ctx, tx, job.Request{Kind: "task", Args: task{1, ""}, Sync: vm})
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) {
			c.t.Fatal(err)
		}
		c.same("line", c.line(vm, nil), []string{})
		keys, err := c.q.Keys(c.t.Context(), syncqueue.Filter{})
		if err != nil {
			c.t.Fatal(err)
		}
		c.same("keys", len(keys), 0)
		boom := errors.New("disk full")
		bad := c.node("bad", workers(0), func(cfg *job.Config) { cfg.Store = failing{cfg.Store, boom} })
		if _, err := bad.Submit(c.t.Context(), job.Request{Kind: "task", Args: task{1, ""}, Sync: vm}); !errors.Is(err, boom) {
			c.t.Fatalf("got %v, want the store's error", err)
		}
		c.same("line", c.line(vm, nil), []string{})
	})

	onEach(t, "queue-40 what comes back comes first", comesBack)
	onEach(t, "queue-41 cancel", cancels)

	onEach(t, "queue-43 release of a turn", func(c *cluster) {
		a := c.node("a")
		js := c.submit(a, vm, "release", 1, 1)
		js = append(js, c.submit(a, vm, "hold", 2, 4)...)
		c.runs(1, 2) // the next runs beside it
		c.lineIs(vm, js, "[2]", "3", "4")
		c.letGo(1) // it fails and waits, at its old place
		c.lineIs(vm, js, "[2]", "1", "3", "4")
		c.letGo(2)
		c.done(a, js[1], js[0])
		c.runs(3)
		c.letGo(3, 4)
		c.done(a, js...)
		c.same("starts", c.order(), []int{1, 2, 1, 3, 4})
	})

	t.Run("queue-60 bad keys", func(t *testing.T) {
		for _, s := range stores {
			c := &cluster{t: t, db: s.open(t), changed: make(chan struct{}, 1), gates: map[int]chan struct{}{}}
			c.q = c.queue(nil)
			a := c.node("a", workers(0))
			long := strings.Repeat("x", 129)
			for _, k := range []syncqueue.Key{{ID: "1"}, {Kind: "vm"}, {Kind: long, ID: "1"}, {Kind: "vm", ID: long}, {Kind: "v\nm", ID: "1"}, {Kind: "vm", ID: "\x00"}} {
				if _, err := a.Submit(t.Context(), job.Request{Kind: "task", Args: task{}, Sync: k}); !errors.Is(err, job.ErrInvalid) {
					t.Errorf("%s: key %q: %v", s.name, k, err)
				}
			}
			if _, err := a.Submit(t.Context(), job.Request{Kind: "task", Args: task{}, Sync: syncqueue.Key{Kind: "vm", ID: strings.Repeat("é", 64)}}); err != nil {
				t.Errorf("%s: a good key: %v", s.name, err)
			}
			bad := syncqueue.Key{Kind: "vm", ID: "\xff"}
			_, list := c.q.List(t.Context(), bad)
			_, page := c.q.Page(t.Context(), syncqueue.Filter{Keys: true, Kind: "v\x00"})
			_, keys := c.q.Keys(t.Context(), syncqueue.Filter{After: "vm\n\x00"})
			for _, err := range []error{
				list, page, keys, c.q.Pause(t.Context(), bad), c.q.SetKeyLimit(t.Context(), bad, 1), c.q.SetLimit(t.Context(), "\xff", 1),
				a.c.q.SetLimit(t.Context(), "", 1), c.q.SetLimit(t.Context(), long, 1), c.q.SetLimit(t.Context(), "vm", -1),
				c.q.SetLimit(t.Context(), "vm", 1_000_001), c.q.SetKeyLimit(t.Context(), syncqueue.Key{Kind: "vm"}, 1),
				c.q.SetKeyLimit(t.Context(), syncqueue.Key{ID: "1"}, 1), c.q.SetKeyLimit(t.Context(), vm, -1),
			} {
				if !errors.Is(err, syncqueue.ErrInvalid) {
					t.Errorf("%s: %v, want ErrInvalid", s.name, err)
				}
			}
			rows, err := c.q.Policies(t.Context())
			if len(rows) != 0 || err != nil {
				t.Errorf("%s: refused policies were stored: %v %v", s.name, rows, err)
			}
		}
	})
}

// failing is a store whose Insert fails.
type failing struct {
	job.Store
	err error
}

func (f failing) Turns() syncqueue.Store { return f.Store.(job.Turner).Turns() }

func (f failing) Insert(context.Context, store.Tx, []job.Row) ([]job.Row, error) { return nil, f.err }

// submitOrder: three submitters, three nodes of which one stops in between, jobs that fail once. Per submitter and key the
// first starts are in order, and once a job has started no other of its key does until it is final.
func submitOrder(c *cluster) {
	ns := []*node{c.node("a", workers(10)), c.node("b", workers(10)), c.node("c", workers(10))}
	const perKey = 15
	var wg sync.WaitGroup
	all := make([][]*job.Job, 3)
	for s := range 3 {
		wg.Go(func() {
			for i := range perKey {
				for k := range 4 {
					mode := []string{"", "retry", "again"}[(i+s)%3]
					j, err := ns[s].Submit(c.t.Context(), job.Request{Kind: "task", Args: task{1000*s + 10*i + k, mode}, Sync: syncqueue.Key{Kind: "vm", ID: fmt.Sprint(k)}})
					if err != nil {
						if s != 2 || !errors.Is(err, job.ErrDraining) { // it was told to stop
							c.t.Error(err)
						}
						return
					}
					all[s] = append(all[s], j)
				}
				if s == 1 && i == perKey/2 {
					if err := ns[2].stop(); err != nil {
						c.t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, js := range all {
		c.done(ns[0], js...)
	}
	last, started := map[string]int{}, map[int]bool{}
	current := map[int]int{} // by key, the job that has started last
	for _, n := range c.order() {
		s, k := n/1000, n%10
		if !started[n] {
			started[n] = true
			if line := fmt.Sprint(s, k); n < last[line] {
				c.t.Fatalf("%d started behind %d", n, last[line])
			} else {
				last[line] = n
			}
		} else if current[k] != n {
			c.t.Fatalf("%d runs again, but %d started in between", n, current[k])
		}
		current[k] = n
	}
	for k, n := range c.peak {
		if n > 1 {
			c.t.Fatalf("%d of %v ran at once", n, k)
		}
	}
}

// comesBack: a job returned by a stop, a retry or Again keeps its turn; one that falls due joins at the end.
func comesBack(c *cluster) {
	a, b := c.node("a"), c.node("b", workers(0))
	for i, mode := range []string{"retry", "again"} {
		k := syncqueue.Key{Kind: "vm", ID: mode}
		js := append(c.submit(b, k, mode, 10*i+1, 10*i+1), c.submit(b, k, "", 10*i+2, 10*i+3)...)
		c.done(b, js...)
		c.same(mode, slices.DeleteFunc(c.order(), func(n int) bool { return n/10 != i }), []int{10*i + 1, 10*i + 1, 10*i + 2, 10*i + 3})
	}
	late, err := b.Submit(c.t.Context(), job.Request{Kind: "task", Args: task{51, ""}, Sync: vm, RunAt: time.Now().Add(300 * time.Millisecond)})
	if err != nil {
		c.t.Fatal(err)
	}
	js := append([]*job.Job{late}, c.submit(b, vm, "hold", 52, 54)...)
	c.runs(52)
	c.lineIs(vm, js, "[2]", "3", "4", "1")
	if err := a.stop(); err != nil { // 52 is returned
		c.t.Fatal(err)
	}
	c.lineIs(vm, js, "[2]", "3", "4", "1")
	c.node("d")
	c.letGo(52, 53, 54)
	c.done(b, js...)
	c.same("order", slices.DeleteFunc(c.order(), func(n int) bool { return n < 50 }), []int{52, 52, 53, 54, 51})
}

func cancels(c *cluster) {
	a := c.node("a")
	js := c.submit(a, vm, "hold", 1, 5)
	c.runs(1)
	cancel := func(j *job.Job) {
		c.t.Helper()
		if ok, err := a.Cancel(c.t.Context(), j.ID, "test"); !ok || err != nil {
			c.t.Fatal(ok, err)
		}
	}
	cancel(js[1])
	c.lineIs(vm, js, "[1]", "3", "4", "5")
	if _, err := a.Cancel(c.t.Context(), "00000000-0000-7000-8000-000000000000"); !errors.Is(err, job.ErrNotFound) {
		c.t.Fatal(err)
	}
	if _, err := a.Cancel(c.t.Context(), js[1].ID); !errors.Is(err, job.ErrFinished) {
		c.t.Fatal(err)
	}
	c.lineIs(vm, js, "[1]", "3", "4", "5")
	if err := a.stop(); err != nil { // 1 is ready again and holds its turn
		c.t.Fatal(err)
	}
	b := c.node("b", workers(0))
	c.state(b, js[0], job.Ready)
	for i, left := range [][]string{{"[3]", "4", "5"}, {"[4]", "5"}} { // 1 is a ready holder, then 3 is
		if ok, err := b.Cancel(c.t.Context(), js[2*i].ID); !ok || err != nil {
			c.t.Fatal(ok, err)
		}
		c.lineIs(vm, js, left...)
	}
	d := c.node("d")
	c.runs(4)
	park(c, js[3])
	c.lineIs(vm, js, "[4]", "5")
	if ok, err := d.Cancel(c.t.Context(), js[3].ID); !ok || err != nil { // a parked holder
		c.t.Fatal(ok, err)
	}
	c.letGo(4, 5)
	c.done(d, js[4])
}

// park moves a running job as its handler's Park would.
func park(c *cluster, j *job.Job) {
	c.t.Helper()
	err := c.db.InTx(c.t.Context(), func(ctx context.Context, tx store.Tx) error {
		found, err := c.db.Jobs().List(ctx, tx, job.Find{IDs: []string{j.ID}})
		if err != nil {
			return err
		}
		done, err := c.db.Jobs().Move(ctx, tx, []job.Move{{ID: j.ID, From: job.Running, To: job.Parked, Epoch: found.Rows[0].Epoch}})
		if err == nil && !done[0] {
			err = errors.New("not parked")
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}
