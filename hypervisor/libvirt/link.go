package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// link is a connection that is made when it is needed, and again after it was lost.
type link struct {
	d   *Driver
	use rpc.Config

	mu   sync.Mutex
	conn *rpc.Conn
	dial *dialling // under way
}

// dialling is an attempt that all callers share.
type dialling struct {
	done    chan struct{}
	reached atomic.Bool // somebody took the connection
	conn    *rpc.Conn
	err     error
}

// get gives a connection that is up. A hundred callers make one; after a failure it is tried again when the gate opens, and
// meanwhile the last cause is the answer.
func (l *link) get(ctx context.Context) (*rpc.Conn, error) {
	a, conn, err := l.attempt()
	if a == nil {
		return conn, err
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	}
	switch {
	case ctx.Err() != nil && !a.reached.Load():
		return nil, &net.OpError{Op: "dial", Net: "libvirt", Err: context.Cause(ctx)}
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return a.conn, a.err
}

// attempt gives the connection, the dial under way, or why there is none.
func (l *link) attempt() (*dialling, *rpc.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.d.life.Err() != nil:
		return nil, nil, hypervisor.ErrClosed
	case l.conn != nil && l.conn.Err() == nil:
		return nil, l.conn, nil
	case l.dial != nil:
		return l.dial, nil, nil
	}
	if err := l.d.gate.shut(); err != nil {
		return nil, nil, err
	}
	a := &dialling{done: make(chan struct{})}
	l.dial, l.conn = a, nil
	l.d.env.Go(l.use.Name+"/dial", func() {
		a.conn, a.err = l.d.open(l.d.life, l.use, func() { a.reached.Store(true) })
		l.opened(a)
		close(a.done)
		if l.use.Freed != nil {
			l.use.Freed()
		}
	})
	return a, nil, nil
}

func (l *link) opened(a *dialling) {
	l.mu.Lock()
	l.dial = nil
	closed := l.d.life.Err() != nil
	if !closed {
		l.conn = a.conn
	}
	l.mu.Unlock()
	if closed && a.conn != nil { // meanwhile
		a.conn.Close(hypervisor.ErrClosed)
	}
	if closed {
		a.conn, a.err = nil, hypervisor.ErrClosed
	}
}

// now is the connection if it is up, without dialling.
func (l *link) now() *rpc.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.Err() != nil {
		return nil
	}
	return l.conn
}

func (l *link) close() {
	l.mu.Lock()
	conn, dial := l.conn, l.dial
	l.mu.Unlock()
	if dial != nil {
		<-dial.done // ended by the driver's life
	}
	if conn != nil {
		conn.Close(hypervisor.ErrClosed)
	}
}

// open connects, and asks to be let in. It calls reached in between.
func (d *Driver) open(ctx context.Context, use rpc.Config, reached func()) (c *rpc.Conn, err error) {
	defer func() {
		if ctx.Err() == nil {
			d.dialled(err)
		}
	}()
	limited, cancel := context.WithTimeout(ctx, hypervisor.PingLimit)
	defer cancel()
	nc, err := d.cfg.Dial(limited)
	if err != nil {
		return nil, gone(err)
	}
	reached()
	use.Env, use.Keepalive, use.Late = d.env, d.cfg.Keepalive, d.late
	c = rpc.New(use, nc)
	if err = d.greet(limited, c); err == nil && use.Event != nil {
		err = d.register(limited, c)
	}
	if err != nil {
		c.Close(err)
		return nil, err
	}
	return c, nil
}

// dialled notes how a dial ended, and logs what changed by it.
func (d *Driver) dialled(err error) {
	news := d.gate.dialled(err)
	d.meters.dialled(err)
	switch {
	case errors.Is(err, hypervisor.ErrWrongHost):
		d.env.Logger.Error("hypervisor: another host answers", "host", d.hostID(), "err", err)
	case news && err != nil:
		d.env.Logger.Warn("hypervisor: host lost", "host", d.hostID(), "err", err)
	case news:
		d.env.Logger.Info("hypervisor: host back", "host", d.hostID())
	}
}

// greet settles who we are, opens the driver inside the daemon, and learns once what the host is.
func (d *Driver) greet(ctx context.Context, c *rpc.Conn) error {
	r, err := c.Call(ctx, rpc.AuthList, nil)
	if err != nil {
		return unreached(err)
	}
	none := false
	for range r.Count(64, 4) {
		none = r.U32() == 0 || none
	}
	if !none {
		return fmt.Errorf("%w: the daemon wants an authentication that this client does not know", hypervisor.ErrDenied)
	}
	if _, err := c.Call(ctx, rpc.ConnectOpen, rpc.Args{}.Opt(d.cfg.URI).U32(0)); err != nil {
		return unreached(err)
	}
	return d.meet(ctx, c)
}

// unreached makes the error of a call that opens a connection one of the host: nothing that was asked of it has been sent.
func unreached(err error) error {
	e := classify(err, false)
	if errors.Is(e.Class, hypervisor.ErrTimeout) {
		e.Class = hypervisor.ErrGone
	}
	return e
}

func gone(err error) error {
	if errors.Is(err, hypervisor.ErrGone) {
		return err
	}
	return fmt.Errorf("%w: %w", hypervisor.ErrGone, err)
}
