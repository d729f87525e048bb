package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
	"github.com/drover-cloud/drover/internal/chance"
)

// openLimit is how long it may take to connect and to be let in.
const openLimit = 5 * time.Second

// link is one use of the daemon: a connection that is made when it is needed, and again after it was lost.
type link struct {
	d    *Driver
	name string

	mu      sync.Mutex
	conn    *rpc.Conn
	dial    *dialling // under way
	retry   backoff.BackOff
	retryAt time.Time // of a host that could not be reached
	lastErr error
	dialled int
}

// dialling is an attempt that all callers share.
type dialling struct {
	done chan struct{}
	conn *rpc.Conn
	err  error
}

func newLink(d *Driver, name string) *link {
	b := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, Multiplier: 2, MaxInterval: 5 * time.Second, Clock: d.env.Clock, Stop: backoff.Stop}
	b.Reset()
	return &link{d: d, name: name, retry: b}
}

// get gives a connection that is up. A hundred callers make one; after a failure it is tried again when the backoff says so, and
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
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return a.conn, a.err
}

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
	case l.d.env.Clock.Now().Before(l.retryAt):
		return nil, nil, l.lastErr
	}
	a := &dialling{done: make(chan struct{})}
	l.dial, l.conn, l.dialled = a, nil, l.dialled+1
	l.d.env.Go("libvirt/"+l.name+"/dial", func() {
		a.conn, a.err = l.open()
		l.opened(a)
		close(a.done)
	})
	return a, nil, nil
}

func (l *link) opened(a *dialling) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dial = nil
	if a.err == nil && l.d.life.Err() != nil { // closed meanwhile
		a.conn.Close(hypervisor.ErrClosed)
		a.conn, a.err = nil, hypervisor.ErrClosed
	}
	if a.err != nil {
		l.lastErr = a.err
		l.retryAt = l.d.env.Clock.Now().Add(chance.Around(l.d.env.Rand, l.retry.NextBackOff(), 0.2))
		return
	}
	l.conn, l.retryAt = a.conn, time.Time{}
	l.retry.Reset()
}

// open connects, and asks to be let in.
func (l *link) open() (*rpc.Conn, error) {
	ctx, cancel := context.WithTimeout(l.d.life, openLimit)
	defer cancel()
	nc, err := l.d.cfg.Dial(ctx)
	if err != nil {
		return nil, gone(err)
	}
	c := rpc.New(rpc.Config{Env: l.d.env, Name: "libvirt/" + l.name, Limit: inFlight, Keepalive: l.d.cfg.Keepalive}, nc)
	if err := l.d.greet(ctx, c); err != nil {
		c.Close(err)
		return nil, err
	}
	return c, nil
}

// greet settles who we are, opens the driver inside the daemon, and learns once what the host is.
func (d *Driver) greet(ctx context.Context, c *rpc.Conn) error {
	r, err := c.Call(ctx, rpc.AuthList, nil)
	if err != nil {
		return classify(err, true)
	}
	none := false
	for range r.Count(64, 4) {
		none = r.U32() == 0 || none
	}
	if !none {
		return fmt.Errorf("%w: the daemon wants an authentication that this client does not know", hypervisor.ErrDenied)
	}
	if _, err := c.Call(ctx, rpc.ConnectOpen, rpc.Args{}.Opt(d.cfg.URI).U32(0)); err != nil {
		return classify(err, true)
	}
	return d.meet(ctx, c)
}

func gone(err error) error {
	if errors.Is(err, hypervisor.ErrGone) {
		return err
	}
	return fmt.Errorf("%w: %w", hypervisor.ErrGone, err)
}

func (l *link) close() {
	l.mu.Lock()
	conn, dial := l.conn, l.dial
	l.mu.Unlock()
	if dial != nil {
		<-dial.done // ended by the driver's life
		l.mu.Lock()
		conn = l.conn
		l.mu.Unlock()
	}
	if conn != nil {
		conn.Close(hypervisor.ErrClosed)
	}
}
