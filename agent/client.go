package agent

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/internal/alarm"
)

// Client calls agents. Its methods are for any goroutine.
type Client struct {
	life
	cfg      Config
	log      *slog.Logger
	callback *url.URL // Config.Callback; nil: none
	http     http.RoundTripper
	slots    *slots
	errands  errands
	alarms   *alarm.Set
	meters   meters
	commands commands
	strays   strays

	tab     sync.Mutex // what follows
	tasks   map[Task]*entry
	open    int // of tasks, without a result
	past    past
	agents  map[string]string // boot ids by origin, as last heard
	dropped int64             // results that came second
}

// New makes a client. A bad Config is ErrInvalid and drover.ErrConfig.
func New(cfg Config) (*Client, error) {
	cfg = cfg.fill()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, log: cfg.Env.Logger.With("component", "agent", "node", cfg.Env.Node), http: cfg.HTTP,
		slots: newSlots(cfg.PerHost, cfg.Total), tasks: map[Task]*entry{}, agents: map[string]string{},
	}
	c.life.init(cfg.Env)
	c.alarms = alarm.New(cfg.Env, "agent/alarms")
	c.errands.start = c.spawn
	if cfg.Callback != "" {
		c.callback, _ = baseURL(cfg.Callback) // checked
	}
	if c.http == nil {
		c.http = newTransport(cfg.PerHost, cfg.TLS, cfg.HostOf)
	}
	c.initMeters()
	return c, nil
}

// Run looks after what is outstanding: with Pending it wakes waiters whose result came to another node and deletes old rows.
// When ctx ends, what is outstanding ends as after Drain, at once.
func (c *Client) Run(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	if c.cfg.Pending == nil {
		<-ctx.Done()
	}
	for beat := 0; c.env.Sleep(ctx, lookEvery) == nil; beat++ {
		c.lookAll(ctx)
		if beat%int(expireEvery/lookEvery) == 0 {
			c.expire(ctx)
		}
	}
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	c.abandon()
	err := c.end()
	c.alarms.Stop()
	if t, ok := c.http.(*http.Transport); ok && c.cfg.HTTP == nil {
		t.CloseIdleConnections()
	}
	return err
}

// Drain begins nothing new, which is ErrNotSent from now on, and waits for the results of what is outstanding. When ctx ends it
// ends the rest, with ErrNotSent or ErrTimeout, and gives ctx's error.
func (c *Client) Drain(ctx context.Context) error {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	err := c.until(ctx, func() bool {
		c.tab.Lock()
		defer c.tab.Unlock()
		return c.open == 0
	})
	if err != nil {
		c.abandon()
	}
	return err
}

// abandon ends what is outstanding. Agents go on: other nodes may wait for them.
func (c *Client) abandon() {
	for _, task := range c.outstanding() {
		e := c.entry(Task(task))
		if e == nil {
			continue
		}
		err := errDraining
		if e.reached() {
			err = because(ErrTimeout, drover.ErrStopping)
		}
		c.finish(e, result{err: err})
	}
}

func (c *Client) refusing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// Waiting is a task without a result.
type Waiting struct {
	Task       Task
	Host, Path string
	Age        time.Duration
	Deadline   time.Time
	Accepted   bool
}

// Pending lists what this node waits for, in order of task.
func (c *Client) Pending() (out []Waiting) {
	now := c.env.Clock.Now()
	c.tab.Lock()
	defer c.tab.Unlock()
	for _, e := range c.tasks {
		if !e.ended {
			out = append(out, Waiting{e.task, e.url.Host, e.url.Path, now.Sub(e.began), e.deadline, e.accepted})
		}
	}
	slices.SortFunc(out, func(a, b Waiting) int { return cmp.Compare(a.Task, b.Task) })
	return out
}

// Handler serves callbacks and commands: paths below /drover/agent/ of Config.Callback.
func (c *Client) Handler() http.Handler { return http.HandlerFunc(c.serve) }

func (c *Client) serve(w http.ResponseWriter, r *http.Request) {
	at := strings.Index(r.URL.Path, nodePath)
	if at < 0 {
		refuse(w, http.StatusNotFound, codeNotFound, "no such path")
		return
	}
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		refuse(w, http.StatusMethodNotAllowed, codeMalformed, "want POST or PUT")
		return
	}
	switch p := r.URL.Path[at:]; {
	case p == commandPath, p == callbackPath && r.Header.Get(c.head().command) != "":
		c.serveCommand(w, r)
	case p == callbackPath, c.cfg.Compat == ZStack && strings.HasPrefix(p, callbackPath+"/"):
		c.serveCallback(w, r, strings.TrimPrefix(strings.TrimPrefix(p, callbackPath), "/"))
	default:
		refuse(w, http.StatusNotFound, codeNotFound, "no such path")
	}
}

// heads are the names of headers on a wire.
type heads struct{ task, callback, command string }

func (c *Client) head() heads {
	if c.cfg.Compat == ZStack {
		return heads{"taskuuid", "callbackurl", "commandpath"}
	}
	return heads{headerTask, headerCallback, headerCommand}
}
