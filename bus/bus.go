package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/alarm"
)

// Bus sends and serves for one node over a transport. Its methods are for any goroutine.
type Bus struct {
	t    Transport
	cfg  Config
	env  drover.Env
	log  *slog.Logger
	err  error // of the configuration
	node string
	inc  int64

	alarms   *alarm.Set
	stamp    stamp
	clocks   clocks
	window   window
	eventIDs window
	waiters  waiters
	results  results
	lanes    lanes
	pool     pool
	topics   topics
	events   events
	view     viewer
	held     holding
	count    counters
	meters   meters
	sender   Sender // of Config.Send, nil: none

	mu      sync.Mutex
	phase   phase
	ctx     context.Context // of what runs; ends with Run
	cancel  context.CancelCauseFunc
	up      chan struct{} // closed when the inbox stands, or there will be none
	early   herd          // calls that came before
	live    int           // goroutines of spawn
	idle    chan struct{} // closed and replaced when live becomes 0
	inlets  map[Address]*inlet
	drained chan struct{} // closed when the drain has ended; nil before one
}

type phase uint8

const (
	fresh phase = iota
	running
	draining
	over
)

// New makes a bus on t, which must not be nil. What is wrong with cfg is the error of Run and of every verb.
func New(t Transport, cfg Config) *Bus {
	if t == nil {
		panic("bus: New with a nil transport")
	}
	cfg = cfg.fill()
	b := &Bus{
		t: t, cfg: cfg, env: cfg.Env, err: cfg.check(), node: cfg.Env.Node, inc: cfg.Incarnation,
		log: cfg.Env.Logger.With("component", "bus", "node", cfg.Env.Node),
		up:  make(chan struct{}), idle: make(chan struct{}), inlets: map[Address]*inlet{},
	}
	if l, ok := t.(interface{ MaxBytes() int }); ok && l.MaxBytes() > 0 {
		b.cfg.MaxBody = min(b.cfg.MaxBody, l.MaxBytes())
	}
	b.ctx, b.cancel = context.WithCancelCause(context.Background())
	b.alarms = alarm.New(b.env, "bus/alarms")
	b.alarms.Apart = func(o alarm.Owner) string { return o.(interface{ name() string }).name() }
	b.lanes.init(b)
	b.pool.init(b)
	b.events.init(b)
	b.view.init(b)
	b.initMeters()
	if len(cfg.Send) > 0 {
		b.sender = SenderOf(func(ctx context.Context, m *Message) ([]byte, error) { return b.verb(ctx, m, optionsOf(ctx)) })
		for i := len(cfg.Send) - 1; i >= 0; i-- {
			b.sender = cfg.Send[i](b.sender)
		}
	}
	return b
}

// Incarnation is what tells this life of the node from others.
func (b *Bus) Incarnation() int64 { return b.inc }

// spawn runs f as a goroutine that Run waits for.
func (b *Bus) spawn(name string, f func()) {
	b.enter()
	b.env.Go(name, func() {
		defer b.left()
		f()
	})
}

// apart ends things that came to their end at once, each in a goroutine of its own if there are several: those that wait for
// them are not to wake together, since then who comes first would be anybody's guess, also the simulator's.
func apart[T any](b *Bus, things []T, id func(T) string, end func(T)) {
	for _, x := range things {
		if len(things) == 1 {
			end(x)
			return
		}
		b.spawn("bus/end/"+id(x), func() { end(x) })
	}
}

func (b *Bus) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live++
}

func (b *Bus) left() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live--; b.live == 0 {
		close(b.idle)
		b.idle = make(chan struct{})
	}
}

// Run serves until ctx ends, which drains the bus for Config.DrainTimeout, or the transport gives up. It answers
// drover.ErrStuck if handlers ignore the end of their ctx for 5 s more.
func (b *Bus) Run(ctx context.Context) error {
	if b.err != nil {
		return b.err
	}
	b.mu.Lock()
	switch {
	case b.phase == running:
		b.mu.Unlock()
		return drover.ErrRunning
	case b.phase != fresh:
		b.mu.Unlock()
		return drover.ErrUsed
	}
	b.phase = running
	b.mu.Unlock()
	b.alarms.Hold(true)
	broken := make(chan error, 1)
	if r, ok := b.t.(drover.Component); ok {
		b.spawn("bus/transport", func() { broken <- r.Run(b.ctx) })
	}
	inbox := b.open(Address{Inbox: true, Node: b.node, Incarnation: b.inc})
	for _, t := range b.topics.names() {
		b.listen(t)
	}
	b.events.openAll()
	unwatch := b.view.watch()
	b.relay()
	b.lanes.sweep()
	var err error
	select {
	case <-inbox.up:
		b.started()
	case <-ctx.Done():
	case err = <-broken:
	}
	if ctx.Err() == nil && err == nil {
		select {
		case <-ctx.Done():
		case err = <-broken:
		}
	}
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, b.stop(ctx, unwatch))
}

func (b *Bus) started() {
	b.mu.Lock()
	select {
	case <-b.up:
	default:
		close(b.up)
	}
	b.mu.Unlock()
	b.early.release(b)
}

const stuckAfter = 5 * time.Second

// stop drains, ends all goroutines and waits for them.
func (b *Bus) stop(ctx context.Context, unwatch func()) error {
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.DrainTimeout)
	_ = b.Drain(dctx)
	cancel()
	unwatch()
	b.mu.Lock()
	b.phase = over
	b.mu.Unlock()
	b.started()
	b.cancel(drover.ErrStopping)
	b.pool.cancelAll()
	b.lanes.stop()
	b.fail(func(w *waiter) error {
		if w.handed {
			return because(errOpen, drover.ErrStopping)
		}
		return notSent("the bus has ended")
	})
	b.events.stopAll()
	b.alarms.Hold(false)
	timer := b.env.Clock.After(stuckAfter)
	for {
		b.mu.Lock()
		live, idle := b.live, b.idle
		b.mu.Unlock()
		if live == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-timer:
			b.log.Error("handlers ignore the end of their context", "handlers", b.pool.inflight())
			return drover.ErrStuck
		}
	}
}

// Ready waits until the bus runs and everything it receives stands: its inbox, its topics, its subscriptions.
func (b *Bus) Ready(ctx context.Context) error {
	if b.err != nil {
		return b.err
	}
	if err := b.running(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	ups := make([]chan struct{}, 0, len(b.inlets))
	for _, i := range b.inlets {
		ups = append(ups, i.up)
	}
	b.mu.Unlock()
	for _, up := range ups {
		select {
		case <-up:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.ctx.Done():
			return notSent("the bus has ended")
		}
	}
	if r, ok := b.t.(interface {
		Ready(ctx context.Context) error
	}); ok {
		return r.Ready(ctx)
	}
	return nil
}

// running waits until the inbox stands.
func (b *Bus) running(ctx context.Context) error {
	select {
	case <-b.up:
	default:
		select {
		case <-b.up:
		case <-ctx.Done():
			return ended(ctx, false)
		}
	}
	b.mu.Lock()
	p := b.phase
	b.mu.Unlock()
	if p == over || p == draining && requestOf(ctx) == nil {
		return errDraining
	}
	return nil
}

// inlet is a place where the bus receives.
type inlet struct {
	b      *Bus
	a      Address
	cancel context.CancelFunc
	up     chan struct{}
	ended  chan struct{} // nothing is received any more

	mu    sync.Mutex
	stood bool
}

// open receives at a until close, or the end of Run. The same address twice is one inlet.
func (b *Bus) open(a Address) *inlet {
	b.mu.Lock()
	if i := b.inlets[a]; i != nil {
		b.mu.Unlock()
		return i
	}
	i := &inlet{b: b, a: a, up: make(chan struct{}), ended: make(chan struct{})}
	var ctx context.Context
	ctx, i.cancel = context.WithCancel(b.ctx)
	b.inlets[a] = i
	b.mu.Unlock()
	b.spawn("bus/receive/"+a.String(), func() { i.run(ctx) })
	return i
}

// close stops receiving at a. What was on its way may still come until the inlet, nil if there is none, has ended.
func (b *Bus) close(a Address) *inlet {
	b.mu.Lock()
	i := b.inlets[a]
	delete(b.inlets, a)
	b.mu.Unlock()
	if i != nil {
		i.cancel()
	}
	return i
}

const receiveAgain = time.Second

func (i *inlet) run(ctx context.Context) {
	defer close(i.ended)
	for ctx.Err() == nil {
		err := i.b.t.Receive(ctx, i.a, i)
		if ctx.Err() != nil {
			return
		}
		i.b.log.Warn("receiving ended, trying again", "at", i.a.String(), "error", err)
		_ = i.b.env.Sleep(ctx, receiveAgain)
	}
}

// Standing is called by the transport.
func (i *inlet) Standing() {
	i.mu.Lock()
	again := i.stood
	if !i.stood {
		i.stood = true
		close(i.up)
	}
	i.mu.Unlock()
	if again && i.a.Events {
		i.b.events.gap()
	}
}

// Handle takes what the transport delivers.
func (i *inlet) Handle(_ context.Context, m *Message) error {
	i.b.count.received.Add(1)
	return i.b.deliver(m)
}
