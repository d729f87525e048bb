// Package memcached is the servicegroup driver on memcached: a member is a key that expires, renewed by each beat, and an
// index per group names the members.
//
// # Guarantees
//
//   - It keeps the obligations of [servicegroup.Driver], but for what memcached itself forgets; a member that finds its key
//     gone joins anew. Beats and joins are compare-and-set.
//   - A server that cannot answer is an error, never a member that is missing.
//
// # Not guaranteed
//
//   - Hints: watchers poll. Bans: [servicegroup.ErrUnsupported]. Marks, unless Config.Marks keeps them.
//   - What is known of dead members, after a restart of the server. Incarnations rise over one because they start at the
//     time in ms.
package memcached

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/servicegroup"
)

// Config of a Driver. Servers is required; a zero field is its default.
type Config struct {
	Env     drover.Env
	Servers []string // host:port; keys are spread over them
	// Down as in servicegroup.Config; keys live for so long, rounded up, and 1 s. Default 60 s, at most 30 days.
	Down time.Duration
	// Timeout of an operation; default 500 ms.
	Timeout time.Duration
	// Retain is for how long absent members stay in the index of their group, after they joined; 0: servicegroup.Retain, negative:
	// for ever.
	Retain time.Duration
	// Marks keeps operators' marks, as the driver of a store does (db.Members()); nil: they are unsupported.
	Marks interface {
		servicegroup.Driver
		servicegroup.Marker
	}
}

const maxTTL = 30 * 24 * 3600 // seconds; beyond it memcached reads a date

// Driver is safe for concurrent use.
type Driver struct {
	cfg Config
	c   *memcache.Client
	ttl int32

	mu     sync.Mutex
	purged time.Time // when absent members were last looked for in the index
}

// New connects when it is first used. [servicegroup.ErrConfig] names the field.
func New(cfg Config) (*Driver, error) {
	bad := func(field, format string, args ...any) (*Driver, error) {
		return nil, fmt.Errorf("%w: memcached: %s: %s", servicegroup.ErrConfig, field, fmt.Sprintf(format, args...))
	}
	if cfg.Down == 0 {
		cfg.Down = time.Minute
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 500 * time.Millisecond
	}
	for _, s := range cfg.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			return bad("Servers", "%.128q is not host:port", s)
		}
	}
	ttl := int64((cfg.Down+time.Second-1)/time.Second) + 1
	switch {
	case len(cfg.Servers) == 0:
		return bad("Servers", "required")
	case cfg.Down < 0 || ttl > maxTTL:
		return bad("Down", "%v is not within 0 and 30 days less 1s", cfg.Down)
	case cfg.Timeout < 0:
		return bad("Timeout", "%v is negative", cfg.Timeout)
	}
	servers := new(memcache.ServerList)
	if err := servers.SetServers(cfg.Servers...); err != nil {
		return bad("Servers", "%v", err)
	}
	cfg.Env = cfg.Env.Defaults()
	if cfg.Retain == 0 {
		cfg.Retain = servicegroup.Retain
	}
	d := &Driver{cfg: cfg, c: memcache.NewFromSelector(servers), ttl: int32(ttl)}
	d.c.Timeout, d.c.MaxIdleConns = cfg.Timeout, 8
	return d, nil
}

// Close closes idle connections.
func (d *Driver) Close() error { return d.c.Close() }

// Mark sets an operator's mark where Config.Marks keeps them.
func (d *Driver) Mark(ctx context.Context, group, id string, m servicegroup.Mark) error {
	if d.cfg.Marks == nil {
		return fmt.Errorf("%w: memcached: marks, without Config.Marks", servicegroup.ErrUnsupported)
	}
	return d.cfg.Marks.Mark(ctx, group, id, m)
}

// Forget removes a record. A ban would not outlive the server: [servicegroup.ErrUnsupported].
func (d *Driver) Forget(ctx context.Context, group, id string, ban bool) error {
	if ban {
		return fmt.Errorf("%w: memcached: bans", servicegroup.ErrUnsupported)
	}
	if err := d.index(ctx, group, func(ids map[string]entry) bool {
		_, ok := ids[servicegroup.Fold(id)]
		delete(ids, servicegroup.Fold(id))
		return ok
	}); err != nil {
		return err
	}
	return d.try(ctx, func() error {
		if err := d.c.Delete(key(group, id)); !errors.Is(err, memcache.ErrCacheMiss) {
			return err
		}
		return nil
	})
}

var _ interface {
	servicegroup.Driver
	servicegroup.Marker
	servicegroup.Forgetter
} = (*Driver)(nil)
