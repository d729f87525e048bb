package syncqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// stores are what every case of the durable queue runs on.
var stores = []struct {
	name string
	open func(t testing.TB) testkit.Stores
}{
	{"memory", func(testing.TB) testkit.Stores { return &memory.Store{} }},
	{"sqlite", func(t testing.TB) testkit.Stores { return fixture.SQLite(t, drover.Env{}) }},
	{"postgres", func(t testing.TB) testkit.Stores {
		return fixture.PostgresStore(t, fixture.Postgres(t).Database(t), drover.Env{})
	}},
}

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }

// onEach runs a case on every store.
func onEach(t *testing.T, id string, f func(c *cluster)) {
	t.Run(id, func(t *testing.T) {
		t.Parallel()
		for _, s := range stores {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				c := &cluster{t: t, store: s.name, open: s.open, db: s.open(t), changed: make(chan struct{}, 1), gates: map[int]chan struct{}{}}
				c.q = c.queue(nil)
				f(c)
				n, err := c.q.Audit(t.Context())
				if n != 0 || err != nil {
					t.Errorf("audit repaired %d: %v", n, err)
				}
			})
		}
	})
}

const (
	patience = 20 * time.Second // only a failing case waits so long
	ttl      = time.Minute      // of the nodes' sessions: none is lost by a slow machine
)

var vm = syncqueue.Key{Kind: "vm", ID: "42"}

// task is the argument of every job here. Mode says what the handler does: hold (until let go), quick, retry (fails once),
// again (once), release (its turn, then hold, then fail once).
type task struct {
	N    int
	Mode string
}

// cluster is nodes on one store, and what their handlers did.
type cluster struct {
	t     *testing.T
	store string
	open  func(t testing.TB) testkit.Stores
	db    testkit.Stores
	q     *syncqueue.Queue

	mu      sync.Mutex
	gates   map[int]chan struct{}
	running []task // in order of start
	peak    map[syncqueue.Key]int
	now     map[syncqueue.Key]int
	starts  []int // N of every start, re-runs included
	changed chan struct{}
}

func (c *cluster) queue(policies map[string]syncqueue.Policy) *syncqueue.Queue {
	c.t.Helper()
	q, err := syncqueue.New(syncqueue.Config{Tx: c.db, Store: c.db.Queues(), Policies: policies})
	if err != nil {
		c.t.Fatal(err)
	}
	return q
}

// node is one process: a session and a manager on a store that can be taken from it.
type node struct {
	*job.Manager
	c     *cluster
	name  string
	alive atomic.Bool
	testkit.Stores
	stop func() error
}

var errDead = errors.New("this node is dead")

// InTx fails once the node is dead.
func (n *node) InTx(ctx context.Context, f func(ctx context.Context, tx store.Tx) error) error {
	if !n.alive.Load() {
		return errDead
	}
	return n.Stores.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		if !n.alive.Load() {
			return errDead
		}
		return nil
	})
}

// option changes a node before it starts.
type option func(cfg *job.Config)

func workers(n int) option {
	return func(cfg *job.Config) { cfg.Queues = map[string]int{"default": n} }
}
func turns(q *syncqueue.Queue) option { return func(cfg *job.Config) { cfg.Turns = q } }

// node starts one that handles the kind "task"; it stops with the test.
func (c *cluster) node(name string, opts ...option) *node {
	c.t.Helper()
	n := &node{c: c, name: name, Stores: c.db}
	n.alive.Store(true)
	env := drover.Env{Node: name, Logger: slog.New(slog.DiscardHandler)}
	session, err := lease.New(lease.Config{Env: env, Tx: n, Store: c.db.Leases(), Notify: c.db.Notifier(), TTL: ttl})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := job.Config{
		Env: env, Tx: n, Store: c.db.Jobs(), Notify: c.db.Notifier(), Session: session, Turns: c.q,
		Queues: map[string]int{"default": 50}, Poll: 100 * time.Millisecond, StopTimeout: 2 * time.Second,
	}
	for _, o := range opts {
		o(&cfg)
	}
	if n.Manager, err = job.New(cfg); err != nil {
		c.t.Fatal(err)
	}
	policy := func() backoff.BackOff { return backoff.NewConstantBackOff(20 * time.Millisecond) }
	job.Handle(n.Manager, "task", func(ctx context.Context, a task) (int, error) { return c.handle(ctx, n, a) }, job.Retry(policy, 5))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	sctx, scancel := context.WithCancel(context.Background())
	go func() { done <- session.Run(sctx) }()
	jobsDone := make(chan error, 1)
	go func() { jobsDone <- n.Run(ctx) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		err := <-jobsDone
		scancel()
		return errors.Join(err, <-done)
	})
	c.t.Cleanup(func() {
		if err := n.stop(); err != nil && n.alive.Load() {
			c.t.Errorf("node %s: %v", name, err)
		}
	})
	return n
}

// kill takes the store from the node, as a crash or a partition does. Nothing it does later counts.
func (n *node) kill() { n.alive.Store(false) }

// bury ends a killed node's session, as time would: others sweep what it ran.
func (n *node) bury() {
	n.c.t.Helper()
	err := n.c.db.InTx(n.c.t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := n.c.db.Leases().Open(ctx, tx, lease.Info{Name: n.name, State: lease.Active}, "successor", 0)
		return err
	})
	if err != nil {
		n.c.t.Fatal(err)
	}
}

func (c *cluster) handle(ctx context.Context, n *node, a task) (int, error) {
	j, _ := job.FromContext(ctx)
	c.begin(j, a)
	defer c.end(j, a)
	switch a.Mode {
	case "parks", "waits", "leaves":
		return a.N, c.family(ctx, n, j, a)
	case "reenters":
		x, err := n.Submit(ctx, job.Request{Kind: "task", Args: task{10 * a.N, ""}, Sync: j.Sync, Detached: true})
		if err != nil {
			return 0, err
		}
		if _, err := n.Wait(ctx, x.ID); !errors.Is(err, syncqueue.ErrReentrant) {
			return 0, job.Permanent(fmt.Errorf("Wait: %w", err))
		}
		if _, err := job.Await[int](ctx, x.ID); !errors.Is(err, syncqueue.ErrReentrant) {
			return 0, job.Permanent(fmt.Errorf("Await: %w", err))
		}
	case "hold":
		return a.N, c.wait(ctx, a.N)
	case "retry":
		if j.Attempt == 0 {
			return 0, errors.New("the first attempt fails")
		}
	case "again":
		if j.Runs == 1 {
			return 0, job.Again(20 * time.Millisecond)
		}
	case "release":
		if j.Attempt > 0 {
			return a.N, nil
		}
		if err := errors.Join(job.ReleaseTurn(ctx), job.ReleaseTurn(ctx)); err != nil {
			return 0, err
		}
		c.leave(j)
		if err := c.wait(ctx, a.N); err != nil {
			return 0, err
		}
		return 0, errors.New("after the release the first attempt fails")
	}
	return a.N, nil
}

func (c *cluster) wait(ctx context.Context, n int) error {
	select {
	case <-c.gate(n):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (c *cluster) gate(n int) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gates[n] == nil {
		c.gates[n] = make(chan struct{})
	}
	return c.gates[n]
}

// letGo ends what these jobs wait for.
func (c *cluster) letGo(ns ...int) {
	for _, n := range ns {
		close(c.gate(n))
	}
}

func (c *cluster) begin(j *job.Job, a task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.now, c.peak = map[syncqueue.Key]int{}, map[syncqueue.Key]int{}
	}
	c.now[j.Sync]++
	c.peak[j.Sync] = max(c.peak[j.Sync], c.now[j.Sync])
	c.running = append(c.running, a)
	c.starts = append(c.starts, a.N)
	c.wake()
}

func (c *cluster) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *cluster) end(j *job.Job, a task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.Mode != "release" || j.Attempt > 0 {
		c.now[j.Sync]--
	}
	c.running = slices.Delete(c.running, slices.Index(c.running, a), slices.Index(c.running, a)+1)
	c.wake()
}

// leave is for a job that runs on without its turn.
func (c *cluster) leave(j *job.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[j.Sync]--
}

// runs waits until exactly these run, in this order of start.
func (c *cluster) runs(want ...int) {
	c.t.Helper()
	got := []int{}
	c.until(fmt.Sprintf("%v run", want), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		got = got[:0]
		for _, a := range c.running {
			got = append(got, a.N)
		}
		return slices.Equal(got, want)
	}, func() any { return got })
}

// until waits for a condition; show says what is the case instead.
func (c *cluster) until(what string, ok func() bool, show func() any) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %v: %s; but: %v", patience, what, show())
		}
		select {
		case <-c.changed:
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// order of all starts so far.
func (c *cluster) order() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.starts)
}

func (c *cluster) same(what string, got, want any) {
	c.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// submit hands jobs of a mode in, numbers from…to, on a key.
func (c *cluster) submit(m *node, k syncqueue.Key, mode string, from, to int) (js []*job.Job) {
	c.t.Helper()
	for i := from; i <= to; i++ {
		j, err := m.Submit(c.t.Context(), job.Request{Kind: "task", Args: task{i, mode}, Sync: k})
		if err != nil {
			c.t.Fatal(err)
		}
		js = append(js, j)
	}
	return js
}

// done waits until they have all succeeded.
func (c *cluster) done(m *node, js ...*job.Job) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*patience)
	defer cancel()
	for _, j := range js {
		got, err := m.Wait(ctx, j.ID)
		if err != nil {
			c.t.Fatalf("waiting for %s: %v (%+v)", j.ID, err, got)
		}
		if got.State != job.Succeeded {
			c.t.Fatalf("job %s is %s: %v", j.ID, got.State, got.Error)
		}
	}
}

// state waits until a job is in one of these states.
func (c *cluster) state(m *node, j *job.Job, want ...job.State) {
	c.t.Helper()
	var got job.State
	c.until(fmt.Sprintf("job is %v", want), func() bool {
		now, err := m.Get(c.t.Context(), j.ID)
		if err != nil {
			c.t.Fatal(err)
		}
		got = now.State
		return slices.Contains(want, got)
	}, func() any { return got })
}
