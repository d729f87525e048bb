package conductor_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	hub "github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
)

// net is a memory store, servers on it, and hosts.
type net struct {
	testing.TB
	hub   hub.Hub
	db    *memory.Store
	log   *lines
	bends sync.Mutex                      // one message at a time is judged
	open  func(name string) bus.Transport // nil: the hub
}

// bubble runs f in virtual time.
func bubble(t *testing.T, name string, f func(n *net)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(newNet(t)) })
	})
}

func newNet(t testing.TB) *net { return &net{TB: t, db: &memory.Store{}, log: &lines{}} }

// lines is a log that tests read.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

func (l *lines) count(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for _, s := range l.all {
		for _, p := range parts {
			if !strings.Contains(s, p) {
				continue next
			}
		}
		n++
	}
	return n
}

func (n *net) env(name string) drover.Env {
	return drover.Env{Node: name, Logger: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// wire is a node's transport, whose sends a test bends.
type wire struct {
	bus.Transport
	bends *sync.Mutex
	mu    sync.Mutex
	on    func(m *bus.Message) (drop bool)
	calls []string // of this node, as namespace/method
	bytes []int
}

func (w *wire) bend(on func(m *bus.Message) (drop bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = on
}

func (w *wire) Send(ctx context.Context, m *bus.Message) error {
	w.mu.Lock()
	on := w.on
	if m.Wire.Kind == bus.KindCall {
		w.calls = append(w.calls, m.Namespace+"/"+m.Method)
		w.bytes = append(w.bytes, len(m.Body))
	}
	w.mu.Unlock()
	if on != nil && w.drops(on, m) {
		return nil // as if it had been taken
	}
	return w.Transport.Send(ctx, m)
}

func (w *wire) drops(on func(m *bus.Message) bool, m *bus.Message) bool {
	w.bends.Lock()
	defer w.bends.Unlock()
	return on(m)
}

// Peer is the transport's.
func (w *wire) Peer(m *bus.Message) (string, bool) { return m.Wire.From, true }

// sent are the calls since the last call of sent.
func (w *wire) sent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls, w.bytes = nil, nil
	return calls
}

func (w *wire) size() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.bytes {
		n += b
	}
	return n
}

// node is a running bus.
type node struct {
	*bus.Bus
	wire *wire
	stop func()
}

func (n *net) node(name string) *node {
	n.Helper()
	x := &node{wire: &wire{Transport: n.hub.Open(name), bends: &n.bends}}
	var t bus.Transport = x.wire
	if n.open != nil {
		t = n.open(name)
	}
	x.Bus = bus.New(t, bus.Config{Env: n.env(name)})
	x.stop = n.run(x.Bus)
	if err := x.Ready(context.Background()); err != nil {
		n.Fatal(err)
	}
	return x
}

// run runs a component until the test ends, or the answer is called.
func (n *net) run(c drover.Component) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			n.Errorf("%T: %v", c, err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	n.Cleanup(stop)
	return stop
}

type server struct {
	*conductor.Server
	*node
	stop func()
}

func (n *net) server(name string, set func(c *conductor.ServerConfig)) *server {
	n.Helper()
	b := n.node(name)
	s := n.serverOn(b, name, set)
	return s
}

func (n *net) newServer(b *node, name string, set func(c *conductor.ServerConfig)) *conductor.Server {
	n.Helper()
	cfg := conductor.ServerConfig{Env: n.env(name), Bus: b.Bus, Tx: n.db}
	if set != nil {
		set(&cfg)
	}
	srv, err := conductor.NewServer(cfg)
	if err != nil {
		n.Fatal(err)
	}
	return srv
}

func (n *net) serverOn(b *node, name string, set func(c *conductor.ServerConfig)) *server {
	n.Helper()
	srv := n.newServer(b, name, set)
	s := &server{Server: srv, node: b, stop: n.run(srv)}
	n.served(b, "conductor")
	return s
}

// served waits until the topic is.
func (n *net) served(b *node, topic string) {
	for range 1000 {
		for _, e := range b.Endpoints() {
			if e.Topic == topic {
				if err := b.Ready(context.Background()); err != nil {
					n.Fatal(err)
				}
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	n.Fatal("nobody serves " + topic)
}

type client struct {
	*conductor.Client
	*node
}

func (n *net) client(name string, set func(c *conductor.Config)) *client {
	n.Helper()
	b := n.node(name)
	cfg := conductor.Config{Env: n.env(name), Bus: b.Bus}
	if set != nil {
		set(&cfg)
	}
	c, err := conductor.New(cfg)
	if err != nil {
		n.Fatal(err)
	}
	n.run(c)
	return &client{c, b}
}

// Ready is the client's, not the bus's.
func (c *client) Ready(ctx context.Context) error { return c.Client.Ready(ctx) }

// Run is nobody's here.
func (c *client) Run(ctx context.Context) error { return c.Client.Run(ctx) }

// all lets hosts do everything.
func all(c *conductor.ServerConfig) {
	c.Policy.Allow = func(_, _, _ string) bool { return true }
}

// in runs f in a transaction that must commit.
func (n *net) in(r store.Runner, f func(ctx context.Context, tx store.Tx) error) {
	n.Helper()
	if err := r.InTx(context.Background(), f); err != nil {
		n.Fatal(err)
	}
}

// session opens one for the node, by r.
func (n *net) session(r interface {
	store.Runner
	Leases() lease.Store
}, name string) (tok lease.Token) {
	n.Helper()
	n.in(r, func(ctx context.Context, tx store.Tx) (err error) {
		tok, err = r.Leases().Open(ctx, tx, lease.Info{Name: name, State: lease.Active}, name, time.Hour)
		return err
	})
	return tok
}

func row(id, queue string) job.Row {
	return job.Row{Print: "p", Job: job.Job{ID: id, Root: id, Kind: "k", Queue: queue, Args: []byte(`{"n":1}`), MaxAttempts: 3}}
}

func (n *net) insert(rows ...job.Row) {
	n.Helper()
	n.in(n.db, func(ctx context.Context, tx store.Tx) error {
		_, err := n.db.Jobs().Insert(ctx, tx, rows)
		return err
	})
}

// get reads a job at the store.
func (n *net) get(id string) (r job.Row) {
	n.Helper()
	n.in(n.db, func(ctx context.Context, tx store.Tx) error {
		found, err := n.db.Jobs().List(ctx, tx, job.Find{IDs: []string{id}, Steps: true, Journal: true})
		if len(found.Rows) == 1 {
			r = found.Rows[0]
		}
		return err
	})
	return r
}

func claimOf(tok lease.Token, queue string, most int) job.Claim {
	return job.Claim{Session: tok, Kinds: []string{"k"}, Free: map[string]int{queue: most}, Max: most}
}

// claim starts jobs by r.
func (n *net) claim(r job.DB, tok lease.Token, queue string, most int) []job.Row {
	n.Helper()
	var got job.Claimed
	n.in(r, func(ctx context.Context, tx store.Tx) (err error) {
		got, err = r.Jobs().Claim(ctx, tx, claimOf(tok, queue, most))
		return err
	})
	return got.Rows
}

func (n *net) same(what string, got, want any) {
	n.Helper()
	if g, w := show(got), show(want); g != w {
		n.Fatalf("%s: got %s, want %s", what, g, w)
	}
}
