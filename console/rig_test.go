package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/memory"
	"github.com/drover-cloud/drover/syncqueue"
)

type args struct {
	Name string `json:"name"`
	Fail string `json:"fail,omitempty"`
}

// rig is a node with a console on the memory store, in a bubble.
type rig struct {
	t       *testing.T
	db      *memory.Store
	env     drover.Env
	session *lease.Session
	queue   *syncqueue.Queue
	jobs    *job.Manager
	c       *console.Console
	log     *bytes.Buffer
	mu      sync.Mutex
	gates   map[string]chan struct{}
	stop    func()
	ended   chan error
	idle    bool // runs no jobs
}

func (r *rig) Publish(ctx context.Context, tx store.Tx, e job.Event) error {
	return r.c.Publish(ctx, tx, e)
}

// inRig runs f with a node that works; change may alter the console's configuration.
func inRig(t *testing.T, change func(*console.Config), f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &memory.Store{}, "ms1", change)
		defer r.end()
		r.run()
		f(r)
	})
}

func newRig(t *testing.T, db *memory.Store, node string, change func(*console.Config)) *rig {
	t.Helper()
	r := &rig{t: t, db: db, gates: map[string]chan struct{}{}, log: &bytes.Buffer{}}
	r.env = drover.Env{Node: node, Logger: slog.New(slog.NewTextHandler(&locked{w: r.log}, nil))}
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.session, err = lease.New(lease.Config{Env: r.env, Tx: db, Store: db.Leases(), Notify: db.Notifier()})
	check()
	r.queue, err = syncqueue.New(syncqueue.Config{Env: r.env, Tx: db, Store: db.Queues()})
	check()
	r.jobs, err = job.New(job.Config{Env: r.env, DB: db, Session: r.session, Turns: r.queue, Events: r, Queues: map[string]int{"default": 4}, Cipher: rot{}, MaxArgs: 4 << 20, MaxResult: 4 << 20})
	check()
	twice := job.Retry(func() backoff.BackOff { return backoff.NewConstantBackOff(2 * time.Second) }, 2)
	job.Handle(r.jobs, "work", func(ctx context.Context, a args) (string, error) {
		if a.Fail != "" {
			return "", job.Permanent(errors.New(a.Fail))
		}
		return "done " + a.Name, r.pass(ctx, a.Name)
	})
	job.Handle(r.jobs, "twice", r.twice, twice)
	job.Handle(r.jobs, "steps", func(ctx context.Context, a args) (string, error) {
		n, _ := strconv.Atoi(a.Name)
		for i := range n {
			if _, err := job.Step(ctx, fmt.Sprint("step ", i), func(ctx context.Context) (int, error) { return i, r.env.Defaults().Sleep(ctx, time.Millisecond) }); err != nil {
				return "", err
			}
		}
		return "", nil
	})
	job.Handle(r.jobs, "secret", func(context.Context, args) (string, error) { return "", nil }, job.Sensitive())
	job.Handle(r.jobs, "echo", func(_ context.Context, a json.RawMessage) (json.RawMessage, error) { return a, nil })
	cfg := console.Config{Env: r.env, Jobs: r.jobs, Queues: r.queue, Leases: r.session}
	if change != nil {
		change(&cfg)
	}
	r.c, err = console.New(cfg)
	check()
	return r
}

// twice fails at first, then makes three steps and parks.
func (r *rig) twice(ctx context.Context, a args) (string, error) {
	j, _ := job.FromContext(ctx)
	if j.Attempt == 0 {
		if err := r.env.Defaults().Sleep(ctx, time.Second); err != nil {
			return "", err
		}
		return "", errors.New("first try fails")
	}
	for _, s := range []string{"one", "two", "three"} {
		if _, err := job.Step(ctx, s, func(ctx context.Context) (int, error) { return 1, r.env.Defaults().Sleep(ctx, 500*time.Millisecond) }); err != nil {
			return "", err
		}
	}
	return "", job.Park(job.OnTopic("never"))
}

// rot hides nothing from anybody but a reader.
type rot struct{}

func (rot) Seal(_ context.Context, b []byte) ([]byte, error) { return flip(b), nil }
func (rot) Open(_ context.Context, b []byte) ([]byte, error) { return flip(b), nil }

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x55
	}
	return out
}

// locked is a writer that several may use.
type locked struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (r *rig) run() {
	var g drover.Group
	g.Env = r.env
	g.Add("session", r.session)
	if !r.idle {
		g.Add("jobs", r.jobs)
	}
	g.Add("console", r.c)
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.ended = stop, make(chan error, 1)
	go func() { r.ended <- g.Run(ctx) }()
	<-g.Ready()
	synctest.Wait()
}

func (r *rig) end() {
	r.mu.Lock()
	for _, c := range r.gates {
		select {
		case <-c:
		default:
			close(c)
		}
	}
	r.mu.Unlock()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("run: %v", err)
	}
}

func (r *rig) gate(name string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gates[name] == nil {
		r.gates[name] = make(chan struct{})
	}
	return r.gates[name]
}

// pass waits until the gate opens; a name beginning with ! has none.
func (r *rig) pass(ctx context.Context, name string) error {
	if strings.HasPrefix(name, "!") {
		return nil
	}
	select {
	case <-r.gate(name):
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func (r *rig) open(name string) { close(r.gate(name)); synctest.Wait() }

func (r *rig) submit(kind string, a any, more ...func(*job.Request)) *job.Job {
	r.t.Helper()
	req := job.Request{Kind: kind, Args: a, Identity: map[string]string{"account": "acme"}}
	for _, m := range more {
		m(&req)
	}
	j, err := r.jobs.Submit(context.Background(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return j
}

// on puts a job in the line of vm/id.
func on(id string) func(*job.Request) {
	return func(q *job.Request) { q.Sync, q.Resource = syncqueue.Key{Kind: "vm", ID: id}, "vm/"+id }
}

func (r *rig) get(id string) *job.Job {
	r.t.Helper()
	j, err := r.jobs.Get(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

func request(method, path, body string, header ...string) *http.Request {
	q := httptest.NewRequest(method, path, strings.NewReader(body))
	q.RemoteAddr, q.Host = "127.0.0.1:4711", "localhost:8080"
	if method == "POST" {
		q.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	return q
}

// do sends a request and gives what came back.
func do(h http.Handler, q *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w
}

func (r *rig) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	w := do(r.c, request(method, path, body, header...))
	synctest.Wait()
	return w
}

// ask sends a request, wants that status and decodes what came.
func (r *rig) ask(status int, method, path, body string) (v map[string]any) {
	r.t.Helper()
	w := r.do(method, path, body)
	if w.Code != status {
		r.t.Fatalf("%s %s: %d, want %d: %.400s", method, path, w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		r.t.Fatalf("%s %s: %v: %.200s", method, path, err, w.Body)
	}
	return v
}

func items(v map[string]any) (out []map[string]any) {
	list, _ := v["items"].([]any)
	for _, i := range list {
		out = append(out, i.(map[string]any))
	}
	return out
}

func text(v map[string]any, path ...string) string {
	var at any = v
	for _, p := range path {
		m, _ := at.(map[string]any)
		at = m[p]
	}
	s, _ := at.(string)
	return s
}
