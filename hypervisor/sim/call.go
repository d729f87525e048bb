package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/internal/fair"
)

// Driver is one controller's connection to a Host. It implements hypervisor.Driver, Pauser, Rebooter, Resourcer, Pinger and
// io.Closer.
type Driver struct {
	h      *Host
	env    drover.Env
	once   sync.Once
	closed chan struct{}
	turns  fair.Keyed // changes of one VM

	reads, writes, long chan struct{} // places of requests under way
}

// What a daemon takes of a client at once: five requests on each connection, of which there are three for changes, and one for each
// of four that take long.
const readsAtOnce, writesAtOnce, longAtOnce = 5, 15, 4

// Host is the machine this driver is connected to.
func (d *Driver) Host() *Host { return d.h }

// Close ends this connection: calls in flight and later ones give ErrClosed.
func (d *Driver) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// call is one request on its way.
type call struct {
	ctx    context.Context
	d      *Driver
	op, vm string
	change bool
	sent   bool // a change that may have happened
}

var (
	errClosed = errors.New("closed")
	errDown   = fmt.Errorf("down: %w", syscall.ECONNREFUSED)
)

// read runs f as a request that changes nothing.
func (d *Driver) read(ctx context.Context, op, vm string, limit time.Duration, f func(c *call) error) error {
	return d.run(ctx, &call{d: d, op: op, vm: vm}, limit, hypervisor.VM{ID: vm}, f)
}

// change runs f in vm's turn.
func (d *Driver) change(ctx context.Context, op string, vm hypervisor.VM, limit time.Duration, f func(c *call) error) error {
	return d.run(ctx, &call{d: d, op: op, vm: vm.ID, change: true}, limit, vm, f)
}

func (d *Driver) run(ctx context.Context, c *call, limit time.Duration, vm hypervisor.VM, f func(c *call) error) error {
	if ctx.Err() != nil {
		return c.fail(ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c.ctx = ctx
	if c.change {
		unlock, err := d.turns.Lock(ctx, c.vm)
		if err != nil {
			return c.fail(err)
		}
		defer unlock()
	}
	leave, err := c.enter()
	if err != nil {
		return c.fail(err)
	}
	defer leave()
	if err := c.reach(); err != nil {
		return c.fail(err)
	}
	if vm.Name == "" && vm.ID != "" && d.h.broken() {
		_ = d.h.view(ctx, func(w *world) error { // only for faults: an unknown VM is the call's to judge
			if g, ok := w.VMs[vm.ID]; ok {
				vm = g.vm()
			}
			return nil
		})
	}
	fault := d.h.match(c.op, vm)
	if err := c.suffer(fault); err != nil {
		return c.fail(err)
	}
	if err := f(c); err != nil {
		return c.fail(err)
	}
	if fault.Lose {
		c.sent = true
		return c.fail(errDown)
	}
	return nil
}

// enter waits for a place among the requests of the connection.
func (c *call) enter() (leave func(), err error) {
	places := c.d.reads
	switch {
	case c.op == "save" || c.op == "snapshot" || c.op == "revert" || c.op == "copy":
		places = c.d.long
	case c.change:
		places = c.d.writes
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-c.d.closed:
	case <-c.ctx.Done():
	}
	if c.ctx.Err() != nil {
		return nil, c.ctx.Err()
	}
	return nil, errClosed
}

// suffer applies what a fault does before the work.
func (c *call) suffer(f Fault) error {
	if f.Hang {
		c.sent = c.change
		<-c.ctx.Done()
		return c.ctx.Err()
	}
	if err := c.sleep(f.Delay); err != nil {
		return err
	}
	return f.Class
}

// reach waits while the daemon hangs.
func (c *call) reach() error {
	h := c.d.h
	for {
		h.mu.Lock()
		down, state, powered := h.down, h.daemon, h.powered && !h.cut[c.d.env.Node]
		h.mu.Unlock()
		if !powered || state == hung {
			c.sent = c.change
			select {
			case <-down:
			case <-c.d.closed:
			case <-c.ctx.Done():
			}
		}
		select {
		case <-c.d.closed:
			return errClosed
		default:
		}
		if c.ctx.Err() != nil && !powered {
			return fmt.Errorf("%w: %w", c.ctx.Err(), &net.OpError{Op: "dial", Net: "sim", Err: os.ErrDeadlineExceeded})
		}
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		switch {
		case powered && state == up:
			return nil
		case powered && state == killed:
			return errDown
		}
	}
}

// sleep lets the host work for so long, unless it is broken meanwhile.
func (c *call) sleep(d time.Duration) error {
	if d <= 0 {
		return c.ctx.Err()
	}
	h := c.d.h
	h.mu.Lock()
	down := h.down
	h.mu.Unlock()
	select {
	case <-c.d.env.Clock.After(d):
	case <-down:
		if c.ctx.Err() == nil {
			return errDown
		}
	case <-c.d.closed:
		if c.ctx.Err() == nil {
			return errClosed
		}
	case <-c.ctx.Done():
	}
	return c.ctx.Err()
}

// fail makes err the answer.
func (c *call) fail(err error) error {
	if he := (*hypervisor.Error)(nil); errors.As(err, &he) {
		return err
	}
	e := &hypervisor.Error{Op: c.op, Host: c.d.h.cfg.ID, VM: c.vm}
	switch {
	case errors.Is(err, errClosed):
		e.Class = hypervisor.ErrClosed
	case errors.Is(err, errDown):
		e.Class, e.Err = hypervisor.ErrGone, err
	case errors.Is(err, context.DeadlineExceeded):
		e.Class, e.Err = hypervisor.ErrTimeout, err
	case errors.Is(err, hypervisor.ErrInvalid):
		e.Class, e.Err = hypervisor.ErrInvalid, err
	case c.ctx == nil || c.ctx.Err() != nil:
		e.Class, e.Err = hypervisor.ErrAborted, err
	default:
		return c.classed(e, err)
	}
	if c.sent {
		e.Err = errors.Join(e.Err, hypervisor.ErrOutcomeUnknown)
	}
	return e
}

// classed is for a fault's Class and for errors of State.
func (c *call) classed(e *hypervisor.Error, err error) error {
	for _, class := range []error{
		hypervisor.ErrNotFound, hypervisor.ErrExists, hypervisor.ErrState, hypervisor.ErrBusy, hypervisor.ErrTimeout,
		hypervisor.ErrGone, hypervisor.ErrUnsupported, hypervisor.ErrDenied, hypervisor.ErrNoResources,
		hypervisor.ErrStaleEpoch, hypervisor.ErrAborted, hypervisor.ErrInternal,
	} {
		if errors.Is(err, class) {
			e.Class, e.Message = class, "injected"
			return e
		}
	}
	e.Class, e.Err = hypervisor.ErrInternal, err
	return e
}

// errorf is an answer of the host.
func (c *call) error(class error, message string) error {
	return &hypervisor.Error{Class: class, Op: c.op, Host: c.d.h.cfg.ID, VM: c.vm, Message: message}
}

// find gives the VM of the call.
func (c *call) find(w *world) (guest, error) {
	g, ok := w.VMs[c.vm]
	if !ok {
		return g, c.error(hypervisor.ErrNotFound, "")
	}
	return g, nil
}
