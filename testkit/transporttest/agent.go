package transporttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// AgentHost is an agent under test, over HTTP. It serves what [ServeAgent] does.
type AgentHost interface {
	// URL is http://host:port, the same in all its lives.
	URL() string
	// Restart kills it without notice and starts a new one there, with the same state file.
	Restart(t testing.TB)
	// Drain stops it gracefully: it takes no new tasks, and returns when all results are delivered.
	Drain(ctx context.Context) error
}

// Agent checks the agents that open gives, which may call back to nodes; each check has its own.
func Agent(t *testing.T, open func(t testing.TB, nodes ...string) AgentHost) {
	for _, c := range []struct {
		name string
		run  func(b *bench)
	}{
		{"agent-01 typed results", benchTyped},
		{"agent-02 two hundred at once", benchMany},
		{"agent-03 failures at once", benchFailures},
		{"agent-04 callbacks", benchCallbacks},
		{"agent-05 timeout", benchTimeout},
		{"agent-06 the agent is told", benchTold},
		{"agent-13 lost callback", benchLostCallback},
		{"agent-14 restarted agent", benchRestarted},
		{"agent-15 the same task twice", benchTwice},
		{"agent-18 fencing", benchFencing},
		{"agent-22 panic", benchPanic},
		{"agent-23 graceful stop", benchDrain},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := &bench{TB: t, poll: time.Second}
			b.node = httptest.NewServer(http.HandlerFunc(b.serve))
			t.Cleanup(b.node.Close)
			b.Client = b.client(agent.Config{Poll: b.poll})
			b.host = open(t, b.node.URL)
			c.run(b)
		})
	}
}

// agentNote is the body of the suite's commands.
type agentNote struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

// ServeAgent registers what the checks call: /test/echo gives what it is given; /test/nap does so after n milliseconds; /test/wait ends when /test/release names it;
// /test/hang ends with its context; /test/panic panics; /test/seen tells how often wait and hang of a name have begun (n), and
// whether one has ended with its context (name "ended").
func ServeAgent(s *agent.Server) {
	d := &deck{released: map[string]chan struct{}{}}
	agent.Handle(s, "/test/echo", func(_ context.Context, v json.RawMessage) (json.RawMessage, error) { return v, nil })
	agent.Handle(s, "/test/nap", func(ctx context.Context, n agentNote) (agentNote, error) {
		d.begun.add(n.Name)
		select {
		case <-time.After(time.Duration(n.N) * time.Millisecond):
			return n, nil
		case <-ctx.Done():
			return n, ctx.Err()
		}
	})
	agent.Handle(s, "/test/panic", func(context.Context, json.RawMessage) (string, error) { panic("a secret reason") })
	agent.Handle(s, "/test/wait", func(ctx context.Context, n agentNote) (agentNote, error) {
		d.begun.add(n.Name)
		select {
		case <-d.gate(n.Name):
			return n, nil
		case <-ctx.Done():
			d.ended.add(n.Name)
			return n, ctx.Err()
		}
	})
	agent.Handle(s, "/test/release", func(_ context.Context, n agentNote) (agentNote, error) {
		d.once.Lock()
		defer d.once.Unlock()
		select {
		case <-d.gate(n.Name):
		default:
			close(d.gate(n.Name))
		}
		return n, nil
	})
	agent.Handle(s, "/test/hang", func(ctx context.Context, n agentNote) (agentNote, error) {
		d.begun.add(n.Name)
		<-ctx.Done()
		d.ended.add(n.Name)
		return n, ctx.Err()
	})
	agent.Handle(s, "/test/seen", func(_ context.Context, n agentNote) (agentNote, error) {
		out := agentNote{N: d.begun.of(n.Name)}
		if d.ended.of(n.Name) > 0 {
			out.Name = "ended"
		}
		return out, nil
	})
}

// deck is what handlers of the suite remember.
type deck struct {
	begun, ended tally
	once         sync.Mutex
	mu           sync.Mutex
	released     map[string]chan struct{}
}

func (d *deck) gate(name string) chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.released[name] == nil {
		d.released[name] = make(chan struct{})
	}
	return d.released[name]
}

// bench is a node and an agent.
type bench struct {
	testing.TB
	*agent.Client
	host AgentHost
	node *httptest.Server
	poll time.Duration
	drop atomic.Int32 // callbacks to answer 503; then 400
}

func (b *bench) serve(w http.ResponseWriter, r *http.Request) {
	if n := b.drop.Load(); n > 0 {
		status := http.StatusServiceUnavailable
		if n == 1 {
			status = http.StatusBadRequest
		} else {
			b.drop.Add(-1)
		}
		w.WriteHeader(status)
		return
	}
	b.Handler().ServeHTTP(w, r)
}

// client makes a client that runs until the check ends.
func (b *bench) client(cfg agent.Config) *agent.Client {
	b.Helper()
	cfg.Callback = b.node.URL
	cfg.Env = drover.Env{Logger: slog.New(slog.DiscardHandler)}
	c, err := agent.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("Run: %v", err)
		}
	})
	return c
}

func (b *bench) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("got %v, want %v", err, want)
	}
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// eventually waits for ok, generously.
func (b *bench) eventually(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("never: " + what)
		}
	}
}

func (b *bench) seen(name string) (begun int, ended bool) {
	b.Helper()
	n, err := agent.Post[agentNote](context.Background(), b.Client, b.host.URL()+"/test/seen", agentNote{Name: name}, agent.Idempotent())
	b.ok(err)
	return n.N, n.Name == "ended"
}

// begun waits until a handler has begun.
func (b *bench) begun(name string) {
	b.Helper()
	b.eventually(name+" begins", func() bool {
		n, _ := b.seen(name)
		return n > 0
	})
}

func (b *bench) release(name string) {
	b.Helper()
	_, err := agent.Post[agentNote](context.Background(), b.Client, b.host.URL()+"/test/release", agentNote{Name: name}, agent.Idempotent())
	b.ok(err)
}

// send is a request by hand; it answers status and body.
func (b *bench) send(method, url, body string, header ...string) (int, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	b.ok(err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	b.ok(err)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	b.ok(err)
	return resp.StatusCode, string(out)
}

func benchTyped(b *bench) {
	ctx := context.Background()
	s, err := agent.Call[string](ctx, b.Client, b.host.URL()+"/test/echo", "żółć 虚拟机")
	if err != nil || s != "żółć 虚拟机" {
		b.Errorf("%q, %v", s, err)
	}
	n, err := agent.Call[agentNote](ctx, b.Client, b.host.URL()+"/test/echo", agentNote{"vm", 7})
	if err != nil || n != (agentNote{"vm", 7}) {
		b.Errorf("%+v, %v", n, err)
	}
	p, err := agent.Call[*agentNote](ctx, b.Client, b.host.URL()+"/test/echo", nil)
	if err != nil || p != nil {
		b.Errorf("%+v, %v", p, err)
	}
	if _, err := agent.Call[int](ctx, b.Client, b.host.URL()+"/test/echo", "no number"); !errors.Is(err, agent.ErrBadReply) {
		b.Errorf("another type: %v", err)
	}
}

func benchMany(b *bench) {
	var wg sync.WaitGroup
	const calls = 200
	for i := range calls {
		wg.Go(func() { b.naps(i) })
	}
	wg.Wait()
	if p := b.Pending(); len(p) > 0 {
		b.Errorf("%d waiters left", len(p))
	}
	b.eventually("no goroutine of a call is left", func() bool {
		buf := make([]byte, 1<<20)
		return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "transporttest.(*bench).naps")
	})
}

// naps is one of many calls, which end in another order than they began.
func (b *bench) naps(i int) {
	note := agentNote{fmt.Sprint(i), i * 7 % 50}
	got, err := agent.Call[agentNote](context.Background(), b.Client, b.host.URL()+"/test/nap", note)
	if err != nil || got != note {
		b.Errorf("call %d: %+v, %v", i, got, err)
	}
}

func benchFailures(b *bench) {
	ctx := context.Background()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer broken.Close()
	began := time.Now()
	_, err := agent.Call[string](ctx, b.Client, broken.URL+"/x", 1)
	var h *agent.HTTPError
	if !errors.As(err, &h) || h.Status != 500 || !strings.Contains(string(h.Body), "out of order") || strings.Contains(err.Error(), "out of") {
		b.Errorf("500: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second { // of a timeout of 60
		b.Errorf("500 took %v", took)
	}
	var conns atomic.Int32
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	b.ok(err)
	url := "http://" + shut.Addr().String()
	shut.Close()
	c := b.client(agent.Config{HTTP: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conns.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}})
	_, err = agent.Call[string](ctx, c, url+"/x", 1)
	if !errors.Is(err, agent.ErrNotSent) || !agent.NotRun(err) || conns.Load() != 5 {
		b.Errorf("refused: %v after %d tries", err, conns.Load())
	}
}

func benchCallbacks(b *bench) {
	// An agent that only takes note of what it is told.
	told := make(chan http.Header, 8)
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			told <- r.Header
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"task":%q,"state":"running"}`, r.Header.Get("Drover-Task"))
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer mute.Close()
	call := func(timeout time.Duration) (http.Header, chan error) {
		done := make(chan error, 1)
		go func() {
			v, err := agent.Call[string](context.Background(), b.Client, mute.URL+"/x", 1, agent.Timeout(timeout))
			if err == nil && v != "mine" {
				err = errors.New("got " + v)
			}
			done <- err
		}()
		return <-told, done
	}
	back := func(h http.Header, key, body string) int {
		status, _ := b.send(http.MethodPost, h.Get("Drover-Callback"), body, "Drover-Task", h.Get("Drover-Task"), "Drover-Key", key)
		return status
	}
	h, done := call(2 * time.Second)
	if status, _ := b.send(http.MethodPost, h.Get("Drover-Callback"), `{"result":"mine"}`, "Drover-Key", h.Get("Drover-Key")); status != 400 {
		b.Errorf("without an id: %d", status)
	}
	if status, _ := b.send(http.MethodPost, h.Get("Drover-Callback"), `{"result":"stray"}`, "Drover-Task", "nobody", "Drover-Key", "k"); status != 404 {
		b.Errorf("an unknown id: %d", status)
	}
	if s := b.Strays(); len(s) != 1 || s[0].Task != "nobody" || string(s[0].Body) != `{"result":"stray"}` {
		b.Errorf("kept %+v", s)
	}
	if status := back(h, strings.Repeat("0", 64), `{"result":"theirs"}`); status != 403 {
		b.Errorf("a wrong key: %d", status)
	}
	b.is(<-done, agent.ErrTimeout)
	h, done = call(time.Minute)
	if len(h.Get("Drover-Key")) != 64 {
		b.Errorf("a key of %d characters", len(h.Get("Drover-Key")))
	}
	if status := back(h, h.Get("Drover-Key"), `{"result":"mine"}`); status != 200 {
		b.Errorf("the callback: %d", status)
	}
	b.ok(<-done)
	if status := back(h, h.Get("Drover-Key"), `{"result":"again"}`); status != 200 {
		b.Errorf("a second callback: %d", status)
	}
	if status := back(h, "wrong", `{"result":"again"}`); status != 403 {
		b.Errorf("a second callback with a wrong key: %d", status)
	}
}

func benchTimeout(b *bench) {
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, `{}`)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer mute.Close()
	began := time.Now()
	_, err := agent.Call[string](context.Background(), b.Client, mute.URL+"/x", 1, agent.Timeout(3*time.Second))
	b.is(err, agent.ErrTimeout)
	b.is(err, context.DeadlineExceeded)
	if took := time.Since(began); took < 3*time.Second {
		b.Errorf("it took %v", took)
	}
}

func benchTold(b *bench) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := agent.Call[agentNote](ctx, b.Client, b.host.URL()+"/test/hang", agentNote{Name: "left"})
		done <- err
	}()
	b.begun("left")
	cancel()
	err := <-done
	b.is(err, context.Canceled)
	if agent.NotRun(err) {
		b.Errorf("%v says that it did not run", err)
	}
	b.eventually("the handler of a caller that left ends", func() bool {
		_, ended := b.seen("left")
		return ended
	})
	_, err = agent.Call[agentNote](context.Background(), b.Client, b.host.URL()+"/test/hang", agentNote{Name: "late"}, agent.Timeout(time.Second))
	b.is(err, agent.ErrTimeout)
	b.eventually("the handler of a call that is over ends", func() bool {
		_, ended := b.seen("late")
		return ended
	})
	_, err = agent.Call[int](context.Background(), b.Client, b.host.URL()+"/test/echo", 1, agent.Task("over"))
	b.ok(err)
	if status, _ := b.send(http.MethodDelete, b.host.URL()+"/drover/tasks/over", ""); status != 200 {
		b.Errorf("cancel of a task that is done: %d", status)
	}
	if status, _ := b.send(http.MethodDelete, b.host.URL()+"/drover/tasks/never", ""); status != 404 {
		b.Errorf("cancel of a task that never was: %d", status)
	}
}

func benchLostCallback(b *bench) {
	b.drop.Store(4) // three times 503, then 400: the agent gives up
	began := time.Now()
	got, err := agent.Call[string](context.Background(), b.Client, b.host.URL()+"/test/echo", "by poll")
	if err != nil || got != "by poll" {
		b.Fatalf("%q, %v", got, err)
	}
	if took := time.Since(began); took < b.poll/2 {
		b.Errorf("a result without callback or poll, after %v", took)
	}
}

func benchRestarted(b *bench) {
	task, err := b.Start(context.Background(), b.host.URL()+"/test/hang", agentNote{Name: "x"})
	b.ok(err)
	b.host.Restart(b)
	_, err = agent.Wait[agentNote](context.Background(), b.Client, task)
	b.is(err, agent.ErrTaskLost)
}

func benchTwice(b *bench) {
	var wg sync.WaitGroup
	for range 4 { // also concurrently
		wg.Go(func() {
			got, err := agent.Call[agentNote](context.Background(), b.Client, b.host.URL()+"/test/wait", agentNote{"one", 5}, agent.Task("twice/a"))
			if err != nil || got.N != 5 {
				b.Errorf("%+v, %v", got, err)
			}
		})
	}
	b.begun("one")
	post := func() (int, string) {
		return b.send(http.MethodPost, b.host.URL()+"/test/wait", `{"name":"one","n":5}`, "Drover-Task", "twice/a")
	}
	if status, body := post(); status != 202 || !strings.Contains(body, `"running"`) {
		b.Errorf("while it runs: %d %s", status, body)
	}
	b.release("one")
	wg.Wait()
	if status, body := post(); status != 200 || !strings.Contains(body, `"n":5`) {
		b.Errorf("when it has ended: %d %s", status, body)
	}
	got, err := agent.Call[agentNote](context.Background(), b.Client, b.host.URL()+"/test/wait", agentNote{"one", 5}, agent.Task("twice/a"))
	if err != nil || got.N != 5 {
		b.Errorf("%+v, %v", got, err)
	}
	if n, _ := b.seen("one"); n != 1 {
		b.Errorf("the handler ran %d times", n)
	}
}

func benchFencing(b *bench) {
	runs := 0
	call := func(name, store string, epoch int64) error {
		runs++
		_, err := agent.Call[int](context.Background(), b.Client, b.host.URL()+"/test/echo", 1, agent.Token(name, store, epoch))
		return err
	}
	stale := func(what string, err error) {
		b.Helper()
		if !errors.Is(err, agent.ErrStale) || !agent.NotRun(err) {
			b.Errorf("%s: %v, want ErrStale", what, err)
		}
	}
	b.ok(call("vm/1", "db.3", 7))
	stale("a lower epoch", call("vm/1", "db.3", 6))
	b.ok(call("vm/1", "db.3", 7))
	b.host.Restart(b)
	b.ok(b.Ready(context.Background(), b.host.URL()))
	stale("a lower epoch after a restart", call("vm/1", "db.3", 6))
	b.ok(call("vm/1", "db.4", 1))
	stale("a lower incarnation", call("vm/1", "db.3", 99))
	stale("another database", call("vm/1", "other.9", 100))
	stale("another database, another name", call("vm/3", "other.9", 100))
	b.ok(call("vm/2", "db.4", 1))
}

func benchPanic(b *bench) {
	_, err := agent.Call[string](context.Background(), b.Client, b.host.URL()+"/test/panic", 1)
	var r *agent.RemoteError
	if !errors.As(err, &r) || r.Code != "internal" || r.Text != "handler panicked" {
		b.Errorf("%v", err)
	}
	if got, err := agent.Call[int](context.Background(), b.Client, b.host.URL()+"/test/echo", 1); got != 1 || err != nil {
		b.Errorf("the next call: %d, %v", got, err)
	}
}

func benchDrain(b *bench) {
	var wg sync.WaitGroup
	for i := range 3 {
		name := fmt.Sprint("nap-", i)
		wg.Go(func() {
			got, err := agent.Call[agentNote](context.Background(), b.Client, b.host.URL()+"/test/nap", agentNote{name, 1500})
			if err != nil || got.Name != name {
				b.Errorf("call %d: %+v, %v", i, got, err)
			}
		})
	}
	for i := range 3 {
		b.begun(fmt.Sprint("nap-", i))
	}
	drained := make(chan error, 1)
	go func() { drained <- b.host.Drain(context.Background()) }()
	b.eventually("a new task is refused", func() bool {
		status, _ := b.send(http.MethodPost, b.host.URL()+"/test/echo", "1", "Drover-Task", "new")
		return status == http.StatusServiceUnavailable
	})
	b.ok(<-drained)
	wg.Wait()
}
