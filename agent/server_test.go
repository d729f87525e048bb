package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

func queueFull(l *lab) {
	var r runs
	n := l.node("n1", nil)
	l.host("h1", func(c *agent.ServerConfig) { c.Workers, c.Queue = 1, 1 }, nap(&r))
	for i := range 2 {
		_, err := n.Start(bg, "http://h1/nap", 2.0, agent.Task(fmt.Sprint(i)))
		l.ok(err)
	}
	resp := l.send("POST", "http://h1/nap", `1`, "Drover-Task", "x")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" {
		l.Errorf("a full queue: %d, %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if got, err := agent.Call[string](bg, n.Client, "http://h1/nap", 1.0); got != "rested" || err != nil {
		l.Errorf("%q, %v", got, err)
	}
	for i := range 2 {
		_, err := n.Start(bg, "http://h1/nap", 50.0, agent.Task(fmt.Sprint("long", i)))
		l.ok(err)
	}
	before := l.count("POST http://h1/nap")
	_, err := agent.Call[string](bg, n.Client, "http://h1/nap", 1.0)
	var h *agent.HTTPError
	if !errors.As(err, &h) || h.Status != 503 || !agent.NotRun(err) || l.count("POST http://h1/nap")-before != 5 {
		l.Errorf("%d tries: %v", l.count("POST http://h1/nap")-before, err)
	}
}

func graceful(l *lab) {
	var r runs
	n := l.node("n1", nil)
	h := l.host("h1", nil, nap(&r))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if got, err := agent.Call[string](bg, n.Client, "http://h1/nap", 2.0); got != "rested" || err != nil {
				l.Errorf("%q, %v", got, err)
			}
		})
	}
	synctest.Wait()
	began := time.Now()
	var down atomic.Int32
	front := n.Handler()
	l.serve("n1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Add(1) <= 3 { // the agent waits for the node, too
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		front.ServeHTTP(w, r)
	}))
	drained := make(chan error, 1)
	go func() { drained <- h.Drain(bg) }()
	synctest.Wait()
	if s := l.send("POST", "http://h1/nap", `1`, "Drover-Task", "new").StatusCode; s != 503 {
		l.Errorf("a new task: %d", s)
	}
	l.ok(<-drained)
	l.took(began, 3*time.Second)
	wg.Wait()
	// The node's side.
	l.host("h2", nil, nap(&r))
	results := make(chan error, 2)
	for _, s := range []float64{1, 20} {
		go func() {
			_, err := agent.Call[string](bg, n.Client, "http://h2/nap", s)
			results <- err
		}()
	}
	synctest.Wait()
	ctx, cancel := context.WithTimeout(bg, 5*time.Second)
	defer cancel()
	go func() { drained <- n.Drain(ctx) }()
	synctest.Wait()
	_, err := agent.Call[string](bg, n.Client, "http://h2/nap", 1.0)
	l.is(err, agent.ErrNotSent)
	l.ok(<-results)
	l.is(<-results, agent.ErrTimeout)
	l.is(<-drained, context.DeadlineExceeded)
	stopped := l.node("n3", nil)
	stopped.stop()
	if _, err := agent.Get[string](bg, stopped.Client, "http://h2/"); !errors.Is(err, agent.ErrNotSent) {
		l.Errorf("after Run: %v", err)
	}
	if err := stopped.Run(bg); !errors.Is(err, drover.ErrUsed) {
		l.Errorf("a second Run: %v", err)
	}
	if err := h.Run(bg); !errors.Is(err, drover.ErrRunning) {
		l.Errorf("Run while it runs: %v", err)
	}
}

func redelivery(l *lab) {
	h := l.host("h1", nil, echo)
	began := time.Now()
	var mu sync.Mutex // of what follows
	var at []int
	var keys []string
	n := 0
	l.serve("n1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, int(time.Since(began).Seconds()))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	post := func(task string) {
		l.send("POST", "http://h1/echo", "1", "Drover-Task", task, "Drover-Key", "k", "Drover-Callback", "http://n1/drover/agent/callback", "Drover-Timeout", "60000")
	}
	post("a")
	time.Sleep(time.Hour)
	mu.Lock()
	if len(at) < 8 || !slices.Equal(at[:8], []int{0, 1, 3, 7, 15, 31, 61, 91}) || at[len(at)-1] < 630 || at[len(at)-1] > 660+30 {
		l.Errorf("called back after %d s", at)
	}
	mu.Unlock()
	for _, status := range []int{200, 400, 403, 404} { // the last, each
		l.serve("n1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			n++
			w.WriteHeader(status)
		}))
		post(fmt.Sprint("s", status))
		time.Sleep(time.Minute)
		mu.Lock()
		if n != 1 {
			l.Errorf("%d: called back %d times", status, n)
		}
		n = 0
		mu.Unlock()
	}
	// A node that sends the task again is the one that is called, with its key.
	l.serve("n1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		keys = append(keys, r.Header.Get("Drover-Key"))
		first := len(keys) == 1
		mu.Unlock()
		if first { // while this one is under way
			l.send("POST", "http://h1/echo", "1", "Drover-Task", "b", "Drover-Key", "new", "Drover-Callback", "http://n1/drover/agent/callback")
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	post("b")
	time.Sleep(time.Minute)
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(keys, []string{"k", "new"}) {
		l.Errorf("keys %q", keys)
	}
	l.ok(h.Drain(bg)) // nothing is left to deliver
}

func results(l *lab) {
	l.host("h1", nil, echo)
	const most = 10_000
	for i := range most + 5 {
		if s := l.send("POST", "http://h1/echo", "1", "Drover-Task", fmt.Sprint(i), "Drover-Wait", "1000").StatusCode; s != http.StatusOK {
			l.Fatalf("task %d: %d", i, s)
		}
	}
	for i, want := range map[int]int{0: 404, 4: 404, 5: 200, most + 4: 200} {
		if s := l.send("GET", fmt.Sprint("http://h1/drover/tasks/", i), "").StatusCode; s != want {
			l.Errorf("result %d of %d: %d", i, most+5, s)
		}
	}
	time.Sleep(10*time.Minute + time.Second)
	if s := l.send("GET", fmt.Sprint("http://h1/drover/tasks/", most+4), "").StatusCode; s != http.StatusNotFound {
		l.Errorf("a result after ten minutes: %d", s)
	}
}

// inUse is an error with a code of dispatch's taxonomy.
type inUse struct{}

func (inUse) Error() string     { return "the disk is in use" }
func (inUse) ErrorCode() string { return "in-use" }

func failureCodes(l *lab) {
	var left atomic.Bool
	n := l.node("n1", nil)
	l.host("h1", func(c *agent.ServerConfig) { c.MaxBody = 1000 }, func(s *agent.Server) {
		agent.Handle(s, "/x", func(ctx context.Context, what string) (any, error) {
			switch what {
			case "coded":
				return nil, fmt.Errorf("copy: %w", inUse{})
			case "plain":
				return nil, errors.New("no such luck")
			case "large":
				return make([]byte, 1000), nil
			case "odd":
				return make(chan int), nil
			case "goexit":
				runtime.Goexit()
			}
			<-ctx.Done()
			if what == "leaves" {
				left.Store(true)
				return nil, ctx.Err()
			}
			if d, ok := ctx.Deadline(); !ok || ctx.Err() == nil || time.Now().Before(d) { // the caller's cancel comes at the same time
				l.Errorf("the handler's ctx: %v, %v, %v", d, ok, ctx.Err())
			}
			return nil, ctx.Err()
		})
	})
	for what, want := range map[string]string{"coded": "in-use", "plain": "internal", "large": "too-large", "odd": "internal", "goexit": "internal"} {
		_, err := agent.Call[any](bg, n.Client, "http://h1/x", what)
		var r *agent.RemoteError
		if !errors.As(err, &r) || r.ErrorCode() != want || agent.NotRun(err) {
			l.Errorf("%s: %v", what, err)
		}
		_, err = agent.Post[any](bg, n.Client, "http://h1/x", what)
		var h *agent.HTTPError
		if !errors.As(err, &h) || h.Status != http.StatusInternalServerError || !strings.Contains(string(h.Body), want) {
			l.Errorf("%s, for one that waits: %v", what, err)
		}
	}
	_, err := agent.Call[any](bg, n.Client, "http://h1/x", "late", agent.Timeout(time.Second))
	l.is(err, agent.ErrTimeout, context.DeadlineExceeded)
	// Who waits for an answer and leaves ends the handler.
	ctx, cancel := context.WithCancel(bg)
	go func() {
		time.Sleep(time.Second)
		cancel()
	}()
	_, err = agent.Post[any](ctx, n.Client, "http://h1/x", "leaves")
	l.is(err, context.Canceled)
	synctest.Wait()
	if !left.Load() {
		l.Error("the handler goes on")
	}
}
