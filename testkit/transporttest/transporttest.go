// Package transporttest is what every bus transport must pass, with a bus on it.
//
//	func TestTransport(t *testing.T) { transporttest.Run(t, func(t testing.TB) transporttest.Net { return open(t) }) }
package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/internal/testkit/busrig"
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
	}{{"calls", calls}, {"errors", failures}, {"deadlines", deadlines}, {"routes", routes}, {"dispatch", dispatches}, {"workers", workers}, {"events", eventCases}, {"slow", []testCase{{name: "bus-57 a slow consumer", run: slowConsumer}}}} {
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
	if _, ok := open(t).(Virtual); ok {
		synctest.Test(t, func(t *testing.T) { c.run(newRig(t, open)) })
		return
	}
	if c.long {
		t.Skip("minutes long: in virtual time only")
	}
	c.run(newRig(t, open))
}

// rig is a network with buses on it.
type rig struct {
	testing.TB
	open    func(t testing.TB) Net
	net     Net
	virtual bool
	wrap    func(x bus.Transport) bus.Transport // nil: as it is
}

// node is a bus that runs.
type node = busrig.Node

func newRig(t testing.TB, open func(t testing.TB) Net) *rig {
	net := open(t)
	_, virtual := net.(Virtual)
	return &rig{TB: t, open: open, net: net, virtual: virtual}
}

// another is the same rig on another network.
func (r *rig) another() *rig { return newRig(r.TB, r.open) }

// start makes a bus and runs it until the check ends; set may change its configuration, serve what it is to serve.
func (r *rig) start(name string, set func(c *bus.Config), serve ...func(b *bus.Bus)) *node {
	r.Helper()
	end := r.net.Open(r, name)
	if r.wrap != nil {
		end = r.wrap(end)
	}
	return busrig.Start(r, end, name, set, serve...)
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

type handler = busrig.Handler

// Words of the checks.
var (
	serving = busrig.Serving
	echo    = busrig.Echo
	silent  = busrig.Silent
	msg     = busrig.Msg
	errOf   = busrig.ErrOf
)

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
