package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/agent"
)

// races lets callback, poll, timeout and cancel come at the same instant: whoever waits for the task hears the same.
func races(l *lab) {
	const rounds = 10_000
	n := l.node("n1", func(c *agent.Config) { c.Poll = time.Second })
	a := &taken{poll: http.StatusAccepted}
	l.serve("h1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"state":"done","result":"poll"}`))
			return
		}
		a.ServeHTTP(w, r)
	}))
	got := map[string]int{}
	for range rounds {
		task, err := n.Start(bg, "http://h1/x", 1, agent.Timeout(time.Second))
		l.ok(err)
		req := a.last()
		l.mu.Lock()
		l.seen = nil
		l.mu.Unlock()
		a.mu.Lock()
		a.reqs, a.body = nil, nil
		a.mu.Unlock()
		heard := make([]string, 3)
		ctx, cancel := context.WithTimeout(bg, time.Second)
		var wg sync.WaitGroup
		for i := range heard {
			wg.Go(func() {
				v, err := agent.Wait[string](bg, n.Client, task)
				heard[i] = fmt.Sprint(v, err)
			})
		}
		synctest.Wait()
		wg.Go(func() {
			time.Sleep(time.Second)
			l.back(req, req.Header.Get("Drover-Key"), `{"result":"callback"}`)
		})
		wg.Go(func() {
			<-ctx.Done()
			_ = n.Cancel(bg, task)
		})
		wg.Wait()
		cancel()
		if heard[0] != heard[1] || heard[0] != heard[2] {
			l.Fatalf("one task, results %q", heard)
		}
		got[heard[0]]++
	}
	if len(got) < 2 {
		l.Errorf("no race: %v", got)
	}
	if p := n.Pending(); len(p) > 0 {
		l.Errorf("%d are left", len(p))
	}
}

func lostCallback(l *lab) {
	var r runs
	n := l.node("n1", nil)
	l.host("h1", nil, nap(&r))
	lost := 0
	front := n.Handler()
	l.serve("n1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lost++; lost <= 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if lost == 4 {
			w.WriteHeader(http.StatusBadRequest) // the agent gives up
			return
		}
		front.ServeHTTP(w, r)
	}))
	began := time.Now()
	got, err := agent.Call[string](bg, n.Client, "http://h1/nap", 1.0)
	if got != "rested" || err != nil {
		l.Errorf("%q, %v", got, err)
	}
	l.took(began, 15*time.Second)
	if lost != 4 || l.count("GET http://h1/drover/tasks/") != 1 {
		l.Errorf("%d callbacks, %d polls", lost, l.count("GET"))
	}
}

func restarted(l *lab) {
	var r runs
	n := l.node("n1", nil)
	h := l.host("h1", nil, nap(&r))
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := agent.Call[string](bg, n.Client, "http://h1/nap", 30.0, agent.Task("a"))
		done <- err
	}()
	time.Sleep(5 * time.Second)
	l.break_(func(r *http.Request) error {
		if r.URL.Host == "n1" {
			return syscall.ECONNREFUSED
		}
		return nil
	})
	h.stop()
	l.host("h1", nil, nap(&r))
	err := <-done
	l.is(err, agent.ErrTaskLost)
	if agent.NotRun(err) {
		l.Errorf("%v says that it did not run", err)
	}
	l.took(began, 15*time.Second)
	// The boot id tells as well, where the new agent has a task of the same id.
	go func() {
		_, err := agent.Call[string](bg, n.Client, "http://h1/nap", 30.0, agent.Task("b"))
		done <- err
	}()
	synctest.Wait()
	l.serve("h1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Drover-Agent", "another life")
		_, _ = w.Write([]byte(`{"state":"running"}`))
	}))
	l.is(<-done, agent.ErrTaskLost)
}

func twice(l *lab) {
	var r runs
	n := l.node("n1", nil)
	m := l.node("n2", func(c *agent.Config) { c.Callback = "http://n2" })
	l.host("h1", func(c *agent.ServerConfig) { c.Nodes = []string{"http://n1", "http://n2/"} }, nap(&r))
	var wg sync.WaitGroup
	for _, c := range []*agent.Client{n.Client, n.Client, m.Client, m.Client} { // two of one node, and of two nodes
		wg.Go(func() {
			began := time.Now()
			got, err := agent.Call[string](bg, c, "http://h1/nap", 5.0, agent.Task("one"))
			if got != "rested" || err != nil {
				l.Errorf("%q, %v", got, err)
			}
			if d := time.Since(began); d > 15*time.Second {
				l.Errorf("it took %v", d)
			}
		})
	}
	wg.Wait()
	if got, err := agent.Call[string](bg, m.Client, "http://h1/nap", 5.0, agent.Task("one")); got != "rested" || err != nil {
		l.Errorf("afterwards: %q, %v", got, err)
	}
	if r.of("begun") != 1 {
		l.Errorf("the handler ran %d times", r.of("begun"))
	}
	time.Sleep(11 * time.Minute) // results are kept for ten
	if s := l.send("GET", "http://h1/drover/tasks/one", "").StatusCode; s != 404 {
		l.Errorf("a result after 11 minutes: %d", s)
	}
	if resp := l.send("POST", "http://h1/nap", `1`, "Drover-Task", "wait", "Drover-Wait", "2000"); resp.StatusCode != http.StatusOK {
		l.Errorf("a result within Drover-Wait: %d", resp.StatusCode)
	}
	if resp := l.send("POST", "http://h1/nap", `3`, "Drover-Task", "wait2", "Drover-Wait", "2000"); resp.StatusCode != http.StatusAccepted {
		l.Errorf("no result within Drover-Wait: %d", resp.StatusCode)
	}
}
