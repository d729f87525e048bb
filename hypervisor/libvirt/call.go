package libvirt

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// call is one operation under way, of as many requests as it needs.
type call struct {
	ctx    context.Context
	d      *Driver
	op, vm string
	change bool
	begun  time.Time
}

// read runs f, which changes nothing.
func (d *Driver) read(ctx context.Context, op, vm string, limit time.Duration, f func(c *call) error) error {
	return d.run(ctx, limit, &call{d: d, op: op, vm: vm}, f)
}

// alter runs f in vm's turn: changes of one VM go one at a time, in the order they came.
func (d *Driver) alter(ctx context.Context, op, vm string, limit time.Duration, f func(c *call) error) error {
	return d.run(ctx, limit, &call{d: d, op: op, vm: vm, change: true}, func(c *call) error {
		unlock, err := d.turns.Lock(c.ctx, vm)
		if err != nil {
			return err
		}
		defer unlock()
		return f(c)
	})
}

func (d *Driver) run(ctx context.Context, limit time.Duration, c *call, f func(c *call) error) error {
	if ctx.Err() != nil {
		return c.name(context.Cause(ctx))
	}
	if c.vm != "" {
		if err := hypervisor.ValidID(c.vm); err != nil {
			return c.name(err)
		}
	}
	c.begun = d.env.Clock.Now()
	ctx, span := d.meters.begin(ctx, c)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	c.ctx = ctx
	d.under.add(c)
	err := f(c)
	d.under.remove(c)
	if err != nil && d.life.Err() != nil && errors.Is(err, context.Canceled) {
		err = hypervisor.ErrClosed
	}
	err = c.name(err)
	d.meters.end(c, span, d.env.Clock.Now().Sub(c.begun), err)
	return err
}

// name makes err a *hypervisor.Error that says whose it is.
func (c *call) name(err error) error {
	if err == nil {
		return nil
	}
	e := *classify(err, c.change)
	e.Op, e.VM, e.Host = c.op, c.vm, c.d.hostID()
	return &e
}

func (c *call) error(class error, message string) error {
	return &hypervisor.Error{Class: class, Message: message}
}

// do sends a change and waits for its reply. It is not repeated.
func (c *call) do(p rpc.Proc, args rpc.Args) (rpc.Reply, error) {
	return c.send(c.d.control, p, args)
}

// ask sends a request that changes nothing. If the connection breaks it is asked once more.
func (c *call) ask(p rpc.Proc, args rpc.Args) (r rpc.Reply, err error) {
	if r, err = c.send(c.d.query, p, args); errors.Is(err, rpc.ErrLost) {
		r, err = c.send(c.d.query, p, args)
	}
	return r, asRead(err)
}

// send waits for a place, then for the reply.
func (c *call) send(l *lanes, p rpc.Proc, args rpc.Args) (rpc.Reply, error) {
	end := c.d.meters.procedure(c.ctx, p)
	asked := c.d.env.Clock.Now()
	conn, err := l.take(c.ctx)
	c.d.meters.waited(l.name, c.d.env.Clock.Now().Sub(asked))
	if err != nil {
		end(err)
		return rpc.Reply{}, err
	}
	r, err := conn.CallReserved(c.ctx, p, args)
	end(err)
	return r, err
}

// asRead takes from the error of a read what only a change can be.
func asRead(err error) error {
	if err == nil {
		return nil
	}
	return classify(err, false)
}

// sleep waits on the driver's clock.
func (c *call) sleep(d time.Duration) error { return c.d.env.Sleep(c.ctx, d) }

// ended is the cause of the call's end, nil while it goes on.
func (c *call) ended() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}
