package testkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/memory"
	"github.com/drover-cloud/drover/internal/testkit/sched"
)

// network carries messages between nodes: a memory.Hub that accepts as a broker does, and delivers later, each message as an event of
// its own. Guarded by World.mu.
type network struct {
	hub       memory.Hub
	places    []*inlet // that receive, in order of coming
	n         int      // events so far
	lose, dup float64
	delay     time.Duration
	cuts      map[[2]*Node]bool // from, to
	used      bool
}

// ErrBus is what Fail and FailAfter inject into messages unless they are given another.
var ErrBus = errors.New("testkit: injected message error")

// carrier is a life's end of the network.
type carrier struct {
	life *life
	end  *memory.Transport
}

func newCarrier(l *life) *carrier { return &carrier{l, l.node.w.net.hub.Open(l.node.name)} }

// Peer is the sender.
func (c *carrier) Peer(m *bus.Message) (string, bool) { return c.end.Peer(m) }

// Send is one operation: the network accepts m, or knows nobody who receives it.
func (c *carrier) Send(ctx context.Context, m *bus.Message) error {
	w, p := c.life.node.w, c.life.p
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", bus.ErrNotSent, context.Cause(ctx))
	}
	g := w.s.Self(p)
	v := p.Yield(g, ctx, opSend, m.Wire.Kind.String()+" "+m.ID, false)
	if v.Kind == sched.Fail {
		return sendError(bus.ErrNotSent, v.Err)
	}
	err := c.end.Send(context.WithoutCancel(ctx), m)
	switch v.Kind {
	case sched.DieAfter:
		c.life.node.kill(c.life, "after "+opSend)
		w.s.Rest() // a goroutine of the node does not return from here
		return sendError(bus.ErrNodeLost, ErrCrashed)
	case sched.FailAfter:
		err = sendError(bus.ErrNodeLost, v.Err)
	}
	w.s.Result(g, "", err)
	switch { // the node hears of it when it can
	case c.life.node.off.any():
		if lost := p.Held(g, ctx, heldBus); lost != nil {
			return sendError(bus.ErrNodeLost, lost)
		}
	case p.Frozen():
		if late := p.Held(g, nil, heldBus); late != nil {
			return sendError(bus.ErrNodeLost, late)
		}
	}
	return err
}

// sendError is err as a transport may give it.
func sendError(kind, err error) error {
	for _, k := range []error{bus.ErrNoRoute, bus.ErrBusy, bus.ErrNotSent, bus.ErrInvalid, bus.ErrNodeLost} {
		if errors.Is(err, k) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// Receive gives h what arrives at a, until ctx ends or the node crashes.
func (c *carrier) Receive(ctx context.Context, a bus.Address, h bus.Handler) error {
	w := c.life.node.w
	in := &inlet{life: c.life, h: h, signal: make(chan struct{}, 1)}
	hub, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(c.life.gone, leave)()
	w.mu.Lock()
	w.net.used = true
	w.net.places = append(w.net.places, in)
	w.mu.Unlock()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = c.end.Receive(hub, a, in)
	}()
	for hub.Err() == nil {
		select {
		case <-in.signal:
		case <-hub.Done():
		}
		if hub.Err() == nil {
			in.hand(w.arrivals(in, false))
		}
	}
	<-left
	if !c.life.p.Dead() {
		in.hand(w.arrivals(in, true)) // what has left the network comes all the same
	}
	w.mu.Lock()
	w.net.places = slices.DeleteFunc(w.net.places, func(x *inlet) bool { return x == in })
	w.mu.Unlock()
	<-ctx.Done() // a dead node receives nothing more
	return context.Cause(ctx)
}

// inlet is a place where a life receives; links lead to it.
type inlet struct {
	life   *life
	h      bus.Handler
	signal chan struct{}

	// Guarded by World.mu.
	links []*link        // in order of the first message
	here  []*bus.Message // arrived
}

// link is the way from a node to an inlet: messages keep their order.
type link struct {
	from   *Node
	to     *inlet
	queue  []*bus.Message
	posted bool // the arrival of the first one
}

// Standing says that the hub knows the place.
func (in *inlet) Standing() { bus.Standing(in.h) }

// hand gives ms to the bus. What it refuses is dropped.
func (in *inlet) hand(ms []*bus.Message) {
	for _, m := range ms {
		_ = in.h.Handle(context.Background(), m)
	}
}

// arrivals takes what has arrived at in, or (all) what was to.
func (w *World) arrivals(in *inlet, all bool) (ms []*bus.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ms, in.here = in.here, nil
	for _, l := range in.links {
		if all && !w.severed(l) {
			ms, l.queue = append(ms, l.queue...), nil
		}
	}
	return ms
}

// Handle takes m from the hub, in its sender's goroutine: from here on it is under way.
func (in *inlet) Handle(_ context.Context, m *bus.Message) error {
	w := in.life.node.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l := in.link(w.nodeNamed(m.Wire.From))
	if w.net.lose > 0 && w.s.Faults.Float64() < w.net.lose {
		w.faults["message lost"]++
		return nil
	}
	l.queue = append(l.queue, m.Clone())
	if w.net.dup > 0 && w.s.Faults.Float64() < w.net.dup {
		w.faults["message repeated"]++
		l.queue = append(l.queue, m.Clone())
	}
	w.move(l)
	return nil
}

func (in *inlet) link(from *Node) *link {
	for _, l := range in.links {
		if l.from == from {
			return l
		}
	}
	l := &link{from: from, to: in}
	in.links = append(in.links, l)
	return l
}

func (w *World) nodeNamed(name string) *Node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *World) severed(l *link) bool {
	to := l.to.life.node
	return w.net.cuts[[2]*Node{l.from, to}] || to.off.from
}

// move lets the first message of l arrive, later. The caller holds w.mu.
func (w *World) move(l *link) {
	if l.posted || len(l.queue) == 0 || w.severed(l) {
		return
	}
	var wait time.Duration
	if w.net.delay > 0 {
		w.faults["message late"]++
		wait = time.Duration(w.s.Delays.Int64N(int64(w.net.delay) + 1))
	}
	w.net.n++
	m := l.queue[0]
	l.posted = true
	l.to.life.p.Post("net", opDeliver, m.Wire.Kind.String()+" "+m.ID, w.net.n, wait, func() { w.arrive(l) })
}

// arrive is called by the scheduler.
func (w *World) arrive(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.posted = false; len(l.queue) == 0 || w.severed(l) {
		return
	}
	l.to.here = append(l.to.here, l.queue[0])
	l.queue = l.queue[1:]
	w.move(l)
	select {
	case l.to.signal <- struct{}{}:
	default:
	}
}

// resume lets go on what cuts have held back.
func (w *World) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.net.places {
		for _, l := range in.links {
			w.move(l)
		}
	}
}

// rejoin ends the cut from one node to another.
func (w *World) rejoin(from, to *Node) {
	w.mu.Lock()
	delete(w.net.cuts, [2]*Node{from, to})
	w.mu.Unlock()
	w.resume()
	w.s.Mark("!! heal " + from.name + " -> " + to.name)
	w.s.Rest()
}

func (w *World) hasBus() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.net.used
}

// Messages sets what becomes of messages between nodes from now on: lost with probability lose, repeated with probability dup, and
// late by up to delay, those of one node to one receiver in order. At first none of it.
func (w *World) Messages(lose, dup float64, delay time.Duration) {
	w.use("World.Messages")
	if !(lose >= 0 && lose <= 1 && dup >= 0 && dup <= 1) || delay < 0 {
		w.T.Fatalf("testkit: World.Messages(%v, %v, %v): want probabilities in 0…1 and a delay of at least 0", lose, dup, delay)
	}
	w.mu.Lock()
	w.net.lose, w.net.dup, w.net.delay = lose, dup, delay
	w.mu.Unlock()
	w.act("messages", fmt.Sprintf("messages lose=%v dup=%v delay=%v", lose, dup, delay))
}
