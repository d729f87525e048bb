package native

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/examples/refserver/limits"
	"github.com/drover-cloud/drover/job"
)

// Operations is the API of everything that is no command; *console.Console is one.
type Operations interface {
	API() http.Handler
	OpenAPI() ([]byte, error)
}

// Config of a Face. Registry, Jobs, Keys and Operations are required.
type Config struct {
	Env        drover.Env
	Registry   *dispatch.Registry
	Jobs       *job.Manager
	Keys       csapi.Keys
	Operations Operations
	MaxWaits   int // requests that wait for the end of a job at once; default 4096

	// Authenticate knows callers by other means than keys, such as certificates and cookies, and what their requests are counted
	// by. A nil caller = it does not know.
	Authenticate func(r *http.Request) (key string, caller any, err error)
	Rate         *limits.Buckets              // of a key's requests; nil = none
	Refused      *limits.Failures             // failed authentications of an address; nil = none
	Address      func(r *http.Request) string // of the client; nil = of the connection
}

// Face serves /v1.
type Face struct {
	cfg   Config
	env   drover.Env
	mux   *http.ServeMux
	cross *http.CrossOriginProtection
	decoy []byte
	waits chan struct{}

	mu       sync.Mutex
	draining chan struct{} // closed: nobody waits
	once     sync.Once
	known    map[string]dispatch.CommandInfo // by name, and by name@version
}

// New makes the face. Commands may be registered until the first request.
func New(cfg Config) (*Face, error) {
	if cfg.Registry == nil || cfg.Jobs == nil || cfg.Keys == nil || cfg.Operations == nil {
		return nil, fmt.Errorf("native: %w: Registry, Jobs, Keys and Operations are required", drover.ErrConfig)
	}
	if cfg.MaxWaits <= 0 {
		cfg.MaxWaits = 4096
	}
	f := &Face{
		cfg: cfg, env: cfg.Env.Defaults(), mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(), decoy: make([]byte, 32),
		waits: make(chan struct{}, cfg.MaxWaits), draining: make(chan struct{}),
	}
	_, _ = rand.Read(f.decoy) // never fails
	f.handle("GET /v1/commands", f.catalogue)
	f.handle("GET /v1/commands/{name}", f.get)
	f.handle("POST /v1/commands/{name}", f.post)
	f.handle("GET /v1/vms", f.listing("listVirtualMachines"))
	f.handle("GET /v1/vms/{id}", f.one("listVirtualMachines"))
	f.handle("GET /v1/audit", f.listing("listEvents"))
	f.handle("GET /v1/openapi.json", f.openAPI)
	f.mux.Handle("/v1/", cfg.Operations.API())
	return f, nil
}

// Drain makes every request that waits for a job be answered now, and later ones at once.
func (f *Face) Drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.draining:
	default:
		close(f.draining)
	}
}

// Reopen is the end of Drain.
func (f *Face) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.draining:
		f.draining = make(chan struct{})
	default:
	}
}

func (f *Face) drained() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.draining
}

type callerKey struct{}

// CallerOf is who sent the request that ctx belongs to; nil if it came by another way.
func CallerOf(ctx context.Context) any { return ctx.Value(callerKey{}) }

// ServeHTTP answers one request. Every failure is a problem, a panic too.
func (f *Face) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, traceID := csapi.Traced(r)
	h := w.Header()
	h.Set("X-Trace-Id", traceID)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // the very value
				panic(v)
			}
			f.env.Logger.ErrorContext(ctx, "native: panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			f.problem(w, r.WithContext(ctx), dispatch.Errorf(dispatch.Internal, "internal error"))
		}
	}()
	if err := f.cross.Check(r); err != nil {
		f.problem(w, r.WithContext(ctx), dispatch.Errorf(dispatch.Forbidden, "a request from another site is refused"))
		return
	}
	caller, err := f.authenticate(r)
	if err != nil {
		f.problem(w, r.WithContext(ctx), err)
		return
	}
	f.mux.ServeHTTP(w, r.WithContext(context.WithValue(ctx, callerKey{}, caller)))
}

// handle mounts a route whose error is a problem.
func (f *Face) handle(pattern string, do func(w http.ResponseWriter, r *http.Request) error) {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := do(w, r); err != nil {
			f.problem(w, r, err)
		}
	})
	method, path, _ := strings.Cut(pattern, " ")
	if method == http.MethodPost || path == "/v1/commands/{name}" {
		return
	}
	f.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { f.problem(w, r, wrongMethod(w, "GET")) })
}

// commands are all by name; it seals the registry.
func (f *Face) commands() map[string]dispatch.CommandInfo {
	f.once.Do(func() {
		f.known = map[string]dispatch.CommandInfo{}
		for _, c := range f.cfg.Registry.Catalog(context.Background(), map[string]string{"roles": "admin"}) {
			f.known[c.Name+"@"+c.Version] = c
			if c.Deprecated == "" { // they come by rising version
				f.known[c.Name] = c
			}
		}
	})
	return f.known
}
