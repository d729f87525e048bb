package libvirt

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
	"github.com/drover-cloud/drover/internal/fair"
)

const (
	// inFlight is one less than a daemon takes of a client by default (max_client_requests): with five it reads no more, does not hear the
	// keepalive, and is taken for lost while it works.
	inFlight = 4
	// slow is how old all requests of a connection are before another one is made beside it.
	slow = 2 * time.Second
	// spareIdle is how long such a connection stays without work.
	spareIdle = 60 * time.Second
)

// lanes are the connections of one use: the first, and spare ones while all requests on the others are slow. Requests go in order of
// arrival.
type lanes struct {
	d     *Driver
	name  string
	use   rpc.Config
	most  int
	queue fair.Lock     // of those who want a place
	freed chan struct{} // a place may be free

	mu    sync.Mutex
	links []*lane
}

type lane struct {
	link
	used time.Time // last taken
}

func newLanes(d *Driver, name string, most int, use rpc.Config) *lanes {
	l := &lanes{d: d, name: name, use: use, most: most, freed: make(chan struct{}, 1)}
	l.use.Name, l.use.Limit, l.use.Freed = "libvirt/"+name, inFlight, l.free
	l.add()
	return l
}

func (l *lanes) add() *lane {
	n := &lane{link: link{d: l.d, use: l.use}}
	l.links = append(l.links, n)
	return n
}

func (l *lanes) free() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// first is the connection that is always there.
func (l *lanes) first() *lane { return l.links[0] }

// take gives a connection with a place reserved on it.
func (l *lanes) take(ctx context.Context) (*rpc.Conn, error) {
	if err := l.queue.Lock(ctx); err != nil {
		return nil, err
	}
	defer l.queue.Unlock()
	for {
		if _, err := l.first().get(ctx); err != nil {
			return nil, err
		}
		conn, wait := l.pick()
		if conn != nil {
			return conn, nil
		}
		var alarm <-chan time.Time
		if wait > 0 {
			alarm = l.d.env.Clock.After(wait)
		}
		select {
		case <-l.freed:
		case <-alarm:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// pick gives a connection with room, or says when to look again if nothing is freed before; 0 = not at all.
func (l *lanes) pick() (*rpc.Conn, time.Duration) {
	now := l.d.env.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var wait time.Duration
	for _, n := range l.links {
		conn := n.now()
		switch {
		case conn == nil: // being dialled, or not to be had
			return nil, 0
		case conn.Reserve():
			n.used = now
			return conn, 0
		}
		wait = max(wait, slow-conn.Youngest())
	}
	if wait > 0 || len(l.links) >= l.most {
		return nil, wait
	}
	n := l.add()
	l.d.env.Go(l.use.Name+"/spare", func() { l.spare(n) })
	return nil, 0
}

// spare keeps a connection until it is lost, or has had no work for a while.
func (l *lanes) spare(n *lane) {
	conn, err := n.get(l.d.life)
	for err == nil {
		l.mu.Lock()
		idle := l.d.env.Clock.Now().Sub(n.used)
		if n.used.IsZero() {
			n.used, idle = l.d.env.Clock.Now(), 0
		}
		done := conn.InFlight() == 0 && idle >= spareIdle
		if done {
			l.drop(n)
		}
		l.mu.Unlock()
		if done {
			n.close()
			return
		}
		select {
		case <-conn.Done():
			err = conn.Err()
		case <-l.d.env.Clock.After(max(spareIdle-idle, time.Second)):
		}
	}
	l.mu.Lock()
	l.drop(n)
	l.mu.Unlock()
	l.free()
}

func (l *lanes) drop(n *lane) {
	l.links = slices.DeleteFunc(l.links, func(o *lane) bool { return o == n })
}

// conns are the connections that are up.
func (l *lanes) conns() (all []*rpc.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.links {
		if c := n.now(); c != nil {
			all = append(all, c)
		}
	}
	return all
}

func (l *lanes) close() {
	l.mu.Lock()
	links := slices.Clone(l.links)
	l.mu.Unlock()
	for _, n := range links {
		n.close()
	}
}

// longLines is how many long calls a host has at once.
const longLines = 4

// alone runs f on a connection of its own, for what takes long. At most four do on a host; the others wait their turn.
func (c *call) alone(f func(conn *rpc.Conn) error) error {
	select {
	case c.d.long <- struct{}{}:
		defer func() { <-c.d.long }()
	case <-c.ctx.Done():
	}
	if err := c.ended(); err != nil {
		return err
	}
	if err := c.d.gate.shut(); err != nil {
		return err
	}
	conn, err := c.d.open(c.ctx, rpc.Config{Name: "libvirt/long", Limit: 1}, func() {})
	if err != nil {
		return err
	}
	defer conn.Close(hypervisor.ErrAborted)
	return f(conn)
}
