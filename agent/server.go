package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/drover-cloud/drover/internal/alarm"
)

// Server is the agent's side: an http.Handler that runs tasks and calls back.
type Server struct {
	life
	cfg     ServerConfig
	log     *slog.Logger
	boot    string // new at every start
	nodes   []*url.URL
	client  *Client // whose exchanges with nodes these are
	alarms  *alarm.Set
	tracer  trace.Tracer
	fence   *fence
	mux     sync.RWMutex
	handler map[string]handlerFunc

	tab       sync.Mutex // what follows
	tasks     map[string]*task
	queue     []*task
	busy      int     // handlers that run
	kept      []*task // done, in order of that
	unsettled int     // tasks that run, wait, or whose result is not delivered
}

// handlerFunc reads a command, or gives what is wrong with it.
type handlerFunc func(body []byte) (func(ctx context.Context) (any, error), error)

const (
	keepResults = 10 * time.Minute
	keepMost    = 10_000
	waitMost    = 30 * time.Second // of Drover-Wait
)

// NewServer makes an agent, which serves once it runs. A bad ServerConfig is ErrInvalid and drover.ErrConfig; a StateFile that
// cannot be read or written is an error, since it would fence nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg = cfg.fill()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Env.Logger.With("component", "agent", "node", cfg.Env.Node), boot: cfg.Env.NewID(),
		handler: map[string]handlerFunc{}, tasks: map[string]*task{}, tracer: cfg.Env.Tracer.Tracer(scope)}
	for _, n := range cfg.Nodes {
		u, _ := baseURL(n) // checked
		s.nodes = append(s.nodes, u)
	}
	var err error
	quiet := cfg.Env
	quiet.Meter = noop.NewMeterProvider() // what is counted is the nodes' calls
	if s.client, err = New(Config{Env: quiet, HTTP: cfg.HTTP, TLS: cfg.TLS, MaxBody: cfg.MaxBody}); err != nil {
		return nil, err
	}
	if s.fence, err = openFence(cfg); err != nil {
		return nil, err
	}
	s.life.init(cfg.Env)
	s.client.errands.start = s.spawn
	s.alarms = alarm.New(cfg.Env, "agent/alarms")
	return s, nil
}

// Handle serves path to Call and Start, and to Post, which waits for the answer. A path is served once: a second time panics, as
// do paths of drover's own. f's ctx ends at the caller's deadline, when it cancels, and when Run's ctx ends. An error that offers
// ErrorCode() string keeps that code.
func Handle[Cmd, Rsp any](s *Server, path string, f func(ctx context.Context, cmd Cmd) (Rsp, error)) {
	s.mux.Lock()
	defer s.mux.Unlock()
	switch {
	case !strings.HasPrefix(path, "/") || f == nil:
		panic("agent: Handle: a path begins with /, and needs a function")
	case s.handler[path] != nil, strings.HasPrefix(path, "/drover/"):
		panic("agent: Handle: " + path + " is served already")
	}
	s.handler[path] = func(body []byte) (func(context.Context) (any, error), error) {
		var cmd Cmd
		if err := json.Unmarshal(body, &cmd); err != nil {
			return nil, errNotJSON
		}
		return func(ctx context.Context) (any, error) { return f(ctx, cmd) }, nil
	}
}

// Run serves until ctx ends: then handlers' contexts end, and what is not delivered is not delivered any more. For a graceful stop
// Drain first. It answers drover.ErrStuck if handlers go on for 5 s more.
func (s *Server) Run(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	<-ctx.Done()
	err := s.end()
	s.alarms.Stop()
	if t, ok := s.client.http.(*http.Transport); ok && s.cfg.HTTP == nil {
		t.CloseIdleConnections()
	}
	return errors.Join(err, s.fence.close())
}

// Drain takes no new tasks, which are answered 503 from now on, and waits for those that run, to their deadlines, and for their
// results to be delivered; ctx ends the waiting, with its error.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	return s.until(ctx, func() bool {
		s.tab.Lock()
		defer s.tab.Unlock()
		return s.unsettled == 0
	})
}

func (s *Server) serving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == running && !s.draining
}

// ServeHTTP serves the paths of Handle and drover's own.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerAgent, s.boot)
	if !proven(r, s.cfg.TLS, "") {
		refuse(w, http.StatusForbidden, codeForbidden, "no client certificate")
		return
	}
	id, isTask := strings.CutPrefix(r.URL.Path, tasksPath)
	switch {
	case r.URL.Path == echoPath && r.Method == http.MethodGet:
		writeJSON(w, http.StatusOK, envelope{Agent: s.boot})
	case isTask && r.Method == http.MethodGet:
		s.polled(w, id)
	case isTask && r.Method == http.MethodDelete:
		s.cancelled(w, id)
	case isTask, r.URL.Path == echoPath:
		refuse(w, http.StatusMethodNotAllowed, codeMalformed, "no such method")
	default:
		s.asked(w, r)
	}
}

func (s *Server) polled(w http.ResponseWriter, id string) {
	s.tab.Lock()
	t := s.tasks[id]
	s.tab.Unlock()
	if t == nil {
		refuse(w, http.StatusNotFound, codeNotFound, "no such task")
		return
	}
	t.answer(w, http.StatusOK)
}

func (s *Server) cancelled(w http.ResponseWriter, id string) {
	s.tab.Lock()
	t := s.tasks[id]
	s.tab.Unlock()
	switch {
	case t == nil:
		refuse(w, http.StatusNotFound, codeNotFound, "no such task")
	case t.stop(context.Canceled):
		writeJSON(w, http.StatusAccepted, envelope{Task: id, State: "cancelling"})
	default:
		writeJSON(w, http.StatusOK, envelope{Task: id, State: stateDone})
	}
}

// asked is a request for a handler: a task, or one that waits for its answer.
func (s *Server) asked(w http.ResponseWriter, r *http.Request) {
	s.mux.RLock()
	h := s.handler[r.URL.Path]
	s.mux.RUnlock()
	switch {
	case h == nil:
		refuse(w, http.StatusNotFound, codeNotFound, "no such path")
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, codeMalformed, "want POST")
		return
	}
	t, err := s.read(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, codeMalformed, err.Error())
		return
	}
	if t.callback != nil && !s.mayCall(t.callback) {
		s.log.Warn("a callback to somewhere else was asked for", "host", cut(t.callback.Host, maxName), "from", r.RemoteAddr)
		refuse(w, http.StatusForbidden, codeForbidden, "the callback is to none of the agent's nodes")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxBody)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, codeTooLarge, "the body is too large")
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, codeMalformed, "the body ends early")
		return
	}
	if t.run, err = h(body); err != nil {
		refuse(w, http.StatusBadRequest, codeMalformed, "the body is not the JSON that is wanted")
		return
	}
	if t.fenced {
		if err := s.fence.pass(r.Context(), t.token); err != nil {
			s.unfit(w, t, err)
			return
		}
	}
	s.admit(w, r, t)
}

// unfit answers a token that does not pass.
func (s *Server) unfit(w http.ResponseWriter, t *task, err error) {
	var stale *staleError
	if errors.As(err, &stale) {
		s.log.Warn("a stale token was refused", "path", t.path, "name", t.token.name, "reason", stale.Error())
		refuse(w, http.StatusConflict, codeStale, stale.Error())
		return
	}
	s.log.Error("a token could not be kept: nothing that is fenced runs", "error", err)
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, codeUnavail, "the token could not be kept")
}

// read makes a task of r's headers.
func (s *Server) read(r *http.Request) (*task, error) {
	h := r.Header
	t := &task{s: s, id: h.Get(headerTask), path: r.URL.Path, key: h.Get(headerKey), received: s.env.Clock.Now(), done: make(chan struct{})}
	t.Owner, t.retry.Owner = t, &t.retry
	t.retry.t = t
	if t.id != "" {
		if err := checkTask(t.id); err != nil {
			return nil, err
		}
	}
	if cb := h.Get(headerCallback); cb != "" && t.id != "" {
		u, err := parseURL(cb)
		if err != nil {
			return nil, err
		}
		if t.callback = u; !isText(t.key, 256) {
			return nil, invalid("%s: want 1 to 256 printable characters", headerKey)
		}
	}
	limit, err := parseMillis(h, headerTimeout, defaultTimeout)
	if err != nil {
		return nil, err
	}
	t.deadline = t.received.Add(limit)
	if t.wait, err = parseMillis(h, headerWait, 0); err != nil {
		return nil, err
	}
	t.wait = min(t.wait, waitMost)
	if tok := h.Get(headerToken); tok != "" {
		if t.token, err = parseToken(tok); err != nil {
			return nil, err
		}
		t.fenced = true
	}
	t.trace = traceContext.Extract(context.Background(), propagation.HeaderCarrier(h))
	return t, nil
}

// mayCall reports whether u is where one of the agent's nodes takes callbacks.
func (s *Server) mayCall(u *url.URL) bool {
	for _, n := range s.nodes {
		if origin(n) == origin(u) && u.Path == n.Path+callbackPath && u.RawQuery == "" && u.RawPath == "" {
			return true
		}
	}
	return false
}
