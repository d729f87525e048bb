package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/internal/testkit/faults"
	"github.com/drover-cloud/drover/internal/testkit/sched"
)

// Node is a process of the cluster. Env, Store and Bus are those of its present life; Restart replaces them.
type Node struct {
	// Env: Clock may be skewed, Go names goroutines for the scheduler, Rand and NewID follow from the seed.
	Env drover.Env
	// Store is the world's store as this node reaches it.
	Store Stores
	// Bus carries the node's messages to the others: the Transport for a bus.New of build.
	Bus bus.Transport

	w      *World
	name   string
	build  func(n *Node) drover.Component
	life   *life
	lives  int
	table  faults.Table
	slow   float64
	cut    cut       // from the store
	off    cut       // from the bus
	healed time.Time // end of the last partition
}

// life is a node from start to crash or stop.
type life struct {
	node   *Node
	p      *sched.Proc
	ctx    context.Context
	cancel context.CancelCauseFunc
	gone   context.Context // done when it has crashed
	bury   context.CancelFunc
	ended  bool // Run returned
	err    error
}

// Node starts a node; build makes its components from the node's own Env, Store and Bus. A nil component is allowed: a node
// that the test uses by hand. A Group without an Env gets the node's.
func (w *World) Node(name string, build func(n *Node) drover.Component) *Node {
	w.use("World.Node")
	switch {
	case name == "" || len(name) > 64 || strings.ContainsAny(name, "/>~# \n"):
		w.T.Fatalf("testkit: World.Node(%q): a name of 1 to 64 bytes without / > ~ # and space is wanted", name)
	case w.names[name] || name == "main" || name == "world":
		w.T.Fatalf("testkit: World.Node(%q): the name is in use", name)
	}
	n := &Node{w: w, name: name, build: build}
	w.mu.Lock()
	w.names[name] = true
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	n.start()
	w.s.Rest()
	return n
}

func (n *Node) start() {
	n.lives++
	id := n.name
	var old *sched.Proc
	if n.life != nil {
		id, old = fmt.Sprintf("%s~%d", n.name, n.lives), n.life.p
	}
	l := &life{node: n, p: n.w.s.NewProc(id, old)}
	l.p.Owner = l
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.gone, l.bury = context.WithCancel(context.Background())
	n.life = l
	n.Env = drover.Env{Node: n.name, Clock: l.p, Rand: l.p, NewID: l.p.NewID, Go: l.p.Go, Logger: n.logger(l)}
	n.Store = newStores(l)
	n.Bus = newCarrier(l)
	n.w.s.Mark("!! start " + id)
	var c drover.Component
	if n.build != nil {
		c = n.build(n)
	}
	if c == nil {
		return
	}
	if g, ok := c.(*drover.Group); ok && g.Env.Go == nil {
		g.Env = n.Env
	}
	l.p.Start(func() {
		err := c.Run(l.ctx)
		n.w.mu.Lock()
		l.ended, l.err = true, err
		n.w.mu.Unlock()
		var p *drover.PanicError
		switch {
		case l.p.Dead() || n.w.s.Ended():
		case errors.As(err, &p):
			n.w.s.Fail(fmt.Sprintf("panic in %s: %v\n%s", id, err, p.Stack))
		case err != nil:
			n.w.s.Mark("!! " + id + " ended: " + err.Error())
		}
	})
}

func (n *Node) logger(l *life) *slog.Logger {
	out := io.Discard
	if n.w.log {
		out = n.w.rec.Output()
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.String("T", n.w.s.Elapsed().String())
		}
		return a
	}})).With("life", l.p.Name)
}

// Name is the node's.
func (n *Node) Name() string { return n.name }

// Context is done when the node has crashed, is stopped, or the world ends.
func (n *Node) Context() context.Context { return n.life.ctx }

// Err is what the component's Run returned; nil while it runs.
func (n *Node) Err() error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.life.err
}

func (n *Node) use(verb string) { n.w.use("Node." + verb) }

// Crash ends the node at once, as SIGKILL does: its goroutines stop at their next operation, deferred calls run but their
// operations are refused, an open transaction is rolled back, its context is cancelled, nothing is closed.
func (n *Node) Crash() {
	n.use("Crash")
	n.kill(n.life, "")
	n.w.s.Rest()
}

func (n *Node) kill(l *life, where string) {
	if l.p.Dead() {
		return
	}
	n.w.mu.Lock()
	n.w.faults["crash"]++
	n.w.mu.Unlock()
	n.w.s.Mark(strings.TrimSpace("!! crash " + l.p.Name + " " + where))
	l.p.Kill()
	l.bury()
	l.cancel(ErrCrashed)
}

// Restart runs build again in a new life; a node that still runs crashes first.
func (n *Node) Restart() {
	n.use("Restart")
	n.Crash()
	n.start()
	n.w.s.Rest()
}

// Stop ends the node as SIGTERM does, waits until its component has returned, and gives what that returned.
func (n *Node) Stop() error {
	n.use("Stop")
	l := n.life
	n.w.s.Mark("!! stop " + l.p.Name)
	l.cancel(drover.ErrStopping)
	n.w.s.Until(time.Hour, "node "+n.name+" stops", func() bool { return l.ended || l.p.Dead() || n.build == nil })
	return n.Err()
}

// Freeze stops the node for d of virtual time, as SIGSTOP or a long collection does: time passes, nothing of it runs,
// then everything at once.
func (n *Node) Freeze(d time.Duration) {
	n.use("Freeze")
	n.life.p.Freeze(d)
	n.w.act("freeze", fmt.Sprintf("freeze %s %v", n.life.p.Name, d))
}

// Skew sets the node's wall clock offset from the world's and makes its clock run at rate (0.5 to 2), from now on.
func (n *Node) Skew(offset time.Duration, rate float64) {
	n.use("Skew")
	if !(rate >= 0.5 && rate <= 2) {
		n.w.T.Fatalf("testkit: Node.Skew: rate %v is not in 0.5…2", rate)
	}
	n.life.p.Skew(offset, rate)
	n.w.act("clock", fmt.Sprintf("skew %s %v rate %v", n.life.p.Name, offset, rate))
}

// Slow delays each operation of the node by factor − 1 milliseconds, ± 50 %; 1 ends it.
func (n *Node) Slow(factor float64) {
	n.use("Slow")
	if !(factor >= 1) {
		n.w.T.Fatalf("testkit: Node.Slow: factor %v is below 1", factor)
	}
	n.slow = factor
	n.w.act("slow", fmt.Sprintf("slow %s %v", n.name, factor))
}

func (n *Node) rule(verb string, r faults.Rule) {
	n.use(verb)
	if r.Err == nil {
		r.Err = ErrStore
		if strings.HasPrefix(r.Pattern, "bus.") {
			r.Err = ErrBus
		}
	}
	if err := n.table.Set(r, ops); err != nil {
		n.w.T.Fatalf("testkit: Node.%s: %v", verb, err)
	}
	n.w.s.Mark(fmt.Sprintf("!! %s %s %s p=%v", strings.ToLower(verb), n.name, r.Pattern, r.P))
	n.w.s.Rest()
}

// Fail makes operations named by op (a pattern of package path: "store.jobs.*") fail with probability p, before they do
// anything; nil err is ErrStore, of bus.send ErrBus. p = 0 ends it. A transaction that saw an error is rolled back whatever it does then.
func (n *Node) Fail(op string, p float64, err error) {
	n.rule("Fail", faults.Rule{Pattern: op, Kind: faults.Before, P: p, Err: err})
}

// FailAfter makes operations fail after they were done: of "store.tx.commit", written and an error. Otherwise as Fail.
func (n *Node) FailAfter(op string, p float64, err error) {
	n.rule("FailAfter", faults.Rule{Pattern: op, Kind: faults.After, P: p, Err: err})
}

// Delay makes operations wait min to max with probability p before they are done. A delay within a transaction stops
// the store for all.
func (n *Node) Delay(op string, p float64, min, max time.Duration) {
	n.rule("Delay", faults.Rule{Pattern: op, Kind: faults.Delay, P: p, Min: min, Max: max})
}

// Serialize makes transactions meet a serialization failure at their commit with probability p: InTx runs them again,
// up to 10 times.
func (n *Node) Serialize(p float64) {
	n.rule("Serialize", faults.Rule{Pattern: opCommit, Kind: faults.Serialize, P: p})
}
