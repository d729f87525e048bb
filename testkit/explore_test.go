package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

func sessions(n *testkit.Node) (names []string) {
	err := inTx(n, func(ctx context.Context, tx store.Tx) error {
		infos, err := n.Store.Leases().List(ctx, tx)
		names = nil
		for _, i := range infos {
			names = append(names, i.Name)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return names
}

// wall is the machine's time, also in a bubble.
func wall() time.Duration {
	var tv syscall.Timeval
	_ = syscall.Gettimeofday(&tv)
	return time.Duration(tv.Nano())
}

func TestWorlds(t *testing.T) {
	t.Run("testkit-08 idle time costs nothing", func(t *testing.T) {
		best := time.Hour
		testkit.Explore(t, 20, func(w *testkit.World) {
			begin, points := wall(), w.Stats().Points
			w.Advance(6 * time.Hour)
			best = min(best, wall()-begin)
			if n := w.Stats().Points - points; n != 0 {
				w.T.Errorf("%d scheduling points", n)
			}
		}, testkit.Parallel(1))
		if best >= time.Millisecond {
			t.Errorf("6 idle hours took %v", best)
		}
	})
	t.Run("testkit-09 a crash within a transaction and after it", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			a, b := w.Node("a", nil), w.Node("b", nil)
			a.Delay("store.tx.commit", 1, time.Second, time.Second)
			both := func(x string) func() {
				return func() {
					_ = inTx(a, func(ctx context.Context, tx store.Tx) error {
						for _, name := range []string{x + "1", x + "2"} {
							if _, err := a.Store.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, x, time.Minute); err != nil {
								return err
							}
						}
						return nil
					})
				}
			}
			a.Env.Go("within", both("within"))
			w.Advance(500 * time.Millisecond)
			a.Crash()
			if got := sessions(b); len(got) != 0 {
				w.T.Errorf("of a transaction cut off there is %v", got)
			}
			a.Delay("store.tx.commit", 0, 0, 0)
			a.Restart()
			a.Env.Go("after", both("after"))
			w.Advance(time.Second)
			a.Crash()
			if got := sessions(b); !slices.Equal(got, []string{"after1", "after2"}) {
				w.T.Errorf("of a committed transaction there is %v", got)
			}
		})
	})
	t.Run("testkit-10 a deferred call of a crashed goroutine is refused", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			a, b := w.Node("a", nil), w.Node("b", nil)
			began, ended := false, false
			a.Env.Go("worker", func() {
				defer func() {
					began = true
					_, _ = openSession(a, "deferred")
					ended = true
				}()
				for i := 0; ; i++ {
					_, _ = openSession(a, "loop")
					_ = a.Env.Sleep(a.Context(), time.Second)
				}
			})
			w.Advance(5500 * time.Millisecond)
			a.Crash()
			w.Advance(time.Minute)
			if got := sessions(b); !began || ended || slices.Contains(got, "deferred") {
				w.T.Errorf("began %v, ended %v, sessions %v", began, ended, got)
			}
		})
	})
	t.Run("testkit-11 a holder frozen past its lease is refused", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			w.LeaseInvariants()
			a := w.Node("a", nil)
			var first error
			var at time.Time
			a.Env.Go("holder", func() {
				tok, err := openSession(a, "a")
				for err == nil {
					_ = a.Env.Sleep(a.Context(), 10*time.Second)
					err = inTx(a, func(ctx context.Context, tx store.Tx) error {
						return a.Store.Leases().Renew(ctx, tx, tok, lease.Info{Name: "a", State: lease.Active}, 30*time.Second)
					})
				}
				first, at = err, time.Now()
			})
			begin := time.Now()
			w.Advance(10*time.Second + time.Millisecond)
			a.Freeze(31 * time.Second)
			w.Advance(time.Minute)
			if !errors.Is(first, store.ErrConflict) || at.Sub(begin) != 41*time.Second+time.Millisecond {
				w.T.Errorf("first write after the freeze: %v at %v", first, at.Sub(begin))
			}
		})
	})
	t.Run("testkit-12 a skewed clock changes no lease decision", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			w.LeaseInvariants()
			leads := leaders(w, "a", "b", "c")
			w.Advance(5 * time.Second)
			n := leads.nodes[w.Rand("who").IntN(3)]
			before := slices.Clone(leads.log)
			n.Skew(time.Hour, 1.1)
			w.Advance(10 * time.Minute)
			n.Skew(-time.Hour, 0.9)
			w.Advance(10 * time.Minute)
			if len(before) != 1 || !slices.Equal(before, leads.log) {
				w.T.Errorf("leaders before %v, after %v", before, leads.log)
			}
			for _, s := range leads.sessions {
				if s.Token().Incarnation != 1 {
					w.T.Errorf("session %+v", s.Token())
				}
			}
		})
	})
	t.Run("testkit-13 every commit may fail after it was done", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			w.JobInvariants()
			w.LeaseInvariants()
			c, ns := newCluster(w, "n1", "n2", "n3")
			for _, n := range ns {
				n.FailAfter("store.tx.commit", 0.3, nil)
			}
			c.done("n1", 20*time.Minute, c.submit(ns, 40))
			if w.Stats().Faults["error after"] == 0 {
				w.T.Error("no commit failed")
			}
		})
	})
	t.Run("testkit-14 all hints lost", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			w.JobInvariants()
			c, ns := newCluster(w, "n1", "n2")
			w.Advance(5 * time.Second)
			w.Hints(1, 0, 0)
			for i := range 5 { // each waits for a poll to start and for one to be heard of
				begin := time.Now()
				j, err := c.jobs["n1"].Submit(w.T.Context(), job.Request{Kind: "work", Args: work{7 * i}})
				if err != nil {
					w.T.Fatal(err)
				}
				if j, err = c.jobs["n2"].Wait(w.T.Context(), j.ID); err != nil || j.State != job.Succeeded {
					w.T.Fatal(j, err)
				}
				if d := time.Since(begin); d > 2*time.Second {
					w.T.Errorf("job %d took %v", i, d)
				}
			}
			_ = ns
		})
	})
	t.Run("testkit-15 one way of the connection to the store", func(t *testing.T) {
		testkit.Explore(t, 20, partitioned)
	})
	t.Run("testkit-40 crash points before and after each operation", func(t *testing.T) {
		counted(t)
		var mu sync.Mutex
		states := map[string]int{}
		n := 0
		testkit.Explore(t, 1, func(w *testkit.World) {
			a, b := w.Node("a", nil), w.Node("b", nil)
			w.CrashPoints(a, func() { _, _ = openSession(a, "x"); _, _ = openSession(a, "y") })
			a.Restart()
			mu.Lock()
			defer mu.Unlock()
			states[strings.Join(sessions(b), " ")]++
			n = w.Stats().Crashes
		})
		// 2 transactions of 3 operations: 2 worlds to count and compare, 2 × 6 with a crash.
		want := map[string]int{"": 5, "x": 6, "x y": 3}
		if fmt.Sprint(states) != fmt.Sprint(want) || n != 6 {
			t.Errorf("%d operations; sessions left: %v, want %v", n, states, want)
		}
	})
	t.Run("chaos of every profile", func(t *testing.T) {
		for _, p := range []testkit.Profile{testkit.Gentle, testkit.Rough, testkit.Hostile} {
			testkit.Explore(t, 5, func(w *testkit.World) {
				w.JobInvariants()
				w.LeaseInvariants()
				c, ns := newCluster(w, "n1", "n2", "n3")
				var ids []string
				stop := w.Chaos(p)
				w.Go("submitter", func() { ids = c.submit(ns, 30) })
				w.Advance(20 * time.Minute)
				stop()
				w.Eventually(5*time.Minute, "all are submitted", func() bool { return len(ids) == 30 })
				c.done("n1", time.Hour, ids)
			})
		}
	})
}

// partitioned has a node whose way to the store is cut, one direction at a time.
func partitioned(w *testkit.World) {
	a, b := w.Node("a", nil), w.Node("b", nil)
	call := func(name string) (took time.Duration, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		begin := time.Now()
		err = a.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			_, err := a.Store.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, name, time.Hour)
			return err
		})
		return time.Since(begin), err
	}
	for _, ends := range [][2]testkit.Place{{a, testkit.TheStore}, {testkit.TheStore, a}} {
		w.Cut(ends[0], ends[1])
		if took, err := call("during"); !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second {
			w.T.Errorf("during the cut: %v after %v", err, took)
		}
		if _, err := openSession(b, "b"); err != nil {
			w.T.Errorf("the other node: %v", err)
		}
		w.Heal()
	}
	// The cut falls between an operation and its commit: what the node sends is lost, or what it is answered.
	for i, name := range []string{"request lost", "answer lost"} {
		a.Delay("store.tx.commit", 1, time.Second, time.Second)
		w.Go(fmt.Sprint("cutter", i), func() {
			w.Advance(500 * time.Millisecond)
			if i == 0 {
				w.Cut(a, testkit.TheStore)
			} else {
				w.Cut(testkit.TheStore, a)
			}
		})
		if took, err := call(name); err == nil || took != 5*time.Second {
			w.T.Errorf("%s: %v after %v", name, err, took)
		}
		if got := slices.Contains(sessions(b), name); got != (i == 1) {
			w.T.Errorf("%s: written %v", name, got)
		}
		w.Heal()
	}
}

// leading is nodes that compete for one lease.
type leading struct {
	nodes    []*testkit.Node
	sessions []*lease.Session
	log      []string
}

func leaders(w *testkit.World, names ...string) *leading {
	l := &leading{}
	for _, name := range names {
		l.nodes = append(l.nodes, w.Node(name, func(n *testkit.Node) drover.Component {
			s, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier()})
			if err != nil {
				w.T.Fatal(err)
			}
			l.sessions = append(l.sessions, s)
			g := new(drover.Group)
			_ = g.Add("node", s)
			_ = g.Add("lead", drover.Func(func(ctx context.Context) error {
				return lease.Lead(ctx, s, "boss", func(ctx context.Context, tok lease.Token) error {
					l.log = append(l.log, fmt.Sprint(name, tok.Epoch))
					<-ctx.Done()
					return nil
				})
			}))
			return g
		}))
	}
	return l
}
