package job_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"

	"github.com/drover-cloud/drover"
	fixture "github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
	"github.com/drover-cloud/drover/testkit"
)

// world is one store and the nodes on it. On real servers time is real and leases are short.
type world struct {
	*testing.T
	db   testkit.Stores
	ttl  time.Duration
	poll time.Duration
	real bool
}

// spec is one acceptance case.
type spec struct {
	name   string
	stores string // of "msp": memory, SQLite, PostgreSQL; "" = ms
	run    func(w *world)
}

// eachStore runs the cases on every store they ask for.
func eachStore(t *testing.T, specs []spec) {
	for _, s := range specs {
		t.Run(s.name, func(t *testing.T) {
			if s.stores == "" {
				s.stores = "ms"
			}
			for _, c := range s.stores {
				switch c {
				case 'm':
					t.Run("memory", func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { s.run(virtual(t, &memory.Store{})) })
					})
				case 's':
					t.Run("sqlite", func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { s.run(virtual(t, fixture.SQLite(t, drover.Env{}))) })
					})
				case 'p':
					t.Run("postgres", func(t *testing.T) { s.run(onPostgres(t)) })
				}
			}
		})
	}
}

func virtual(t *testing.T, db testkit.Stores) *world {
	return &world{T: t, db: db, ttl: 30 * time.Second, poll: time.Second}
}

// node is a manager, its session, and the switches of its faults.
type node struct {
	*job.Manager
	w       *world
	session *lease.Session
	faults  *faults
	clock   *nodeClock
	cancel  context.CancelFunc
	done    chan error
	once    sync.Once
	err     error
}

type nodeOption func(*node, *job.Config)

func workers(n int) nodeOption {
	return func(_ *node, c *job.Config) { c.Queues = map[string]int{"default": n} }
}
func deaf(_ *node, c *job.Config) { c.Notify = nil }
func with(f func(*job.Config)) nodeOption {
	return func(_ *node, c *job.Config) { f(c) }
}

// idle makes a node that does not run yet.
func (w *world) idle(name string, opts ...nodeOption) *node {
	w.Helper()
	over := make(chan struct{})
	w.Cleanup(func() { close(over) }) // after the node's own
	n := &node{w: w, clock: &nodeClock{c: clock.New(), over: over}, done: make(chan error, 1)}
	n.faults = &faults{Stores: w.db}
	env := drover.Env{Node: name, Clock: n.clock, Logger: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		env.Logger = slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s, err := lease.New(lease.Config{Env: env, Tx: n.faults, Store: w.db.Leases(), TTL: w.ttl})
	if err != nil {
		w.Fatal(err)
	}
	cfg := job.Config{Env: env, Tx: n.faults, Store: n.faults.Jobs(), Notify: w.db.Notifier(), Session: s, Poll: w.poll}
	for _, o := range opts {
		o(n, &cfg)
	}
	n.session = s
	if n.Manager, err = job.New(cfg); err != nil {
		w.Fatal(err)
	}
	return n
}

// run starts the node; it is stopped when the test ends.
func (n *node) run() *node {
	var g drover.Group
	g.Add("node", n.session)
	g.Add("jobs", n.Manager)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.done <- g.Run(ctx) }()
	n.w.Cleanup(func() {
		n.faults.set(func(f *faults) { f.before, f.after = nil, nil })
		n.stop()
	})
	return n
}

// stop stops the node and answers what its Run said.
func (n *node) stop() error {
	n.once.Do(func() {
		n.cancel()
		n.err = <-n.done
	})
	return n.err
}

// node makes and starts one.
func (w *world) node(name string, register func(*job.Manager), opts ...nodeOption) *node {
	w.Helper()
	n := w.idle(name, opts...)
	register(n.Manager)
	return n.run()
}

// fence of a test: what must have happened by now.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) submit(n *node, r job.Request) *job.Job {
	w.Helper()
	j, err := n.Submit(w.Context(), r)
	w.must(err)
	return j
}

// wait waits for the end of a job, within a time that is long enough for everything that these tests do.
func (w *world) wait(n *node, j *job.Job) *job.Job {
	w.Helper()
	d := 10 * time.Minute
	if w.real {
		d = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(w.Context(), d)
	defer cancel()
	got, err := n.Wait(ctx, j.ID)
	if err != nil {
		w.Fatalf("wait for %s: %v, last seen %s", j.Kind, err, state(got))
	}
	return got
}

func state(j *job.Job) job.State {
	if j == nil {
		return "gone"
	}
	return j.State
}

func (w *world) get(n *node, id string) *job.Job {
	w.Helper()
	j, err := n.Get(w.Context(), id)
	w.must(err)
	return j
}

// eventually waits for ok, in steps far below every bound that is tested.
func (w *world) eventually(within time.Duration, what string, ok func() bool) {
	w.Helper()
	step := within / 200
	for start := time.Now(); !ok(); time.Sleep(step) {
		if time.Since(start) > within {
			w.Fatalf("%s: not within %v", what, within)
		}
	}
}

func (w *world) state(n *node, id string, want job.State) *job.Job {
	w.Helper()
	j := w.get(n, id)
	if j.State != want {
		w.Fatalf("job is %s, want %s (%v)", j.State, want, j.Error)
	}
	return j
}

// settle lets everything happen that needs no time, or on a real server, little.
func (w *world) settle() {
	if w.real {
		time.Sleep(50 * time.Millisecond)
		return
	}
	synctest.Wait()
}

func vm(id string) syncqueue.Key { return syncqueue.Key{Kind: "vm", ID: id} }

func noop(m *job.Manager) {
	job.Handle(m, "noop", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
}

// gate is a handler that reports its start and blocks until it is let go.
type gate struct {
	started chan *job.Job
	let     chan error
}

func newGate() *gate { return &gate{make(chan *job.Job, 10000), make(chan error, 10000)} }

func (g *gate) handle(m *job.Manager, kind string, opts ...job.HandleOption) {
	job.Handle(m, kind, func(ctx context.Context, _ struct{}) (string, error) {
		j, _ := job.FromContext(ctx)
		g.started <- j
		select {
		case err := <-g.let:
			return "done", err
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}, opts...)
}

var errBoom = errors.New("boom")

// order records what ran.
type order struct {
	mu  sync.Mutex
	ids []string
	now map[string]int
	max map[string]int
}

func (o *order) enter(key, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == nil {
		o.now, o.max = map[string]int{}, map[string]int{}
	}
	o.ids = append(o.ids, id)
	o.now[key]++
	o.max[key] = max(o.max[key], o.now[key])
}

func (o *order) leave(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now[key]--
}

func (o *order) runs() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.ids...)
}
