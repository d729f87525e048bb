package lease_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// election is nodes that compete for one lease, whose holder writes numbers.
type election struct {
	w       *testkit.World
	ttl     time.Duration
	make    func(lease.Config) (*lease.Session, error)
	overlap func(format string, args ...any) // two trust themselves at once
	refused func(format string, args ...any) // a write of one who still trusts itself

	mu      sync.Mutex
	reigns  []*reign
	changes int
	release map[string]chan struct{}

	highest lease.Token // what has been written, guarded by the store's transactions
	numbers []int64     // the epoch that wrote each
}

// reign is one run of f.
type reign struct {
	node  string
	token lease.Token
	ctx   context.Context
	life  context.Context
}

func newElection(w *testkit.World, ttl time.Duration) *election {
	w.LeaseInvariants()
	return &election{w: w, ttl: ttl, make: lease.New, overlap: w.T.Errorf, refused: w.T.Errorf, release: map[string]chan struct{}{}}
}

func (e *election) node(n *testkit.Node) drover.Component {
	s, err := e.make(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier(), TTL: e.ttl})
	if err != nil {
		e.w.T.Fatal(err)
	}
	life, db, release := n.Context(), n.Store, make(chan struct{}, 1)
	e.mu.Lock()
	e.release[n.Name()] = release
	e.mu.Unlock()
	env := n.Env
	g := &drover.Group{Env: env}
	g.Add("node", s)
	g.Add("leader", drover.Func(func(ctx context.Context) error {
		for ctx.Err() == nil {
			err := lease.Lead(ctx, s, "x", func(ctx context.Context, tok lease.Token) error {
				e.begin(&reign{n.Name(), tok, ctx, life})
				return e.reign(ctx, env, db, tok, release)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return g
}

// begin checks that nobody else believes to lead.
func (e *election) begin(r *reign) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, old := range e.reigns {
		switch {
		case old.token.Epoch == r.token.Epoch && old.node != r.node:
			e.w.T.Errorf("epoch %d on %s and %s", r.token.Epoch, old.node, r.node)
		case !old.token.Less(r.token):
			e.w.T.Errorf("epoch %d of %s after %d of %s", r.token.Epoch, r.node, old.token.Epoch, old.node)
		case old.ctx.Err() == nil && old.life.Err() == nil:
			e.overlap("%s trusts epoch %d while %s begins %d", old.node, old.token.Epoch, r.node, r.token.Epoch)
		}
	}
	e.reigns = append(e.reigns, r)
	e.changes++
}

// reign writes numbers, each once, until ctx ends or it is told to resign.
func (e *election) reign(ctx context.Context, env drover.Env, db store.Runner, tok lease.Token, release <-chan struct{}) error {
	next := int64(-1)
	for {
		err := db.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			switch {
			case tok.Less(e.highest):
				return store.ErrConflict // the guard
			case next < 0: // take over: whoever was before is refused from now on
				e.highest, next = tok, int64(len(e.numbers))
			case next != int64(len(e.numbers)):
				e.w.T.Errorf("number %d written twice: by %d", next, e.numbers[next])
			default:
				e.numbers = append(e.numbers, tok.Epoch)
				next++
			}
			return nil
		})
		if errors.Is(err, store.ErrConflict) {
			if ctx.Err() == nil || !errors.Is(context.Cause(ctx), lease.ErrLost) {
				e.refused("epoch %d was refused while its ctx was alive (%v)", tok.Epoch, context.Cause(ctx))
			}
			return nil //nolint:nilerr // the reign is over
		}
		select {
		case <-ctx.Done():
		case <-release:
			return nil
		case <-env.Clock.After(time.Second):
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// leader is who began last, and how many have begun.
func (e *election) leader() (node string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.reigns) == 0 {
		return "", 0
	}
	return e.reigns[len(e.reigns)-1].node, e.changes
}

// next waits for the change after the nth.
func (e *election) next(n int, within time.Duration) {
	e.w.Eventually(within, fmt.Sprintf("leader after change %d", n), func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.changes > n
	})
}

func (e *election) resign(node string) {
	e.mu.Lock()
	c := e.release[node]
	e.mu.Unlock()
	select {
	case c <- struct{}{}:
	default:
	}
}

// start runs n nodes until one leads.
func (e *election) start(n int) map[string]*testkit.Node {
	nodes := map[string]*testkit.Node{}
	for i := range n {
		name := fmt.Sprint("n", i)
		nodes[name] = e.w.Node(name, e.node)
	}
	e.next(0, time.Minute)
	return nodes
}

func TestExplore(t *testing.T) {
	t.Run("lease-01 job-83 holder changes", func(t *testing.T) {
		testkit.Explore(t, 50, func(w *testkit.World) { holderChanges(w, 200) })
	})
	t.Run("lease-02 frozen leader", func(t *testing.T) {
		testkit.Explore(t, 50, func(w *testkit.World) {
			e := newElection(w, 30*time.Second)
			e.overlap = func(string, ...any) {} // one that is frozen does not know
			nodes := e.start(2)
			w.Advance(time.Duration(w.Rand("x").IntN(20000)) * time.Millisecond)
			name, n := e.leader()
			old := e.reigns[n-1]
			nodes[name].Freeze(90 * time.Second)
			e.next(n, 32*time.Second)
			next := e.reigns[n]
			if next.node == name || !old.token.Less(next.token) {
				w.T.Errorf("%+v after %+v", next.token, old.token)
			}
			w.Advance(90 * time.Second)
			if cause := context.Cause(old.ctx); !errors.Is(cause, lease.ErrLost) {
				w.T.Errorf("cause %v", cause)
			}
			written := slices.Index(e.numbers, next.token.Epoch)
			if written < 0 || slices.Contains(e.numbers[written:], old.token.Epoch) {
				w.T.Errorf("numbers written by %v", e.numbers)
			}
		})
	})
	t.Run("lease-04 clocks", func(t *testing.T) {
		testkit.Explore(t, 50, func(w *testkit.World) { clocks(w, newElection(w, 30*time.Second), 20) })
	})
	t.Run("lease-11 what the ledger was not heard to say holds up nobody", func(t *testing.T) {
		testkit.Explore(t, 10, func(w *testkit.World) {
			sessions := map[string]*lease.Session{}
			build := func(n *testkit.Node) drover.Component {
				s, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases(), Notify: n.Store.Notifier()})
				if err != nil {
					w.T.Fatal(err)
				}
				sessions[n.Name()] = s
				return s
			}
			a, b := w.Node("a", build), w.Node("b", build)
			w.Advance(time.Second)
			la, lb := lease.NewLedger(sessions["a"], a.Store.Ledger()), lease.NewLedger(sessions["b"], b.Store.Ledger())
			ctx, due := w.T.Context(), time.Now()
			take := func(l *lease.Ledger, after time.Duration, ours bool) int64 {
				epoch, _, err := l.Take(ctx, "gc", due.Add(after))
				if err != nil || epoch > 0 != ours {
					w.T.Fatalf("epoch %d, %v", epoch, err)
				}
				return epoch
			}
			lose := func(f func() error) {
				a.FailAfter("store.tx.commit", 1, nil)
				if err := f(); err == nil {
					w.T.Error("heard of it")
				}
				a.FailAfter("store.tx.commit", 0, nil)
			}
			lose(func() error { _, _, err := la.Take(ctx, "gc", due); return err })
			take(lb, time.Millisecond, false) // a has it, for all that b knows
			take(la, 0, true)
			lose(func() error { _, _, err := la.Take(ctx, "gc", due.Add(2*time.Millisecond)); return err })
			epoch := take(la, 3*time.Millisecond, true)
			take(lb, 4*time.Millisecond, false)
			a.Fail("store.*", 1, nil)
			if err := la.Done(ctx, "gc", epoch, "ok"); err == nil {
				w.T.Error("noted")
			}
			a.Fail("store.*", 0, nil)
			epoch = take(la, 5*time.Millisecond, true)
			if err := la.Done(ctx, "gc", epoch, "ok"); err != nil {
				w.T.Error(err)
			}
			take(lb, 6*time.Millisecond, true)
		})
	})
	t.Run("lease-08 negative control: no margin", func(t *testing.T) {
		var found atomic.Int32
		testkit.Explore(t, 20, func(w *testkit.World) {
			e := newElection(w, 30*time.Second)
			e.make = lease.NewTrusting
			e.overlap = func(string, ...any) { found.Add(1) }
			e.refused = func(string, ...any) {}
			clocks(w, e, 20)
		})
		if found.Load() == 0 {
			t.Error("no overlap found: the harness cannot see one")
		}
	})
}

// holderChanges ends the leader in one way or another, so many times.
func holderChanges(w *testkit.World, changes int) {
	r := w.Rand("election")
	e := newElection(w, 10*time.Second)
	e.overlap = func(string, ...any) {} // a frozen one cannot know: the guard is for it
	nodes := e.start(5)
	var down []*testkit.Node
	for range changes {
		w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
		name, n := e.leader()
		switch k := r.IntN(10); {
		case k == 0:
			nodes[name].Crash()
			down = append(down, nodes[name])
		case k <= 2:
			nodes[name].Freeze(time.Duration(11+r.IntN(30)) * time.Second)
		case k == 3:
			nodes[name].Restart()
		default:
			e.resign(name)
		}
		e.next(n, 90*time.Second)
		if len(down) > 2 {
			for _, d := range down {
				d.Restart()
			}
			down = nil
		}
	}
}

// clocks cuts leaders off the store while the nodes' clocks are wrong and run up to 10 % too fast or slow.
func clocks(w *testkit.World, e *election, changes int) {
	r := w.Rand("clocks")
	nodes := e.start(3)
	for range changes {
		for i := range 3 {
			nodes[fmt.Sprint("n", i)].Skew(time.Duration(r.IntN(7200)-3600)*time.Second, []float64{0.9, 1, 1.1}[r.IntN(3)])
		}
		w.Advance(time.Duration(r.IntN(15000)) * time.Millisecond)
		name, n := e.leader()
		nodes[name].Fail("store.*", 1, nil)
		e.next(n, 40*time.Second)
		w.Advance(time.Duration(r.IntN(15000)) * time.Millisecond)
		nodes[name].Fail("store.*", 0, nil)
	}
}
