package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// lab is a network in virtual time, with nodes and hosts on it.
type lab struct {
	testing.TB
	mu    sync.Mutex
	at    map[string]http.Handler
	fault func(r *http.Request) error // of a request that does not arrive
	seen  []string                    // method and URL of each that does
}

var quiet = slog.New(slog.DiscardHandler)

// bubble runs f in virtual time.
func bubble(t *testing.T, name string, f func(l *lab)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(&lab{TB: t, at: map[string]http.Handler{}}) })
	})
}

// serve puts h at a host; nil: nobody is there.
func (l *lab) serve(host string, h http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[host] = h
}

func (l *lab) break_(f func(r *http.Request) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

// count is how many requests with this beginning have arrived.
func (l *lab) count(prefix string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.seen {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// hang is a fault: the request is swallowed.
func hang(r *http.Request) error {
	<-r.Context().Done()
	return r.Context().Err()
}

// RoundTrip has whoever is at r's host serve it.
func (l *lab) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	h, fault := l.at[r.URL.Host], l.fault
	l.mu.Unlock()
	if fault != nil {
		if err := fault(r); err != nil {
			return nil, err
		}
	}
	if h == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	l.mu.Lock()
	l.seen = append(l.seen, r.Method+" "+r.URL.String())
	l.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.Body, in.RequestURI, in.RemoteAddr = io.NopCloser(bytes.NewReader(body)), r.URL.RequestURI(), "192.0.2.1:7"
	in.ContentLength = r.ContentLength
	rec := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(rec, in)
	}()
	select {
	case <-done:
		return rec.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

type node struct {
	*agent.Client
	stop func()
}

// node starts a client whose callbacks come to http://name.
func (l *lab) node(name string, set func(c *agent.Config)) *node {
	l.Helper()
	cfg := agent.Config{Env: drover.Env{Node: name, Logger: quiet}, Callback: "http://" + name, HTTP: l}
	if set != nil {
		set(&cfg)
	}
	c, err := agent.New(cfg)
	if err != nil {
		l.Fatal(err)
	}
	l.serve(name, c.Handler())
	return &node{c, l.run(c)}
}

// run runs a component until the test, or stop, ends it.
func (l *lab) run(c drover.Component) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.Errorf("Run: %v", err)
		}
	})
	l.Cleanup(stop)
	return stop
}

type host struct {
	*agent.Server
	stop func()
}

// host starts an agent at http://name, which knows the node n1.
func (l *lab) host(name string, set func(c *agent.ServerConfig), handlers ...func(s *agent.Server)) *host {
	l.Helper()
	cfg := agent.ServerConfig{Env: drover.Env{Node: name, Logger: quiet}, Nodes: []string{"http://n1"}, HTTP: l}
	if set != nil {
		set(&cfg)
	}
	s, err := agent.NewServer(cfg)
	if err != nil {
		l.Fatal(err)
	}
	for _, f := range handlers {
		f(s)
	}
	h := &host{s, l.run(s)}
	synctest.Wait() // it serves once it runs
	l.serve(name, s)
	return h
}

func (l *lab) is(err error, want ...error) {
	l.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			l.Fatalf("got %v, want %v", err, w)
		}
	}
}

func (l *lab) ok(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// took fails unless it is want since began, give or take a millisecond for jitter of the clock.
func (l *lab) took(began time.Time, want time.Duration) {
	l.Helper()
	if d := time.Since(began) - want; d < -time.Millisecond || d > time.Millisecond {
		l.Errorf("it took %v, want %v", time.Since(began), want)
	}
}

// runs counts what handlers did.
type runs struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *runs) add(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]int{}
	}
	r.n[name]++
}

func (r *runs) of(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[name]
}

func echo(s *agent.Server) {
	agent.Handle(s, "/echo", func(_ context.Context, v any) (any, error) { return v, nil })
}

// nap answers its command after that many seconds; the end of its ctx ends it.
func nap(r *runs) func(s *agent.Server) {
	return func(s *agent.Server) {
		agent.Handle(s, "/nap", func(ctx context.Context, seconds float64) (string, error) {
			r.add("begun")
			select {
			case <-time.After(time.Duration(seconds * float64(time.Second))):
				r.add("done")
				return "rested", nil
			case <-ctx.Done():
				r.add("stopped")
				return "", context.Cause(ctx)
			}
		})
	}
}

// taken is an agent that accepts every task and does nothing.
type taken struct {
	mu   sync.Mutex
	reqs []*http.Request
	body []string
	poll int // status of polls
}

func (a *taken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(a.poll)
		return
	}
	b, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.reqs, a.body = append(a.reqs, r), append(a.body, string(b))
	a.mu.Unlock()
	w.Header().Set("Drover-Agent", "boot")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"state":"running"}`)
}

// last is the latest request.
func (a *taken) last() *http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reqs[len(a.reqs)-1]
}

// back calls back for the request r, and gives the status.
func (l *lab) back(r *http.Request, key, body string) int {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.Header.Get("Drover-Callback"), strings.NewReader(body))
	l.ok(err)
	req.Header.Set("Drover-Task", r.Header.Get("Drover-Task"))
	req.Header.Set("Drover-Key", key)
	resp, err := l.RoundTrip(req)
	l.ok(err)
	return resp.StatusCode
}

// send is a request by hand.
func (l *lab) send(method, url, body string, header ...string) *http.Response {
	l.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	l.ok(err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := l.RoundTrip(r)
	l.ok(err)
	return resp
}
