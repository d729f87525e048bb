package console

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

// Console is the page and the API. It is an [http.Handler], a [drover.Component] whose Run feeds the live stream, and a
// [job.Sink]. Safe for concurrent use.
type Console struct {
	cfg     Config
	env     drover.Env
	mux     *http.ServeMux
	routes  []route // those of the faces given
	cross   *http.CrossOriginProtection
	hub     *hub
	reads   *reads // of what changes with jobs
	calm    *reads // of the rest
	ops     *operations
	views   *views
	meters  meters
	relay   *relay
	started time.Time
	running atomic.Int32

	mu      sync.Mutex
	known   []nodeReply // by the other nodes, of themselves
	knownAt time.Time
	busAt   busSample
}

const (
	idle = iota
	runs
	ended
)

// New checks cfg. Its error is [drover.ErrConfig] and names the field.
func New(cfg Config) (*Console, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Console{cfg: cfg, env: cfg.Env, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(), started: cfg.Env.Clock.Now()}
	c.hub, c.reads, c.calm, c.ops = newHub(c.env), newReads(c.env), newReads(c.env), newOperations()
	c.relay = newRelay()
	err := c.meters.init(c)
	if err != nil {
		return nil, fmt.Errorf("console: meters: %w", err)
	}
	if c.views, err = newViews(c); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	for _, r := range c.allRoutes() {
		if !r.section(c) {
			continue
		}
		c.routes = append(c.routes, r)
		c.mux.HandleFunc(r.method+" "+r.path, c.serve(r))
	}
	c.mux.HandleFunc("/v1/", c.unknown)
	c.views.mount(c.mux)
	return c, nil
}

// ServeHTTP serves the page at / and the API at /v1/.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.measured(w, r, c.handle) }

func (c *Console) handle(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // the very value
				panic(v)
			}
			c.env.Logger.ErrorContext(r.Context(), "console: panic", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			(&problem{Status: http.StatusInternalServerError, Code: "internal"}).write(w)
		}
	}()
	if strings.HasPrefix(r.URL.Path, "/assets/") {
		c.mux.ServeHTTP(w, r)
		return
	}
	if err := c.cross.Check(r); err != nil {
		(&problem{Status: http.StatusForbidden, Code: "cross-site", Detail: "a request from another site is refused"}).write(w)
		return
	}
	p, refused := c.authenticate(r)
	if refused != nil && refused.answer != nil {
		refused.answer.ServeHTTP(w, r)
		return
	}
	if refused != nil {
		c.env.Logger.InfoContext(r.Context(), "console: refused", "path", r.URL.Path, "peer", r.RemoteAddr, "code", refused.Code)
		refused.write(w)
		return
	}
	c.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, p)))
}

// API serves only /v1/, for mounting at the host's root.
func (c *Console) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/") {
			secure(w.Header())
			notFound(r.URL.Path).write(w)
			return
		}
		c.ServeHTTP(w, r)
	})
}

// unknown answers what no route of the API takes.
func (c *Console) unknown(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := c.mux.Handler(probe); m != r.Method && pattern != "/v1/" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		notFound(r.URL.Path).write(w)
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	(&problem{Status: http.StatusMethodNotAllowed, Code: "wrong-method", Detail: "allowed: " + strings.Join(allow, ", ")}).write(w)
}

// Publish tells the live stream of a job. It is a [job.Sink] for job.Config.Events; it never fails. Called inside a transaction,
// it only remembers which job to read once that has committed.
func (c *Console) Publish(_ context.Context, _ store.Tx, ev job.Event) error {
	c.hub.note(ev.JobID, ev.Rev)
	if c.cfg.Nodes != nil {
		c.relay.note(ev.JobID, ev.Rev, c.now())
	}
	return nil
}

// Run feeds the live stream until ctx ends; then every stream is told "bye" and closed. It may be called again.
func (c *Console) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(idle, runs) && !c.running.CompareAndSwap(ended, runs) {
		return drover.ErrRunning
	}
	defer c.running.Store(ended)
	c.env.For(ctx).Go("console/operations", func() { <-ctx.Done(); c.ops.stop() })
	return c.feed(ctx)
}

// forget drops what was read: whoever has changed something is to see it.
func (c *Console) forget() {
	c.reads.forget()
	c.calm.forget()
}

// account hides what belongs to others from a principal with an account.
func visible(p Principal, j *job.Job) bool {
	return p.Account == "" || j.Identity["account"] == p.Account
}

// get reads a job that the request's principal may see.
func (c *Console) get(ctx context.Context, id string) (*job.Job, error) {
	j, err := c.cfg.Jobs.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !visible(who(ctx), j) {
		return nil, job.ErrNotFound
	}
	return c.told(ctx, j), nil
}

// told is the job with no more of its error than the request's principal is told.
func (c *Console) told(ctx context.Context, j *job.Job) *job.Job {
	if j.Error == nil || c.cfg.Tell == nil || who(ctx).Account == "" {
		return j
	}
	own, e := *j, c.cfg.Tell(*j.Error)
	own.Error = &e
	return &own
}

// journalOf is the job's journal, as told as the job.
func (c *Console) journalOf(ctx context.Context, id string) iter.Seq2[job.Entry, error] {
	all := c.cfg.Jobs.Journal(ctx, id)
	if c.cfg.Tell == nil || who(ctx).Account == "" {
		return all
	}
	return func(yield func(job.Entry, error) bool) {
		for e, err := range all {
			if e.Failure {
				e.Text, e.Data = c.cfg.Tell(job.Error{Text: e.Text}).Text, nil
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
