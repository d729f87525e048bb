package lease

import (
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Config of a [Session]. Tx and Store are required; a zero field is its default.
type Config struct {
	Env    drover.Env
	Tx     store.Runner
	Store  Store
	Notify store.Notifier // wakes those who wait for a lease; nil = they poll only
	Name   string         // of the session, unique in the cluster, 1 to 128 printable bytes; default Env.Node
	TTL    time.Duration  // a session not renewed for so long is over; default 30 s, at least 1 s
	Renew  time.Duration  // between renewals; default and at most TTL/3
	Margin time.Duration  // trust ends TTL−Margin after the last good renewal started; default TTL/6, TTL/10 ≤ Margin < TTL/3
}

func (c Config) defaults() Config {
	c.Env = c.Env.Defaults()
	if c.Name == "" {
		c.Name = c.Env.Node
	}
	if c.TTL == 0 {
		c.TTL = 30 * time.Second
	}
	if c.Renew == 0 {
		c.Renew = c.TTL / 3
	}
	if c.Margin == 0 {
		c.Margin = c.TTL / 6
	}
	return c
}

func (c Config) check() error {
	if err := c.Env.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Tx == nil:
		return bad("Tx", "required")
	case c.Store == nil:
		return bad("Store", "required")
	case c.TTL < time.Second:
		return bad("TTL", "%v is less than 1s", c.TTL)
	case c.TTL > 24*time.Hour:
		return bad("TTL", "%v is more than 24h", c.TTL)
	case c.Renew <= 0 || c.Renew > c.TTL/3:
		return bad("Renew", "%v is not within 0 and TTL/3 = %v", c.Renew, c.TTL/3)
	case c.Margin < c.TTL/10 || c.Margin*3 >= c.TTL:
		return bad("Margin", "%v is not within TTL/10 = %v and TTL/3 = %v", c.Margin, c.TTL/10, c.TTL/3)
	}
	return checkName("Name", c.Name)
}
