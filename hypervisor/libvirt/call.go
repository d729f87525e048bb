package libvirt

import (
	"context"
	"errors"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// Deadlines of the classes of calls. They hold what waiting for a turn, a place and a connection takes.
const (
	pingLimit   = 5 * time.Second
	queryLimit  = 10 * time.Second
	bulkLimit   = 30 * time.Second
	changeLimit = 60 * time.Second
	forceLimit  = 90 * time.Second
)

// call is one operation under way, of as many requests as it needs.
type call struct {
	ctx    context.Context
	d      *Driver
	op, vm string
	link   *link
	change bool
}

// read runs f, which changes nothing.
func (d *Driver) read(ctx context.Context, op, vm string, limit time.Duration, f func(c *call) error) error {
	return d.run(ctx, limit, &call{d: d, op: op, vm: vm, link: d.query}, f)
}

// alter runs f in vm's turn: changes of one VM go one at a time, in the order they came.
func (d *Driver) alter(ctx context.Context, op, vm string, limit time.Duration, f func(c *call) error) error {
	return d.run(ctx, limit, &call{d: d, op: op, vm: vm, link: d.control, change: true}, func(c *call) error {
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
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	c.ctx = ctx
	err := f(c)
	if err != nil && d.life.Err() != nil && errors.Is(err, context.Canceled) {
		err = hypervisor.ErrClosed
	}
	return c.name(err)
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
	conn, err := c.link.get(c.ctx)
	if err != nil {
		return rpc.Reply{}, err
	}
	return conn.Call(c.ctx, p, args)
}

// ask sends a request that changes nothing. If the connection breaks it is asked once more.
func (c *call) ask(p rpc.Proc, args rpc.Args) (r rpc.Reply, err error) {
	for range 2 {
		var conn *rpc.Conn
		if conn, err = c.d.query.get(c.ctx); err != nil {
			return r, err
		}
		if r, err = conn.Call(c.ctx, p, args); !errors.Is(err, rpc.ErrLost) {
			return r, asRead(err)
		}
	}
	return r, asRead(err)
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
