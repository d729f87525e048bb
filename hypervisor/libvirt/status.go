package libvirt

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// State of the connection to a host.
type State string

// The states.
const (
	Idle   State = "idle" // never used
	Up     State = "up"
	Silent State = "silent" // it says nothing, and is not given up yet
	Lost   State = "lost"
)

// Status is what a driver knows of its connections, without asking the host.
type Status struct {
	Host        string // id, "" as long as it was not met
	State       State
	Connections []Connection
	Calls       []Call        // under way, the oldest first
	Streams     int           // listeners to events
	Late        int64         // replies that came after their caller had left
	Retry       time.Duration // until the host may be dialled again
	Cause       string        // why it could not be
}

// Connection is one that is up.
type Connection struct {
	Name     string // query or control
	InFlight int    // requests that the daemon has
	Heard    time.Duration
}

// Call is an operation under way.
type Call struct {
	Op, VM string
	Age    time.Duration
}

// Status tells how the driver is. It answers from memory.
func (d *Driver) Status() Status {
	d.streams.mu.Lock()
	listeners := len(d.streams.all)
	d.streams.mu.Unlock()
	s := Status{Host: d.hostID(), State: d.state(), Streams: listeners, Late: d.lates.Load(), Retry: d.gate.wait(), Calls: d.under.calls(d.env.Clock.Now())}
	if err := d.gate.cause(); err != nil {
		s.Cause = err.Error()
	}
	for _, l := range []*lanes{d.query, d.control} {
		for _, c := range l.conns() {
			s.Connections = append(s.Connections, Connection{Name: l.name, InFlight: c.InFlight(), Heard: c.Heard()})
		}
	}
	return s
}

func (d *Driver) state() State {
	if c := d.query.first().now(); c != nil {
		if d.quiet.Load() && c.Heard() >= d.cfg.Keepalive.Silent {
			return Silent
		}
		return Up
	}
	d.mu.Lock()
	met := d.host != nil
	d.mu.Unlock()
	if !met && d.gate.cause() == nil {
		return Idle
	}
	return Lost
}

// late is called for each reply that nobody waits for any more: what hung goes on.
func (d *Driver) late() {
	d.lates.Add(1)
	d.hung.Store(0)
	d.meters.late.Add(background, 1)
}

// underWay are the calls that have not returned.
type underWay struct {
	mu sync.Mutex
	m  map[*call]struct{}
}

func (u *underWay) add(c *call) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = map[*call]struct{}{}
	}
	u.m[c] = struct{}{}
}

func (u *underWay) remove(c *call) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.m, c)
}

func (u *underWay) calls(now time.Time) []Call {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]Call, 0, len(u.m))
	for c := range u.m { // sorted below
		list = append(list, Call{Op: c.op, VM: c.vm, Age: now.Sub(c.begun)})
	}
	slices.SortFunc(list, func(a, b Call) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.Op, b.Op), cmp.Compare(a.VM, b.VM))
	})
	return list
}
