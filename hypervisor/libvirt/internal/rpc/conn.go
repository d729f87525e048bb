package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
)

// Config of a connection. Env must have its defaults.
type Config struct {
	Env       drover.Env
	Name      string // of its goroutines: host and use
	Limit     int    // requests in flight, at least 1
	Keepalive Keepalive

	// Event gets each event, in order, from the reader: it must not block. The body is its own. Nil drops events.
	Event func(p Proc, body Reply)
	// Silent is called when nothing was received for Keepalive.Silent, and again with false when something was. It must not block.
	Silent func(silent bool)
	// Late is called for each reply that comes after its caller has left. It must not block.
	Late func()
	// Freed is called when a request ends that held a slot, and when the connection is lost. It must not
	// block, nor call the connection.
	Freed func()
}

// Keepalive says when a quiet daemon is asked, called silent, and given up.
type Keepalive struct{ Every, Silent, Lost time.Duration }

// Conn is a connection that is open until Close, or until the daemon is lost. Its methods may be called concurrently.
type Conn struct {
	cfg   Config
	nc    net.Conn
	born  time.Time
	heard atomic.Int64 // when bytes last came, since born
	slots chan struct{}
	turn  chan struct{} // of who writes
	pongs chan struct{}
	done  chan struct{}
	ended sync.WaitGroup

	mu     sync.Mutex
	serial uint32
	calls  map[uint32]*call
	spent  []*call // to be used again
	err    error   // why it is lost
}

// call waits for its reply. A call whose caller has left keeps its slot.
type call struct {
	reply chan answer
	since time.Duration // of the connection's age
	left  bool
}

type answer struct {
	body []byte
	err  error
}

// New takes over nc and starts reading. The daemon has not been talked to yet.
func New(cfg Config, nc net.Conn) *Conn {
	c := &Conn{
		cfg: cfg, nc: nc, born: cfg.Env.Clock.Now(),
		slots: make(chan struct{}, max(cfg.Limit, 1)), turn: make(chan struct{}, 1), pongs: make(chan struct{}, 1),
		done: make(chan struct{}), calls: map[uint32]*call{},
	}
	c.ended.Add(2)
	cfg.Env.Go(cfg.Name+"/read", c.read)
	cfg.Env.Go(cfg.Name+"/keepalive", c.keepalive)
	return c
}

// Done is closed when the connection is lost or closed.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why it was lost, ErrLost with its cause; nil while it is open.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// InFlight is the number of requests that the daemon has and has not answered.
func (c *Conn) InFlight() int { return len(c.slots) }

// Heard is how long ago bytes last came.
func (c *Conn) Heard() time.Duration { return c.age() - time.Duration(c.heard.Load()) }

func (c *Conn) age() time.Duration { return c.cfg.Env.Clock.Now().Sub(c.born) }

// Close ends the connection, all calls with cause, and returns when its goroutines have.
func (c *Conn) Close(cause error) {
	c.lose(cause)
	c.ended.Wait()
}

// Call sends a request and waits for its reply. It gives a *RemoteError the daemon answered, or a *CallError where no reply came:
// ctx ended, or the connection was lost.
func (c *Conn) Call(ctx context.Context, p Proc, args Args) (Reply, error) {
	if err := c.enter(ctx); err != nil {
		return Reply{}, &CallError{Proc: p, Err: err}
	}
	return c.CallReserved(ctx, p, args)
}

// Reserve takes a slot for CallReserved, if one is free at once.
func (c *Conn) Reserve() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// CallReserved is Call with the slot that Reserve took.
func (c *Conn) CallReserved(ctx context.Context, p Proc, args Args) (Reply, error) {
	serial, waits, err := c.register()
	if err != nil {
		c.free()
		return Reply{}, &CallError{Proc: p, Err: err}
	}
	buf := buffers.Get().(*Args)
	*buf = packet(*buf, header{program: programRemote, procedure: uint32(p), kind: typeCall, serial: serial}, args)
	sent, err := c.write(ctx, *buf)
	if cap(*buf) <= 64<<10 {
		buffers.Put(buf)
	}
	if err != nil {
		c.leave(serial)
		return Reply{}, &CallError{Proc: p, Sent: sent, Err: err}
	}
	var got answer
	select {
	case got = <-waits.reply:
	case <-ctx.Done():
		ok := false
		if got, ok = c.abandon(waits); !ok {
			return Reply{}, &CallError{Proc: p, Sent: true, Err: context.Cause(ctx)}
		}
	}
	c.mu.Lock()
	c.spent = append(c.spent, waits) // its one answer has been taken
	c.mu.Unlock()
	return c.result(p, got)
}

// buffers are what requests are made in.
var buffers = sync.Pool{New: func() any { return new(Args) }}

func (c *Conn) result(p Proc, got answer) (Reply, error) {
	switch {
	case errors.Is(got.err, ErrLost):
		return Reply{}, &CallError{Proc: p, Sent: true, Err: got.err}
	case got.err != nil:
		return Reply{}, got.err
	}
	return NewReply(got.body), nil
}

// enter takes a slot, in the order of asking.
func (c *Conn) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if ctx.Err() != nil {
		c.free()
		return context.Cause(ctx)
	}
	return nil
}

func (c *Conn) free() {
	<-c.slots
	if c.cfg.Freed != nil {
		c.cfg.Freed()
	}
}

// Youngest is how long ago the last of the requests in flight was sent, 0 while there is room for another.
func (c *Conn) Youngest() time.Duration {
	if len(c.slots) < cap(c.slots) {
		return 0
	}
	now := c.age()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) < cap(c.slots) {
		return 0
	}
	youngest := now
	for _, w := range c.calls {
		youngest = min(youngest, now-w.since)
	}
	return youngest
}

func (c *Conn) register() (uint32, *call, error) {
	now := c.age()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	for c.serial++; c.serial == 0 || c.calls[c.serial] != nil; c.serial++ { // serial 0 is the keepalive's
	}
	var w *call
	if last := len(c.spent) - 1; last >= 0 {
		w, c.spent = c.spent[last], c.spent[:last]
	} else {
		w = &call{reply: make(chan answer, 1)}
	}
	w.since = now
	c.calls[c.serial] = w
	return c.serial, w, nil
}

// leave gives up a call that was not sent. Its slot is gone with the connection, or with a reply that came before the request.
func (c *Conn) leave(serial uint32) {
	c.mu.Lock()
	_, mine := c.calls[serial]
	delete(c.calls, serial)
	c.mu.Unlock()
	if mine {
		c.free()
	}
}

// abandon leaves a call to the reader; the answer that came meanwhile is given instead.
func (c *Conn) abandon(w *call) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case got := <-w.reply:
		return got, true
	default:
		w.left = true
		return answer{}, false
	}
}

// write sends a packet whole, or reports whether any of it left. A packet cut in its middle breaks the connection.
func (c *Conn) write(ctx context.Context, p []byte) (sent bool, err error) {
	select {
	case c.turn <- struct{}{}:
	default:
		select {
		case c.turn <- struct{}{}:
		case <-c.done:
			return false, c.Err()
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	defer func() { <-c.turn }()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = c.nc.SetWriteDeadline(time.Unix(1, 0)) // a closed connection refuses the write as well
	})
	n, err := c.nc.Write(p)
	if !stop() {
		<-interrupted
		_ = c.nc.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return true, nil
	case n == 0 && ctx.Err() != nil:
		return false, context.Cause(ctx)
	case ctx.Err() != nil:
		c.lose(fmt.Errorf("a request was cut in its middle: %w", context.Cause(ctx)))
		return true, context.Cause(ctx)
	}
	return n > 0, c.lose(err)
}

// read is the reader: it ends when the connection does.
func (c *Conn) read() {
	defer c.ended.Done()
	in := bufio.NewReaderSize(ear{c}, 64<<10)
	var scratch [headerSize]byte
	for {
		h, body, err := readPacket(in, &scratch)
		if err == nil {
			err = c.take(h, body)
		}
		if err != nil {
			c.lose(err)
			return
		}
	}
}

// ear notes when bytes come.
type ear struct{ c *Conn }

func (e ear) Read(p []byte) (int, error) {
	n, err := e.c.nc.Read(p)
	if n > 0 {
		e.c.heard.Store(int64(e.c.age()))
	}
	return n, err
}

// take delivers a packet. Programs and types that are unknown are left out.
func (c *Conn) take(h header, body []byte) error {
	switch {
	case h.program == programKeepalive && h.procedure == ping:
		select {
		case c.pongs <- struct{}{}:
		default: // one is to be sent already
		}
	case h.program != programRemote:
	case h.kind == typeReply:
		return c.answer(h, body)
	case h.kind == typeEvent && c.cfg.Event != nil:
		c.cfg.Event(Proc(h.procedure), NewReply(body))
	}
	return nil
}

func (c *Conn) answer(h header, body []byte) error {
	got := answer{body: body}
	if h.status != 0 {
		if got.err = remoteError(body); errors.Is(got.err, ErrMalformed) {
			return got.err
		}
	}
	c.mu.Lock()
	w := c.calls[h.serial]
	if w == nil {
		c.mu.Unlock()
		return nil // nobody asked
	}
	delete(c.calls, h.serial)
	c.free() // before its caller goes on
	left := w.left
	if !left {
		w.reply <- got
	}
	c.mu.Unlock()
	if left && c.cfg.Late != nil {
		c.cfg.Late()
	}
	return nil
}

// lose ends the connection, once, and answers all who wait. It gives why it was lost.
func (c *Conn) lose(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.err = fmt.Errorf("%w: %w", ErrLost, cause)
	_ = c.nc.Close() // what it says does not matter any more
	for _, w := range c.calls {
		w.reply <- answer{err: c.err}
	}
	clear(c.calls)
	close(c.done)
	if c.cfg.Freed != nil {
		c.cfg.Freed()
	}
	return c.err
}
