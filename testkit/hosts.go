package testkit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/internal/testkit/sched"
)

// SimHost is a simulated host; its verbs are faults.
type SimHost = sim.Host

// hostClock is the clock of the hosts.
type hostClock struct{}

func (hostClock) Now() time.Time                         { return time.Now() }
func (hostClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Hosts makes n simulated hosts like spec, with ids of their own. The world fails as soon as a VM runs on two hosts, or is started with
// an epoch that a host knows to be old. Nodes reach them by Node.Driver.
func (w *World) Hosts(n int, spec sim.Config) []*SimHost {
	w.use("World.Hosts")
	if w.hosts == nil {
		env := drover.Env{Node: "hosts", Clock: hostClock{}, Go: func(name string, f func()) { w.s.Go(strings.ReplaceAll(name, "/", "-"), f) }}
		w.hosts = sim.NewWorld(env, w.Seed, func(v sim.Violation) { w.s.Fail(v.Error()) })
	}
	var out []*SimHost
	for range n {
		spec.ID = fmt.Sprintf("33333333-0000-4000-8000-%012x", len(w.hosts.Hosts())+1)
		h, err := w.hosts.Host(spec)
		if err != nil {
			w.T.Fatalf("testkit: World.Hosts: %v", err)
		}
		out = append(out, h)
	}
	return out
}

// Driver connects the node to a host. Every call is a scheduling point, named hyp.start and so on, that Fail, FailAfter and Delay match;
// what Fail injects without an error of its own is hypervisor.ErrGone.
func (n *Node) Driver(h *SimHost) hypervisor.Driver {
	n.use("Driver")
	return hosted{n.life, h.Open(n.Env)}
}

// hosted is a life's view of a host.
type hosted struct {
	l *life
	d *sim.Driver
}

var (
	_ hypervisor.Pauser    = hosted{}
	_ hypervisor.Rebooter  = hosted{}
	_ hypervisor.Resourcer = hosted{}
	_ hypervisor.Pinger    = hosted{}
	_ hypervisor.Saver     = hosted{}
	_ hypervisor.Migrator  = hosted{}
	_ hypervisor.Eventer   = hosted{}
	_ hypervisor.Dialer    = hosted{}
	_ hypervisor.Fencer    = hosted{}
)

// on is one call of a host.
func on[R any](ctx context.Context, h hosted, op, vm string, f func() (R, error)) (r R, err error) {
	w, p := h.l.node.w, h.l.p
	if ctx.Err() != nil {
		return f() // refused by the driver, in its own words
	}
	if len(vm) > 4 {
		vm = vm[len(vm)-4:]
	}
	host := h.d.Origin().HostID
	g := w.s.Self(p)
	v := p.Yield(g, ctx, opHyp+op, host[len(host)-4:]+"/"+vm, false)
	gone := func(unknown bool) error {
		e := &hypervisor.Error{Class: hypervisor.ErrGone, Op: op, Host: host, VM: vm, Err: v.Err}
		if unknown {
			e.Err = hypervisor.ErrOutcomeUnknown
		}
		return e
	}
	if v.Kind == sched.Fail {
		return r, gone(false)
	}
	r, err = f()
	if v.Kind == sched.DieAfter {
		h.l.node.kill(h.l, "after "+opHyp+op)
		w.s.Rest()
		return r, ErrCrashed
	}
	if v.Kind == sched.FailAfter && err == nil {
		err = gone(true)
	}
	w.s.Result(g, "", err)
	if p.Frozen() { // the node hears of it when it can
		_ = p.Held(g, nil, heldHost)
	}
	return r, err
}

// act is a call that answers nothing.
func (h hosted) act(ctx context.Context, op, vm string, f func() error) error {
	_, err := on(ctx, h, op, vm, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func (h hosted) Info(ctx context.Context) (hypervisor.HostInfo, error) {
	return on(ctx, h, "info", "", func() (hypervisor.HostInfo, error) { return h.d.Info(ctx) })
}

func (h hosted) List(ctx context.Context, f hypervisor.Filter) ([]hypervisor.VM, error) {
	return on(ctx, h, "list", "", func() ([]hypervisor.VM, error) { return h.d.List(ctx, f) })
}

func (h hosted) Get(ctx context.Context, id string) (hypervisor.VM, error) {
	return on(ctx, h, "get", id, func() (hypervisor.VM, error) { return h.d.Get(ctx, id) })
}

func (h hosted) Define(ctx context.Context, s hypervisor.Spec) (hypervisor.VM, error) {
	return on(ctx, h, "define", s.ID, func() (hypervisor.VM, error) { return h.d.Define(ctx, s) })
}

func (h hosted) Resources(ctx context.Context) (hypervisor.Resources, error) {
	return on(ctx, h, "resources", "", func() (hypervisor.Resources, error) { return h.d.Resources(ctx) })
}

func (h hosted) Undefine(ctx context.Context, id string) error {
	return h.act(ctx, "undefine", id, func() error { return h.d.Undefine(ctx, id) })
}

func (h hosted) Start(ctx context.Context, id string, o hypervisor.StartOptions) error {
	return h.act(ctx, "start", id, func() error { return h.d.Start(ctx, id, o) })
}

func (h hosted) Stop(ctx context.Context, id string, o hypervisor.StopOptions) error {
	return h.act(ctx, "stop", id, func() error { return h.d.Stop(ctx, id, o) })
}

func (h hosted) Pause(ctx context.Context, id string) error {
	return h.act(ctx, "pause", id, func() error { return h.d.Pause(ctx, id) })
}

func (h hosted) Resume(ctx context.Context, id string) error {
	return h.act(ctx, "resume", id, func() error { return h.d.Resume(ctx, id) })
}

func (h hosted) Reboot(ctx context.Context, id string, o hypervisor.RebootOptions) error {
	return h.act(ctx, "reboot", id, func() error { return h.d.Reboot(ctx, id, o) })
}

func (h hosted) Save(ctx context.Context, id string) error {
	return h.act(ctx, "save", id, func() error { return h.d.Save(ctx, id) })
}

func (h hosted) DropSaved(ctx context.Context, id string) error {
	return h.act(ctx, "dropsaved", id, func() error { return h.d.DropSaved(ctx, id) })
}

func (h hosted) Ping(ctx context.Context) error {
	return h.act(ctx, "ping", "", func() error { return h.d.Ping(ctx) })
}

func (h hosted) Fence(ctx context.Context, id string, epoch int64) error {
	return h.act(ctx, "fence", id, func() error { return h.d.Fence(ctx, id, epoch) })
}

// Migrate is one call to begin, and one to wait.
func (h hosted) Migrate(ctx context.Context, id string, s hypervisor.MigrateSpec) (hypervisor.Migration, error) {
	if to, ok := s.Target.(hosted); ok {
		s.Target = to.d
	}
	m, err := on(ctx, h, "migrate", id, func() (hypervisor.Migration, error) { return h.d.Migrate(ctx, id, s) })
	if err != nil {
		return nil, err
	}
	return moving{m, h, id}, nil
}

type moving struct {
	hypervisor.Migration
	h  hosted
	id string
}

func (m moving) Wait(ctx context.Context) error {
	return m.h.act(ctx, "wait", m.id, func() error { return m.Migration.Wait(ctx) })
}

// Events are no scheduling points: they come while the host works.
func (h hosted) Events(ctx context.Context, f func(hypervisor.Event)) error {
	return h.d.Events(ctx, f)
}

func (h hosted) Dial(ctx context.Context) (hypervisor.Driver, error) {
	d, err := h.d.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return hosted{h.l, d.(*sim.Driver)}, nil
}

func (h hosted) Origin() hypervisor.Origin { return h.d.Origin() }
func (h hosted) Close() error              { return h.d.Close() }
