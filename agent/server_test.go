package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
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
	down := 0
	front := n.Handler()
	l.serve("n1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down++; down <= 3 { // the agent waits for the node, too
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
