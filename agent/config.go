package agent

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/store"
)

// Compat is how a Client speaks to agents that were not made with this package.
type Compat uint8

// ZStack is the wire of ZStack's RESTFacade: headers taskuuid and callbackurl, commandpath for commands, the key within the
// callback's path; every 2xx is an acceptance, and agents are not polled, told of cancels or de-duplicating.
const ZStack Compat = 1

// Config of a [Client]. Zero fields are the defaults.
type Config struct {
	Env drover.Env
	// Callback is the public base URL of this node, or of a balancer in front of all: agents call back to it, and Handler serves
	// there. Required for Call and Start.
	Callback string
	// Pending keeps what is outstanding, in transactions on Tx, so that any node takes a callback and any waits; Notify wakes
	// waiters sooner than the second they look after. Nil: what is outstanding ends with the process.
	Pending Store
	Tx      store.Runner
	Notify  store.Notifier
	// HTTP makes the exchanges. Nil: a transport of our own, which connects within 5 s, has TLS stand within 5 s, wants the
	// answer's headers within 30 s, drops idle connections after 90 s and uses no proxy.
	HTTP http.RoundTripper
	// PerHost and Total bound HTTP exchanges under way, not tasks: 8 and 512.
	PerHost, Total int
	// Timeout of calls without one of their own, 60 s.
	Timeout time.Duration
	// Poll is how often an agent is asked about a task that it has accepted, 15 s.
	Poll time.Duration
	// MaxBody bounds commands and replies, 1 MiB.
	MaxBody int
	// Compat is the wire: drover's, or ZStack's.
	Compat Compat
	// TLS of exchanges, when HTTP is nil; at least 1.2. With ClientCAs, Handler wants a client certificate that these have signed.
	TLS *tls.Config
	// HostOf gives the host id for a URL of an agent: its certificate must be for that name instead of the URL's host.
	HostOf func(url string) string
}

// ServerConfig of a [Server]. Zero fields are the defaults.
type ServerConfig struct {
	Env drover.Env
	// Nodes are the base URLs of the nodes, or of the balancer in front of them. Required: the agent calls back and sends
	// commands to these and nowhere else, whatever a request asks for.
	Nodes []string
	// Workers run handlers, 64 at once; Queue bounds what waits for one, 256.
	Workers, Queue int
	// MaxBody bounds requests and results, 1 MiB.
	MaxBody int
	// StateFile keeps the highest token per name across restarts. "": tokens are compared until the process ends.
	StateFile string
	// Stores are the ids of databases whose tokens count, oldest first: one of a later database is higher than any of an earlier.
	Stores []string
	// AdoptStore takes the database of the first token ever seen as the agent's own, when Stores lists none.
	AdoptStore bool
	// HTTP makes the exchanges with nodes; nil as in Config.
	HTTP http.RoundTripper
	// TLS of exchanges with nodes, when HTTP is nil. With ClientCAs, requests want a client certificate that these have signed.
	TLS *tls.Config
}

const (
	defaultTimeout = 60 * time.Second
	maxTimeout     = 30 * 24 * time.Hour
	// noTime is too little to send anything.
	noTime = time.Millisecond
)

type defaults struct {
	at  *int
	def int
}

func fill(ds ...defaults) {
	for _, d := range ds {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
}

func bad(field, format string, args ...any) error {
	return because(ErrInvalid, &drover.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (c Config) fill() Config {
	c.Env = c.Env.Defaults()
	fill(defaults{&c.PerHost, 8}, defaults{&c.Total, 512}, defaults{&c.MaxBody, 1 << 20})
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Poll == 0 {
		c.Poll = 15 * time.Second
	}
	return c
}

func (c Config) check() error {
	switch {
	case c.PerHost < 0:
		return bad("Config.PerHost", "negative")
	case c.Total < 0:
		return bad("Config.Total", "negative")
	case c.MaxBody < 0:
		return bad("Config.MaxBody", "negative")
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		return bad("Config.Timeout", "%v: want up to %v", c.Timeout, maxTimeout)
	case c.Poll < 0:
		return bad("Config.Poll", "negative")
	case c.Compat > ZStack:
		return bad("Config.Compat", "%d is unknown", c.Compat)
	case c.Pending != nil && c.Tx == nil:
		return bad("Config.Pending", "needs Tx, on which its transactions are opened")
	case c.HTTP != nil && c.HostOf != nil:
		return bad("Config.HostOf", "checks connections of our own: not with HTTP")
	}
	if err := c.Env.Check(); err != nil {
		return because(ErrInvalid, err)
	}
	if c.Callback != "" {
		if _, err := baseURL(c.Callback); err != nil {
			return bad("Config.Callback", "%v", err)
		}
	}
	return nil
}

func (c ServerConfig) fill() ServerConfig {
	c.Env = c.Env.Defaults()
	fill(defaults{&c.Workers, 64}, defaults{&c.Queue, 256}, defaults{&c.MaxBody, 1 << 20})
	c.Stores = slices.Clone(c.Stores)
	return c
}

func (c ServerConfig) check() error {
	switch {
	case c.Workers < 0:
		return bad("ServerConfig.Workers", "negative")
	case c.Queue < 0:
		return bad("ServerConfig.Queue", "negative")
	case c.MaxBody < 0:
		return bad("ServerConfig.MaxBody", "negative")
	case len(c.Nodes) == 0:
		return bad("ServerConfig.Nodes", "empty: the agent must know whom it may call back")
	}
	for _, n := range c.Nodes {
		if _, err := baseURL(n); err != nil {
			return bad("ServerConfig.Nodes", "%v", err)
		}
	}
	for _, s := range c.Stores {
		if !isText(s, maxName) || strings.Contains(s, ";") {
			return bad("ServerConfig.Stores", "%.64q: want the id of a database", s)
		}
	}
	return nil
}

// baseURL reads the base URL of a node; a slash at its end makes no difference.
func baseURL(s string) (*url.URL, error) {
	u, err := parseURL(s)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return nil, invalid("URL: has a query")
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
	return u, nil
}
