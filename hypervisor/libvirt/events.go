package libvirt

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const (
	eventBuffer = 1024
	pollEvery   = 10 * time.Second // where the daemon refuses to tell events
)

var _ hypervisor.Eventer = (*Driver)(nil)

// Events tells what happens on the host; see hypervisor.Eventer. A stop is held back for Config.Debounce, unless this driver made it:
// a guest that is started again meanwhile has rebooted. What happened while the connection was lost is found by comparing lists.
func (d *Driver) Events(ctx context.Context, f func(hypervisor.Event)) error {
	c := &call{d: d, op: "events"}
	if ctx.Err() != nil {
		return c.name(context.Cause(ctx))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.life, func() { cancel(hypervisor.ErrClosed) })()
	s := &stream{d: d, f: f, wake: make(chan struct{}, 1)}
	d.streams.add(s)
	defer d.streams.remove(s)
	for ctx.Err() == nil && d.life.Err() == nil {
		s.follow(ctx)
	}
	if d.life.Err() != nil {
		return c.name(hypervisor.ErrClosed)
	}
	return c.name(context.Cause(ctx))
}

// streams are who listens. The reader of a connection gives to all of them, and waits for none.
type streams struct {
	mu    sync.Mutex
	all   []*stream
	waits []*rebooting
}

// rebooting waits for the reset of one VM.
type rebooting struct {
	uuid [16]byte
	seen chan struct{} // 1
}

// await gives a channel that tells of resets of a VM until stop is called.
func (l *streams) await(uuid [16]byte) (seen <-chan struct{}, stop func()) {
	w := &rebooting{uuid, make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits = append(l.waits, w)
	return w.seen, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waits = slices.DeleteFunc(l.waits, func(o *rebooting) bool { return o == w })
	}
}

func (l *streams) add(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

func (l *streams) remove(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(o *stream) bool { return o == s })
}

func (l *streams) push(o occurrence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		s.push(o)
	}
	for _, w := range l.waits {
		if o.what == saidReboot && o.dom.UUID == w.uuid {
			select {
			case w.seen <- struct{}{}:
			default:
			}
		}
	}
}

// event is called by the reader for each event of the daemon.
func (d *Driver) event(p rpc.Proc, r rpc.Reply) {
	o := occurrence{what: saidReboot}
	r.I32() // the registration
	o.dom = r.Dom()
	switch p {
	case rpc.DomainEventCallbackLifecycle:
		o.what, o.event, o.detail = saidLifecycle, r.I32(), r.I32()
	case rpc.DomainEventCallbackReboot:
	default:
		return
	}
	if r.Err() == nil {
		d.streams.push(o)
	}
}

// silence is called by the query connection's keepalive.
func (d *Driver) silence(silent bool) {
	d.quiet.Store(silent)
	o := occurrence{what: wasHeard}
	if silent {
		o.what = fellSilent
	}
	d.streams.push(o)
}

// register asks for the events that the driver reads. A daemon that refuses is no error: lists are compared instead.
func (d *Driver) register(ctx context.Context, c *rpc.Conn) error {
	const lifecycle, reboot = 0, 1 // VIR_DOMAIN_EVENT_ID_
	d.quiet.Store(false)
	d.hung.Store(0)
	d.refused.Store(false)
	for _, kind := range []int32{lifecycle, reboot} {
		_, err := c.Call(ctx, rpc.ConnectDomainEventCallbackRegisterAny, rpc.Args{}.I32(kind).U32(0))
		if r := (*rpc.RemoteError)(nil); errors.As(err, &r) {
			d.refused.Store(true)
			if !d.warned.Swap(true) {
				d.env.Logger.Warn("hypervisor: the host refuses to tell events: it is asked every 10 s instead", "host", d.hostID(), "err", err)
			}
			return nil
		}
		if err != nil {
			return unreached(err)
		}
	}
	return nil
}

// stream is one listener. All but push belongs to its goroutine.
type stream struct {
	d    *Driver
	f    func(hypervisor.Event)
	wake chan struct{}

	mu       sync.Mutex
	buf      []occurrence
	overflow bool

	seq    int64
	t      *teller
	lost   bool
	silent bool
}

func (s *stream) push(o occurrence) {
	s.mu.Lock()
	switch {
	case s.overflow:
		s.d.meters.dropped.Add(background, 1)
	case len(s.buf) == eventBuffer:
		s.d.meters.dropped.Add(background, eventBuffer+1)
		s.buf, s.overflow = nil, true
	default:
		s.buf = append(s.buf, o)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// drain takes what was pushed, and whether something was dropped.
func (s *stream) drain() ([]occurrence, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf, over := s.buf, s.overflow
	s.buf, s.overflow = nil, false
	return buf, over
}

// emit tells one event. A panic is the listener's own affair.
func (s *stream) emit(kind hypervisor.EventKind, vm hypervisor.VM, detail string) {
	s.seq++
	defer func() {
		if v := recover(); v != nil {
			s.d.env.Logger.Error("hypervisor: panic in a listener of events", "host", s.d.hostID(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	count(s.d.meters.events, "kind", string(kind))
	s.f(hypervisor.Event{Seq: s.seq, At: s.d.env.Clock.Now(), Kind: kind, VM: vm, Detail: detail})
}

// follow connects, lists, and tells events until the connection is lost or events were dropped.
func (s *stream) follow(ctx context.Context) {
	conn := s.connect(ctx)
	if conn == nil {
		return
	}
	for polled := false; conn.Err() == nil; polled = true {
		if err := s.sync(ctx, polled); err != nil {
			_ = s.d.env.Sleep(ctx, time.Second) // an ended ctx is seen by the caller
			return
		}
		dropped := s.listen(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		if dropped {
			s.t = nil
			s.emit(hypervisor.EventResync, hypervisor.VM{}, "")
			return
		}
	}
	s.lose(conn.Err())
}

// lose tells the loss of the connection, once.
func (s *stream) lose(err error) {
	if !s.lost && s.d.life.Err() == nil {
		s.lost = true
		s.emit(hypervisor.EventLost, hypervisor.VM{}, err.Error())
	}
}

// connect waits for the query connection. Lost and Back are told once in an outage.
func (s *stream) connect(ctx context.Context) *rpc.Conn {
	for {
		conn, err := s.d.query.first().get(ctx)
		switch {
		case ctx.Err() != nil || s.d.life.Err() != nil:
			return nil
		case err == nil:
			if s.lost || s.silent {
				s.lost, s.silent = false, false
				s.emit(hypervisor.EventBack, hypervisor.VM{}, "")
			}
			return conn
		}
		s.lose(err)
		if s.d.env.Sleep(ctx, max(s.d.gate.wait(), 10*time.Millisecond)) != nil {
			return nil
		}
	}
}

// sync lists, and tells all the first time, then what is different. A VM that something happened to meanwhile is read once more: its
// last state wins. Synced is left out when nothing was lost.
func (s *stream) sync(ctx context.Context, polled bool) error {
	s.drain()
	vms, err := s.d.List(ctx, hypervisor.Filter{})
	if err != nil {
		return err
	}
	for {
		meanwhile, dropped := s.drain()
		if dropped {
			return errors.New("too much happens")
		}
		if len(meanwhile) == 0 {
			break
		}
		for _, o := range meanwhile {
			if o.what == fellSilent || o.what == wasHeard {
				s.take(o)
				continue
			}
			if vms, err = s.again(ctx, vms, textID(o.dom.UUID)); err != nil {
				return err
			}
		}
	}
	if s.t == nil {
		s.t = newTeller(s.d.cfg.Debounce, s.d.pausesAtStart(), s.d.env.Clock.Now, s.emit)
		s.t.begin(vms)
	} else {
		s.t.compare(vms)
	}
	if !polled {
		s.emit(hypervisor.EventSynced, hypervisor.VM{}, "")
	}
	return nil
}

// again replaces a VM of a listing by what it is now.
func (s *stream) again(ctx context.Context, vms []hypervisor.VM, id string) ([]hypervisor.VM, error) {
	at, found := slices.BinarySearchFunc(vms, id, func(vm hypervisor.VM, id string) int { return strings.Compare(vm.ID, id) })
	vm, err := s.d.Get(ctx, id)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound) && found:
		return slices.Delete(vms, at, at+1), nil
	case errors.Is(err, hypervisor.ErrNotFound):
		return vms, nil
	case err != nil:
		return nil, err
	case found:
		vms[at] = vm
		return vms, nil
	}
	return slices.Insert(vms, at, vm), nil
}

// listen tells what is heard on conn; true: events were dropped.
func (s *stream) listen(ctx context.Context, conn *rpc.Conn) bool {
	poll := s.d.env.Clock.Now().Add(pollEvery)
	for {
		batch, dropped := s.drain()
		if dropped {
			return true
		}
		for _, o := range batch {
			if ctx.Err() != nil {
				return false
			}
			s.take(o)
		}
		for _, id := range s.t.due() {
			s.settle(ctx, id)
		}
		var alarm <-chan time.Time
		now, at := s.d.env.Clock.Now(), s.t.next()
		if s.d.refused.Load() && (at.IsZero() || poll.Before(at)) {
			at = poll
		}
		if !at.IsZero() {
			alarm = s.d.env.Clock.After(at.Sub(now))
		}
		select {
		case <-s.wake:
		case <-alarm:
		case <-conn.Done():
		case <-ctx.Done():
		}
		if ctx.Err() != nil || conn.Err() != nil {
			return false
		}
		if s.d.refused.Load() && !s.d.env.Clock.Now().Before(poll) {
			return false // to list again
		}
	}
}

func (s *stream) take(o occurrence) {
	switch o.what {
	case saidLifecycle:
		s.t.lifecycle(o)
	case saidReboot:
		s.t.reboot(o)
	case didStop:
		s.t.ended(o)
	case fellSilent:
		s.silent = true
		s.emit(hypervisor.EventSilent, hypervisor.VM{}, "")
	case wasHeard:
		if s.silent {
			s.silent = false
			s.emit(hypervisor.EventBack, hypervisor.VM{}, "")
		}
	}
}

// settle reads a VM whose stop is due.
func (s *stream) settle(ctx context.Context, id string) {
	vm, err := s.d.Get(ctx, id)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		s.t.judge(id, nil)
	case err != nil: // later, or by the next listing
		h := s.t.held[id]
		h.due = s.d.env.Clock.Now().Add(time.Second)
		s.t.held[id] = h
	default:
		s.t.judge(id, &vm)
	}
}

// pausesAtStart says whether a start makes the guest paused first. The test driver cannot.
func (d *Driver) pausesAtStart() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.host != nil && d.host.kind != "test"
}
