// Package zk is the servicegroup driver on ZooKeeper. A member is an ephemeral node <prefix>/<group>/<id>/<instance>; what is
// known of it, marks and the last incarnation included, is in the data of <prefix>/<group>/<id>, which stays for some days.
//
// # Guarantees
//
//   - It keeps every obligation of [servicegroup.Driver], and all optional abilities. A crash is seen after the session's
//     timeout, a clean leave at once.
//   - Without a session for longer than 5 s, or when an answer takes longer, calls are [servicegroup.ErrUnavailable]: a server
//     that is away, frozen or without quorum makes nobody Down.
//   - After its session has expired a member's next beat is [servicegroup.ErrGone], upon which a Group joins anew.
//
// # Not guaranteed
//
//   - While the servers are away no session expires: a node that dies meanwhile looks up until its timeout after their return.
//   - The record of a member that is absent, and was last written longer than Config.Retain ago.
//   - Incarnations, which are czxids, rise for the life of the ensemble's data only.
package zk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// Config of a Driver. Servers is required; a zero field is its default.
type Config struct {
	Env     drover.Env
	Servers []string // host:port of the ensemble
	Prefix  string   // of all nodes; default "/drover/members"
	// Session is how long the servers wait for a silent member before they end its session; default 6 s, at least 1 s. They
	// may settle on another.
	Session time.Duration
	// Retain is for how long the nodes of absent members are kept after they were last written, which a member does once a day at
	// least; 0: servicegroup.Retain, negative: for ever.
	Retain time.Duration
	// Dial makes connections; nil means net.DialTimeout.
	Dial func(network, address string, timeout time.Duration) (net.Conn, error)
}

// patience is how long an answer, or a session, may be missing.
const patience = 5 * time.Second

// Driver holds one session, in which all members that join through it live. Safe for concurrent use.
type Driver struct {
	cfg  Config
	conn *zk.Conn

	mu      sync.Mutex
	closed  bool
	away    time.Time // since when there is no session; zero: there is one
	written map[string]string
	purged  time.Time                  // when absent members' nodes were last looked for
	sleeps  map[string][]chan struct{} // by group
	armed   map[string]bool            // paths with a watch, and a letter for its kind
	strange bool                       // foreign nodes are logged
}

// New connects in the background. [servicegroup.ErrConfig] names the field.
func New(cfg Config) (*Driver, error) {
	bad := func(field, format string, args ...any) (*Driver, error) {
		return nil, fmt.Errorf("%w: zk: %s: %s", servicegroup.ErrConfig, field, fmt.Sprintf(format, args...))
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "/drover/members"
	}
	if cfg.Session == 0 {
		cfg.Session = 6 * time.Second
	}
	for _, s := range cfg.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			return bad("Servers", "%.128q is not host:port", s)
		}
	}
	switch {
	case len(cfg.Servers) == 0:
		return bad("Servers", "required")
	case !strings.HasPrefix(cfg.Prefix, "/") || strings.HasSuffix(cfg.Prefix, "/") || strings.Contains(cfg.Prefix, "//") || len(cfg.Prefix) > 128:
		return bad("Prefix", "%.140q is not an absolute path of at most 128 bytes", cfg.Prefix)
	case cfg.Session < time.Second || cfg.Session > time.Hour:
		return bad("Session", "%v is not within 1s and 1h", cfg.Session)
	}
	cfg.Env = cfg.Env.Defaults()
	if cfg.Retain == 0 {
		cfg.Retain = servicegroup.Retain
	}
	if cfg.Dial == nil {
		cfg.Dial = net.DialTimeout
	}
	dial := func(network, address string, timeout time.Duration) (net.Conn, error) {
		c, err := cfg.Dial(network, address, min(timeout, patience))
		if err != nil {
			return nil, err
		}
		return &hasty{Conn: c, clock: cfg.Env.Clock, most: max(patience, cfg.Session)}, nil
	}
	d := &Driver{cfg: cfg, written: map[string]string{}, sleeps: map[string][]chan struct{}{}, armed: map[string]bool{}, away: cfg.Env.Clock.Now()}
	conn, _, err := zk.Connect(cfg.Servers, cfg.Session, zk.WithLogger(quiet{}), zk.WithLogInfo(false), zk.WithEventCallback(d.event),
		zk.WithDialer(dial))
	if err != nil {
		return nil, unavailable(err)
	}
	d.conn = conn
	return d, nil
}

// hasty is a connection on which the answer to the first request is not waited for longer than most, where the library would
// wait for seven sessions before it tries the next server. Later deadlines follow from the session as negotiated.
type hasty struct {
	net.Conn
	clock drover.Clock
	most  time.Duration
	once  sync.Once
}

func (c *hasty) SetReadDeadline(t time.Time) error {
	c.once.Do(func() {
		if most := c.clock.Now().Add(c.most); t.After(most) {
			t = most
		}
	})
	return c.Conn.SetReadDeadline(t)
}

// quiet drops what the library logs: it is told by our own errors.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// Close ends the session, and with it every member that joined through the driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.conn.Close()
	return nil
}

// event is the library's, on its own goroutine: it must not wait.
func (d *Driver) event(e zk.Event) {
	now := d.cfg.Env.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case e.Type == zk.EventSession && e.State == zk.StateHasSession:
		d.away = time.Time{}
	case e.Type == zk.EventSession && (e.State == zk.StateDisconnected || e.State == zk.StateExpired):
		if d.away.IsZero() {
			d.away = now
		}
		if e.State == zk.StateExpired {
			clear(d.armed)
		}
	case e.Type == zk.EventSession:
		return
	}
	if e.Type != zk.EventSession {
		delete(d.armed, "d"+e.Path)
		delete(d.armed, "c"+e.Path)
	}
	for _, list := range d.sleeps {
		for _, c := range list {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

// Watch hints whatever the servers tell of the group.
func (d *Driver) Watch(ctx context.Context, group string) (<-chan struct{}, error) {
	c := make(chan struct{}, 1)
	c <- struct{}{} // the next read sets the watches
	d.mu.Lock()
	d.sleeps[group] = append(d.sleeps[group], c)
	d.mu.Unlock()
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		var rest []chan struct{}
		for _, x := range d.sleeps[group] {
			if x != c {
				rest = append(rest, x)
			}
		}
		d.sleeps[group] = rest
	})
	return c, nil
}

// do runs f, whose calls have no context, and does not wait for it longer than ctx, or patience. A late answer is dropped.
func (d *Driver) do(ctx context.Context, what string, f func() error) error {
	now := d.cfg.Env.Clock.Now()
	d.mu.Lock()
	away, closed := d.away, d.closed
	d.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return unavailable(context.Cause(ctx))
	case closed:
		return unavailable(errors.New("driver is closed"))
	case !away.IsZero() && now.Sub(away) > patience:
		return unavailable(fmt.Errorf("no session for %v", now.Sub(away).Round(time.Millisecond)))
	}
	done := make(chan error, 1)
	d.cfg.Env.Go("servicegroup/zk/"+what, func() { done <- f() })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-d.cfg.Env.Clock.After(patience):
		err = fmt.Errorf("no answer in %v", patience)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, servicegroup.ErrFenced) || errors.Is(err, servicegroup.ErrGone) || err == nil {
		return err
	}
	return unavailable(err)
}

func unavailable(err error) error { return fmt.Errorf("%w: zk: %w", servicegroup.ErrUnavailable, err) }

var _ interface {
	servicegroup.Driver
	servicegroup.Watcher
	servicegroup.Marker
	servicegroup.Forgetter
} = (*Driver)(nil)
