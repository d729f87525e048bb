package conductor

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/store"
)

const (
	defaultTopic   = "conductor"
	defaultTimeout = 10 * time.Second
)

// Config of a Client. Bus is required.
type Config struct {
	Env drover.Env // its Node is the bus's, and the name by which servers decide what it may do
	Bus *bus.Bus   // run by the host
	// Topic of the servers, "conductor"; beats and renewals go to Topic.live.
	Topic string
	// Timeout bounds each read and each commit, with its repeats, within ctx: 10 s; 100 ms to 10 min.
	Timeout time.Duration
	// Versions that this client speaks, by store, "major.minor"; default its own.
	Versions map[string]string
}

// Client is the stores of a host that has none, carried by calls to any Server. It is a [job.DB], safe for concurrent use,
// and holds no lock across a call.
type Client struct {
	faces
	cfg    Config
	env    drover.Env
	log    *slog.Logger
	bus    *bus.Bus
	live   string // topic of beats
	copies copies
	link   link
	meters meters
	wakes  wakes

	mu  sync.Mutex
	run int // 0 not yet, 1 running, 2 has run
}

var (
	_ store.Runner = (*Client)(nil)
	_ store.Tx     = (*tx)(nil)
)

// New checks cfg; ErrConfig names the field.
func New(cfg Config) (*Client, error) {
	if cfg.Bus == nil {
		return nil, badField("Bus", "is required")
	}
	if cfg.Topic == "" {
		cfg.Topic = defaultTopic
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if !isTopic(cfg.Topic) {
		return nil, badField("Topic", "want [a-z0-9][a-z0-9._-]{0,48}")
	}
	if cfg.Timeout < 100*time.Millisecond || cfg.Timeout > 10*time.Minute {
		return nil, badField("Timeout", cfg.Timeout.String()+", must be 100ms to 10m")
	}
	for _, s := range sorted(cfg.Versions) {
		if _, err := parseVersion(cfg.Versions[s]); err != nil {
			return nil, badField("Versions", s+": "+err.Error())
		}
	}
	cfg.Env = cfg.Env.Defaults()
	if err := cfg.Env.Check(); err != nil {
		return nil, badField("Env.Node", err.Error())
	}
	c := &Client{cfg: cfg, env: cfg.Env, bus: cfg.Bus, live: cfg.Topic + liveSuffix,
		log: cfg.Env.Logger.With("component", "conductor", "node", cfg.Env.Node)}
	c.faces = faces{c}
	c.link.c = c
	c.wakes.c = c
	if err := c.meters.init(cfg.Env); err != nil {
		return nil, err
	}
	c.copies.saved = func(n int) { c.meters.saved.Add(context.Background(), int64(n)) }
	return c, nil
}

const liveSuffix = ".live"

func isTopic(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 49
}

// speaks is the version of a store that this client speaks.
func (c *Client) speaks(name string) spoken {
	if v := c.cfg.Versions[name]; v != "" {
		return spoken{name: v}
	}
	return nil
}

// Members is the servers' membership, as a driver of package servicegroup. Beats go by a lane of their own.
func (c *Client) Members() servicegroup.Driver { return members{c} }

// Notifier wakes sleepers of this host when a server tells of a hint. It needs Run.
func (c *Client) Notifier() store.Notifier { return &c.wakes }

// Run tells servers every 30 s which hints this host wants to hear, until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	was := c.run
	if was == 0 {
		c.run = 1
	}
	c.mu.Unlock()
	switch was {
	case 1:
		return drover.ErrRunning
	case 2:
		return drover.ErrUsed
	}
	c.wakes.run(ctx)
	c.mu.Lock()
	c.run = 2
	c.mu.Unlock()
	return nil
}
