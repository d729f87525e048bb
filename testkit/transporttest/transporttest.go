// Package transporttest is what every bus transport must pass, with a bus on it.
//
//	func TestTransport(t *testing.T) { transporttest.Run(t, func(t testing.TB) transporttest.Net { return open(t) }) }
package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
)

// Net is a network of its own: nodes of another Net are not reached.
type Net interface {
	// Open is a node's end; it may register what is to be cleaned up with t.
	Open(t testing.TB, node string) bus.Transport
}

// What the checks find by type assertion on a Net:
type (
	// Virtual says that nothing of it is outside the process: checks run in virtual time, in a testing/synctest bubble.
	Virtual interface{ Virtual() }
	// Breaker kills the broker and starts it again.
	Breaker interface {
		Kill(t testing.TB)
		Restart(t testing.TB)
	}
	// Cutter breaks all connections of a node; it may connect again.
	Cutter interface {
		Cut(node string)
	}
	// Holer swallows all traffic of a node without a reset, until heal.
	Holer interface {
		BlackHole(node string) (heal func())
	}
)

type testCase struct {
	name string
	run  func(r *rig)
	long bool // minutes: in virtual time only
}

// Run checks the networks that open gives; each check has its own.
func Run(t *testing.T, open func(t testing.TB) Net) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{{"calls", calls}, {"errors", failures}, {"deadlines", deadlines}, {"routes", routes}, {"dispatch", dispatches}, {"workers", workers}, {"events", eventCases}} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { one(t, open, c) })
			}
		})
	}
}

// RunBroker checks networks, each with a broker of its own, that lose it.
func RunBroker(t *testing.T, open func(t testing.TB) Net) {
	for _, c := range broken {
		t.Run(c.name, func(t *testing.T) { one(t, open, c) })
	}
}

func one(t *testing.T, open func(t testing.TB) Net, c testCase) {
	net := open(t)
	if _, ok := net.(Virtual); ok {
		synctest.Test(t, func(t *testing.T) { c.run(newRig(t, open(t))) })
		return
	}
	if c.long {
		t.Skip("minutes long: in virtual time only")
	}
	c.run(newRig(t, net))
}

// rig is a network with buses on it.
type rig struct {
	testing.TB
	net     Net
	virtual bool
}

// node is a bus that runs.
type node struct {
	*bus.Bus
	log  *record
	stop func() error // ends Run, and gives its error
}

func newRig(t testing.TB, net Net) *rig {
	_, virtual := net.(Virtual)
	return &rig{TB: t, net: net, virtual: virtual}
}

// start makes a bus and runs it until the check ends; set may change its configuration, serve what it is to serve.
func (r *rig) start(name string, set func(c *bus.Config), serve ...func(b *bus.Bus)) *node {
	r.Helper()
	n := &node{log: &record{}}
	cfg := bus.Config{Env: drover.Env{Node: name, Logger: slog.New(n.log)}}
	if set != nil {
		set(&cfg)
	}
	n.Bus = bus.New(r.net.Open(r, name), cfg)
	for _, f := range serve {
		f(n.Bus)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = n.Run(ctx)
	}()
	n.stop = func() error {
		cancel()
		<-done
		return err
	}
	r.Cleanup(func() {
		if err := n.stop(); err != nil {
			r.Errorf("Run of %s: %v", name, err)
		}
	})
	up, off := context.WithTimeout(context.Background(), 20*time.Second)
	defer off()
	if err := n.Ready(up); err != nil {
		r.Fatalf("%s is not ready: %v", name, err)
	}
	return n
}

// settle lets what is under way come to rest.
func (r *rig) settle() {
	if r.virtual {
		synctest.Wait()
		return
	}
	time.Sleep(50 * time.Millisecond)
}

// eventually waits for ok.
func (r *rig) eventually(within time.Duration, what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(within); ; {
		r.settle()
		if ok() {
			return
		}
		if !time.Now().Before(end) {
			r.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// is fails unless err is one of want.
func (r *rig) is(err error, want ...error) {
	r.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			r.Fatalf("got %v, want %v", err, w)
		}
	}
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// endpoint is a set of methods.
func endpoint(methods map[string]func(ctx context.Context, m *bus.Message) ([]byte, error)) *bus.Endpoint {
	ep := &bus.Endpoint{}
	fill(ep, methods)
	return ep
}

func fill(ep *bus.Endpoint, methods map[string]func(ctx context.Context, m *bus.Message) ([]byte, error)) *bus.Endpoint {
	for name, f := range methods {
		bus.HandleFunc(ep, name, f)
	}
	return ep
}

type handler = func(ctx context.Context, m *bus.Message) ([]byte, error)

// serving offers one method, "handle", at topic.
func serving(topic string, f handler) func(b *bus.Bus) {
	return func(b *bus.Bus) { b.Serve(topic, endpoint(map[string]handler{"handle": f})) }
}

func echo(_ context.Context, m *bus.Message) ([]byte, error) { return m.Body, nil }

// silent answers when its caller has gone.
func silent(ctx context.Context, _ *bus.Message) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func msg(topic, body string) *bus.Message { return &bus.Message{Topic: topic, Body: []byte(body)} }

// call is a Call whose answer must be want.
func (r *rig) call(b *node, m *bus.Message, want string, opts ...bus.CallOption) {
	r.Helper()
	got, err := b.Call(context.Background(), m, opts...)
	if err != nil || string(got) != want {
		r.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

// tally counts by name.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]int{}
	}
	t.n[name]++
	return t.n[name]
}

func (t *tally) of(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[name]
}

func (t *tally) total() (sum int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.n {
		sum += n
	}
	return sum
}

// list collects words in order.
type list struct {
	mu sync.Mutex
	s  []string
}

func (l *list) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s = append(l.s, fmt.Sprintf(format, args...))
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.s)
}

func (l *list) String() string { return strings.Join(l.all(), " ") }

// record keeps what a bus logs.
type record struct {
	mu    sync.Mutex
	lines []slog.Record
	text  bytes.Buffer
}

func (h *record) Enabled(context.Context, slog.Level) bool { return true }
func (h *record) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *record) WithGroup(string) slog.Handler            { return h }
func (h *record) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, r)
	return slog.NewTextHandler(&h.text, nil).Handle(ctx, r)
}

// at counts lines of a level.
func (h *record) at(l slog.Level) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.lines {
		if r.Level == l {
			n++
		}
	}
	return n
}
