package servicegroup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/servicegroup/memory"
)

var errDown = errors.New("server down")

// fake is a memory driver that a test can make fail, hang and lie.
type fake struct {
	*memory.Driver
	mu    sync.Mutex
	calls map[string]int
	beats []time.Time // when they began
	fail  map[string]func(ctx context.Context) error
	edit  func(all []servicegroup.Member) []servicegroup.Member
	deaf  bool // no hints
}

func newFake() *fake {
	return &fake{Driver: memory.New(), calls: map[string]int{}, fail: map[string]func(context.Context) error{}}
}

func (d *fake) meet(ctx context.Context, op string) error {
	d.mu.Lock()
	d.calls[op]++
	if op == "beat" {
		d.beats = append(d.beats, time.Now())
	}
	f := d.fail[op]
	if all := d.fail["*"]; all != nil {
		f = all
	}
	d.mu.Unlock()
	if f != nil {
		return f(ctx)
	}
	return nil
}

// on sets what op ("join", "beat", "leave", "list", "*") meets; nil ends it.
func (d *fake) on(op string, f func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[op] = f
}

func (d *fake) count(op string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[op]
}

func refuse(context.Context) error     { return errDown }
func hang(ctx context.Context) error   { <-ctx.Done(); return ctx.Err() }
func panics(ctx context.Context) error { panic("driver bug") }

func (d *fake) Join(ctx context.Context, m servicegroup.Member) (servicegroup.Member, error) {
	if err := d.meet(ctx, "join"); err != nil {
		return m, err
	}
	return d.Driver.Join(ctx, m)
}

func (d *fake) Beat(ctx context.Context, m servicegroup.Member) error {
	if err := d.meet(ctx, "beat"); err != nil {
		return err
	}
	return d.Driver.Beat(ctx, m)
}

func (d *fake) Leave(ctx context.Context, m servicegroup.Member) error {
	if err := d.meet(ctx, "leave"); err != nil {
		return err
	}
	return d.Driver.Leave(ctx, m)
}

func (d *fake) Members(ctx context.Context, group string) ([]servicegroup.Member, error) {
	if err := d.meet(ctx, "list"); err != nil {
		return nil, err
	}
	all, err := d.Driver.Members(ctx, group)
	d.mu.Lock()
	edit := d.edit
	d.mu.Unlock()
	if edit != nil {
		all = edit(all)
	}
	return all, err
}

func (d *fake) Watch(ctx context.Context, group string) (<-chan struct{}, error) {
	if d.deaf {
		return nil, servicegroup.ErrUnsupported
	}
	return d.Driver.Watch(ctx, group)
}

// node is a Group that runs in a bubble, with what it logged and told.
type node struct {
	*servicegroup.Group
	d      *fake
	log    *lines
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu     sync.Mutex
	events []string
	views  []servicegroup.View
}

// lines is a logger's output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }
func (l *lines) count(s string) int          { return strings.Count(l.String(), s) }

func config(d servicegroup.Driver, id string) servicegroup.Config {
	return servicegroup.Config{ID: id, Addr: id + ":7000", Driver: d, Env: drover.Env{
		Node: id, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Rand: rand.NewPCG(uint64(len(id)), uint64(id[len(id)-1])),
	}}
}

// start runs a member; set may change its Config.
func start(t testing.TB, d *fake, id string, set ...func(*servicegroup.Config)) *node {
	t.Helper()
	cfg := config(d, id)
	n := &node{d: d, log: &lines{}, done: make(chan struct{})}
	cfg.Env.Logger = slog.New(slog.NewTextHandler(n.log, nil))
	for _, f := range set {
		f(&cfg)
	}
	var err error
	if n.Group, err = servicegroup.New(cfg); err != nil {
		t.Fatal(err)
	}
	n.Watch(func(old, new servicegroup.View) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.views = append(n.views, new)
		for _, e := range servicegroup.Diff(old, new) {
			m := e.Member
			if e.Kind == servicegroup.EventGone {
				m = e.Old
			}
			n.events = append(n.events, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Kind, m.ID, m.Reason)))
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.err = n.Run(ctx); close(n.done) }()
	t.Cleanup(cancel)
	synctest.Wait()
	return n
}

// stop ends Run and answers its error.
func (n *node) stop() error {
	n.cancel()
	<-n.done
	return n.err
}

// told counts the events that begin with s.
func (n *node) told(s string) (c int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if strings.HasPrefix(e, s) {
			c++
		}
	}
	return c
}

func (n *node) trace() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.events, "\n")
}

// is checks a state.
func (n *node) is(t testing.TB, id string, s servicegroup.State, r servicegroup.Reason) {
	t.Helper()
	if gs, gr := n.State(id); gs != s || gr != r {
		t.Fatalf("%s is %s, %s; want %s, %s\n%s", id, gs, gr, s, r, n.trace())
	}
}

func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// bubble runs a case in virtual time; nodes it started are stopped at its end.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, f)
	})
}

func every(d time.Duration) func(*servicegroup.Config) {
	return func(c *servicegroup.Config) { c.Interval = d }
}

func observer(c *servicegroup.Config) { c.Interval = -1 }
