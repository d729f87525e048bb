package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

func TestSpec(t *testing.T) {
	bubble(t, "agent-03 failures", failures)
	bubble(t, "agent-04 strays", strays)
	bubble(t, "agent-05 timeout to the second", timeouts)
	bubble(t, "agent-06 the agent is told", told)
	bubble(t, "agent-07 no time", noTime)
	bubble(t, "agent-08 bad replies", badReplies)
	bubble(t, "agent-09 length in bytes", lengths)
	bubble(t, "agent-10 races", races)
	bubble(t, "agent-11 tries", tries)
	bubble(t, "agent-12 a black-holed host", blackHole)
	bubble(t, "agent-13 lost callback", lostCallback)
	bubble(t, "agent-14 restarted agent", restarted)
	bubble(t, "agent-15 the same task twice", twice)
	bubble(t, "agent-19 commands", commands)
	bubble(t, "agent-20 ready", ready)
	bubble(t, "agent-21 queue full", queueFull)
	bubble(t, "agent-23 graceful stop", graceful)
}

var bg = context.Background()

func failures(l *lab) {
	n := l.node("n1", nil)
	l.serve("h1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write(make([]byte, 10_000))
	}))
	began := time.Now()
	_, err := agent.Call[string](bg, n.Client, "http://h1/x", 1)
	var h *agent.HTTPError
	if !errors.As(err, &h) || h.Status != 500 || len(h.Body) != 4<<10 || l.count("POST http://h1") != 1 || agent.NotRun(err) {
		l.Errorf("500: %v", err)
	}
	l.took(began, 0)
	dials := 0
	l.break_(func(r *http.Request) error {
		if r.URL.Host == "h2" {
			dials++
		}
		return nil
	})
	_, err = agent.Call[string](bg, n.Client, "http://h2/x", 1) // nobody is there
	l.is(err, agent.ErrNotSent, syscall.ECONNREFUSED)
	if d := time.Since(began); dials != 5 || d < 1500*time.Millisecond || d > 4500*time.Millisecond || !agent.NotRun(err) {
		l.Errorf("refused: %d tries in %v: %v", dials, d, err)
	}
	l.break_(func(*http.Request) error { return syscall.ECONNRESET }) // who knows whether it arrived
	_, err = agent.Call[string](bg, n.Client, "http://h1/x", 1)
	l.is(err, agent.ErrTaskLost)
	if agent.NotRun(err) {
		l.Errorf("%v says that it did not run", err)
	}
	l.break_(nil)
	for _, c := range []struct {
		what, url string
		cmd       any
		opts      []agent.Option
	}{
		{"scheme", "ftp://h1/", 1, nil}, {"no host", "http:///x", 1, nil}, {"credentials", "http://u:p@h1/", 1, nil}, {"no URL", ":", 1, nil},
		{"command", "http://h1/", make(chan int), nil}, {"large", "http://h1/", strings.Repeat("x", 1<<20), nil},
		{"task", "http://h1/", 1, []agent.Option{agent.Task("a b")}}, {"task path", "http://h1/", 1, []agent.Option{agent.Task("a/../b")}},
		{"token", "http://h1/", 1, []agent.Option{agent.Token("", "db.1", 1)}}, {"store", "http://h1/", 1, []agent.Option{agent.Token("n", "d;b", 1)}},
		{"header", "http://h1/", 1, []agent.Option{agent.Header("X Y", "z")}}, {"header value", "http://h1/", 1, []agent.Option{agent.Header("X", "a\nb")}},
		{"timeout", "http://h1/", 1, []agent.Option{agent.Timeout(-1)}},
	} {
		if _, err := agent.Call[string](bg, n.Client, c.url, c.cmd, c.opts...); !errors.Is(err, agent.ErrInvalid) || !agent.NotRun(err) {
			l.Errorf("%s: %v", c.what, err)
		}
	}
	for _, cfg := range []agent.Config{
		{PerHost: -1}, {Total: -1}, {MaxBody: -1}, {Timeout: -1}, {Poll: -1}, {Compat: 9}, {Callback: "n1"}, {Callback: "http://n1/?q"},
		{HTTP: l, HostOf: func(string) string { return "" }}, {Env: drover.Env{Node: "\n"}},
	} {
		var f *drover.FieldError
		if _, err := agent.New(cfg); !errors.Is(err, drover.ErrConfig) || !errors.Is(err, agent.ErrInvalid) || !errors.As(err, &f) {
			l.Errorf("%+v: %v", cfg, err)
		}
	}
	if c, err := agent.New(agent.Config{HTTP: l}); err != nil {
		l.Error(err)
	} else if _, err := agent.Call[int](bg, c, "http://h1/", 1); !errors.Is(err, agent.ErrInvalid) {
		l.Errorf("without a callback: %v", err)
	}
}

func strays(l *lab) {
	n := l.node("n1", nil)
	a := &taken{poll: 503}
	l.serve("h1", a)
	for i := range 130 {
		if s := l.send("POST", "http://n1/drover/agent/callback", strings.Repeat("x", 5000), "Drover-Task", fmt.Sprint("t", i)).StatusCode; s != 404 {
			l.Fatalf("status %d", s)
		}
	}
	s := n.Strays()
	if len(s) != 128 || s[0].Task != "t2" || s[127].Task != "t129" || len(s[0].Body) != 4<<10 {
		l.Errorf("%d kept, from %s", len(s), s[0].Task)
	}
	for path, want := range map[string]int{"/drover/agent/other": 404, "/": 404} {
		if s := l.send("POST", "http://n1"+path, "").StatusCode; s != want {
			l.Errorf("%s: %d", path, s)
		}
	}
	if s := l.send("GET", "http://n1/drover/agent/callback", "").StatusCode; s != 405 {
		l.Errorf("GET: %d", s)
	}
}

func timeouts(l *lab) {
	n := l.node("n1", nil)
	l.serve("h1", &taken{poll: 503})
	began := time.Now()
	_, err := agent.Call[string](bg, n.Client, "http://h1/x", 1, agent.Timeout(3*time.Second))
	l.is(err, agent.ErrTimeout, context.DeadlineExceeded)
	l.took(began, 3*time.Second)
	ctx, cancel := context.WithTimeout(bg, 2*time.Second)
	defer cancel()
	began = time.Now()
	_, err = agent.Call[string](ctx, n.Client, "http://h1/x", 1, agent.Timeout(time.Hour))
	l.is(err, agent.ErrTimeout)
	l.took(began, 2*time.Second)
	l.break_(hang) // of connections that never stand
	began = time.Now()
	_, err = agent.Call[string](bg, n.Client, "http://h1/x", 1, agent.Timeout(3*time.Second))
	l.is(err, agent.ErrTimeout)
	l.took(began, 3*time.Second)
	if p := n.Pending(); len(p) != 0 {
		l.Errorf("left: %+v", p)
	}
}

func told(l *lab) {
	var r runs
	n := l.node("n1", nil)
	l.host("h1", nil, nap(&r))
	_, err := agent.Call[string](bg, n.Client, "http://h1/nap", 20.0, agent.Timeout(3*time.Second), agent.Task("a"))
	l.is(err, agent.ErrTimeout)
	synctest.Wait()
	if r.of("stopped") != 1 {
		l.Error("the handler goes on after the timeout")
	}
	ctx, cancel := context.WithCancel(bg)
	go func() {
		time.Sleep(time.Second)
		cancel()
	}()
	_, err = agent.Call[string](ctx, n.Client, "http://h1/nap", 20.0)
	l.is(err, context.Canceled)
	synctest.Wait()
	if r.of("stopped") != 2 {
		l.Error("the handler goes on after its caller has left")
	}
	task, err := n.Start(bg, "http://h1/nap", 20.0, agent.Task("b"))
	l.ok(err)
	waited := make(chan error, 1)
	go func() {
		_, err := agent.Wait[string](bg, n.Client, task)
		waited <- err
	}()
	synctest.Wait()
	if p := n.Pending(); len(p) != 1 || p[0].Task != "b" || p[0].Host != "h1" || p[0].Path != "/nap" || !p[0].Accepted || !p[0].Deadline.Equal(time.Now().Add(time.Minute)) {
		l.Errorf("pending %+v", p)
	}
	l.ok(n.Cancel(bg, task))
	err = <-waited
	l.is(err, context.Canceled)
	synctest.Wait()
	if r.of("stopped") != 3 {
		l.Error("the handler goes on after Cancel")
	}
	if s := l.send("DELETE", "http://h1/drover/tasks/b", "").StatusCode; s != 200 {
		l.Errorf("cancel of a task that is done: %d", s)
	}
	if err := n.Cancel(bg, "nobody"); !errors.Is(err, agent.ErrTaskLost) {
		l.Errorf("cancel of nothing: %v", err)
	}
	// Drover-Timeout is enough where no cancel arrives.
	l.break_(func(r *http.Request) error {
		if r.Method == http.MethodDelete {
			return syscall.ECONNREFUSED
		}
		return nil
	})
	_, err = agent.Call[string](bg, n.Client, "http://h1/nap", 20.0, agent.Timeout(3*time.Second))
	l.is(err, agent.ErrTimeout)
	synctest.Wait()
	if r.of("stopped") != 4 || r.of("done") != 0 {
		l.Error("the handler outlives its deadline")
	}
}

func noTime(l *lab) {
	n := l.node("n1", nil)
	l.host("h1", nil, echo)
	past, cancel := context.WithDeadline(bg, time.Now().Add(-time.Second))
	defer cancel()
	soon, cancel2 := context.WithTimeout(bg, time.Millisecond)
	defer cancel2()
	for what, f := range map[string]func() error{
		"deadline past": func() error { _, err := agent.Call[int](past, n.Client, "http://h1/echo", 1); return err },
		"1 ms":          func() error { _, err := agent.Call[int](soon, n.Client, "http://h1/echo", 1); return err },
		"timeout": func() error {
			_, err := agent.Call[int](bg, n.Client, "http://h1/echo", 1, agent.Timeout(0))
			return err
		},
		"get": func() error { _, err := agent.Get[int](past, n.Client, "http://h1/echo"); return err },
	} {
		if err := f(); !errors.Is(err, agent.ErrNotSent) || !errors.Is(err, context.DeadlineExceeded) || !agent.NotRun(err) {
			l.Errorf("%s: %v", what, err)
		}
	}
	if len(l.seen) != 0 {
		l.Errorf("sent: %v", l.seen)
	}
}

// vm is a reply with a rule.
type vm struct{ Host string }

func (v vm) Validate() error {
	if v.Host == "" {
		return errors.New("no host")
	}
	return nil
}

func badReplies(l *lab) {
	n := l.node("n1", nil)
	a := &taken{poll: 503}
	l.serve("h1", a)
	long := `{"result":{"Host":"` + strings.Repeat("x", 1<<20) + `"}}`
	for what, body := range map[string]string{
		"garbage": "<html>", "empty": "", "nothing": "{}", "not valid": `{"result":{}}`, "other type": `{"result":[7]}`,
		"too large": long[:1<<20+1], "trailing": `{"result":{"Host":"a"}} x`,
	} {
		began := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := agent.Call[vm](bg, n.Client, "http://h1/x", 1)
			done <- err
		}()
		synctest.Wait()
		if s := l.back(a.last(), a.last().Header.Get("Drover-Key"), body); s != 200 {
			l.Errorf("%s: answered %d", what, s)
		}
		if err := <-done; !errors.Is(err, agent.ErrBadReply) || agent.NotRun(err) {
			l.Errorf("%s: %v", what, err)
		}
		l.took(began, 0)
	}
	l.serve("h2", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	_, err := agent.Call[vm](bg, n.Client, "http://h2/x", 1)
	l.is(err, agent.ErrBadReply)
	_, err = agent.Get[vm](bg, n.Client, "http://h2/x")
	l.is(err, agent.ErrBadReply)
}

func lengths(l *lab) {
	n := l.node("n1", nil)
	l.host("h1", nil, echo)
	const text = "żółć 虚拟机"
	var length int64
	l.break_(func(r *http.Request) error {
		if r.URL.Host == "h1" && r.Method == http.MethodPost {
			length = r.ContentLength
		}
		return nil
	})
	got, err := agent.Call[string](bg, n.Client, "http://h1/echo", text)
	body, _ := json.Marshal(text)
	if err != nil || got != text || length != int64(len(body)) || len(body) == len([]rune(text))+2 {
		l.Errorf("%q, %v; length %d of %d", got, err, length, len(body))
	}
}

// races lets callback, poll, timeout and cancel come at the same instant: whoever waits for the task hears the same.
func races(l *lab) {
	rounds := 1000
	if long {
		rounds = 10_000
	}
	n := l.node("n1", func(c *agent.Config) { c.Poll = time.Second })
	a := &taken{}
	l.serve("h1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"state":"done","result":"poll"}`))
			return
		}
		a.poll = http.StatusAccepted
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
		a.reqs, a.body = nil, nil
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

func tries(l *lab) {
	n := l.node("n1", nil)
	var asked atomic.Int32
	answers := func(status ...int) {
		asked.Store(0)
		l.serve("h1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			i := int(asked.Add(1)) - 1
			w.WriteHeader(status[min(i, len(status)-1)])
			_, _ = w.Write([]byte(`"x"`))
		}))
	}
	get := func() (string, error) { return agent.Get[string](bg, n.Client, "http://h1/x") }
	post := func(opts ...agent.Option) (string, error) {
		return agent.Post[string](bg, n.Client, "http://h1/x", 1, opts...)
	}
	for _, c := range []struct {
		what   string
		status []int
		f      func() (string, error)
		tries  int32
		ok     bool
	}{
		{"GET 503 503 200", []int{503, 503, 200}, get, 3, true},
		{"GET 429 502 504 200", []int{429, 502, 504, 200}, get, 4, true},
		{"GET 503", []int{503}, get, 5, false},
		{"GET 400", []int{400}, get, 1, false},
		{"GET 500", []int{500}, get, 1, false},
		{"GET 302", []int{302}, get, 1, false},
		{"POST 503", []int{503, 200}, func() (string, error) { return post() }, 1, false},
		{"POST 503 idempotent", []int{503, 200}, func() (string, error) { return post(agent.Idempotent()) }, 2, true},
		{"POST 400 idempotent", []int{400}, func() (string, error) { return post(agent.Idempotent()) }, 1, false},
		{"PUT 503", []int{503, 200}, func() (string, error) { return agent.Put[string](bg, n.Client, "http://h1/x", 1) }, 2, true},
		{"DELETE 503", []int{503, 200}, func() (string, error) { return agent.Delete[string](bg, n.Client, "http://h1/x") }, 2, true},
	} {
		answers(c.status...)
		got, err := c.f()
		var h *agent.HTTPError
		if asked.Load() != c.tries || c.ok != (err == nil) || c.ok && got != "x" || !c.ok && (!errors.As(err, &h) || h.Status != c.status[len(c.status)-1] && len(c.status) == 1) {
			l.Errorf("%s: %d tries, %q, %v", c.what, asked.Load(), got, err)
		}
	}
	reset := func(f func() (string, error)) (n int, err error) {
		l.break_(func(*http.Request) error {
			n++
			return syscall.ECONNRESET
		})
		defer l.break_(nil)
		_, err = f()
		return n, err
	}
	if k, err := reset(func() (string, error) { return post() }); k != 1 || !errors.Is(err, agent.ErrTaskLost) || agent.NotRun(err) {
		l.Errorf("POST on reset: %d tries, %v", k, err)
	}
	if k, err := reset(func() (string, error) { return post(agent.Idempotent()) }); k != 5 || !errors.Is(err, agent.ErrTaskLost) {
		l.Errorf("idempotent POST on reset: %d tries, %v", k, err)
	}
	l.serve("h1", nil)
	if _, err := post(); !errors.Is(err, agent.ErrNotSent) {
		l.Errorf("POST refused: %v", err)
	}
	// Reset first, refused with 503 then: it may have run all the same.
	first := true
	answers(503)
	l.break_(func(*http.Request) error {
		if !first {
			return nil
		}
		first = false
		return syscall.ECONNRESET
	})
	_, err := post(agent.Idempotent())
	var h *agent.HTTPError
	if !errors.Is(err, agent.ErrTaskLost) || !errors.As(err, &h) || agent.NotRun(err) {
		l.Errorf("reset, then 503: %v", err)
	}
}

// gauge is how much of something there is at once.
type gauge struct{ now, most int }

func (g *gauge) add(d int) {
	g.now += d
	g.most = max(g.most, g.now)
}

func blackHole(l *lab) {
	const hosts, calls, rtt = 50, 8, 10 * time.Millisecond
	n := l.node("n1", nil)
	var mu sync.Mutex
	total, per := gauge{}, map[string]*gauge{}
	dead := ""
	l.break_(func(r *http.Request) error {
		if r.URL.Host == "n1" {
			return nil
		}
		mu.Lock()
		if per[r.URL.Host] == nil {
			per[r.URL.Host] = &gauge{}
		}
		total.add(1)
		per[r.URL.Host].add(1)
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			total.add(-1)
			per[r.URL.Host].add(-1)
		}()
		if r.URL.Host == dead {
			return hang(r)
		}
		time.Sleep(rtt)
		return nil
	})
	for i := range hosts {
		l.host(fmt.Sprint("h", i), nil, echo)
	}
	// Each host gets three times as many calls as it has slots, all at once.
	slowest := func() (most time.Duration) {
		var wg sync.WaitGroup
		for i := range hosts {
			for range 3 * calls {
				wg.Go(func() {
					began := time.Now()
					_, err := agent.Call[int](bg, n.Client, fmt.Sprintf("http://h%d/echo", i), 1, agent.Timeout(20*time.Second))
					if fmt.Sprint("h", i) == dead {
						if !errors.Is(err, agent.ErrTimeout) && !errors.Is(err, agent.ErrNotSent) {
							l.Errorf("the dead host: %v", err)
						}
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if most = max(most, time.Since(began)); err != nil {
						l.Error(err)
					}
				})
			}
		}
		wg.Wait()
		return most
	}
	baseline := slowest()
	dead = "h7"
	if with := slowest(); with > baseline*12/10 {
		l.Errorf("the slowest call to another host took %v, %v without a dead one", with, baseline)
	}
	for h, g := range per {
		if g.most > 8 {
			l.Errorf("%d exchanges with %s at once", g.most, h)
		}
	}
	if total.most > 512 || total.most < 300 {
		l.Errorf("%d exchanges at once", total.most)
	}
	// The total binds when it is the smaller one, and hosts take turns.
	m := l.node("n2", func(c *agent.Config) { c.Total, c.Callback = 10, "http://n1" })
	total, dead = gauge{}, ""
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, err := agent.Post[int](bg, m.Client, fmt.Sprintf("http://h%d/echo", i%hosts), 1)
			if err != nil {
				l.Error(err)
			}
		})
	}
	wg.Wait()
	if total.most != 10 {
		l.Errorf("%d exchanges at once, want 10", total.most)
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
	if resp := l.send("POST", "http://h1/nap", `1`, "Drover-Task", "wait", "Drover-Wait", "2000"); resp.StatusCode != 200 {
		l.Errorf("a result within Drover-Wait: %d", resp.StatusCode)
	}
	if resp := l.send("POST", "http://h1/nap", `3`, "Drover-Task", "wait2", "Drover-Wait", "2000"); resp.StatusCode != 202 {
		l.Errorf("no result within Drover-Wait: %d", resp.StatusCode)
	}
}

func commands(l *lab) {
	n := l.node("n1", nil)
	h := l.host("h1", nil)
	n.HandleCommand("/ok", func(_ context.Context, body json.RawMessage) (any, error) { return body, nil })
	n.HandleCommand("/fails", func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("no") })
	n.HandleCommand("/panics", func(context.Context, json.RawMessage) (any, error) { panic("no") })
	n.HandleCommand("/odd", func(context.Context, json.RawMessage) (any, error) { return make(chan int), nil })
	for path, want := range map[string]int{"": 400, "/none": 404, "/fails": 500, "/panics": 500, "/odd": 500, "/ok": 200} {
		if s := l.send("POST", "http://n1/drover/agent/command", `{"a":1}`, "Drover-Command", path).StatusCode; s != want {
			l.Errorf("%q: %d, want %d", path, s, want)
		}
	}
	if s := l.send("POST", "http://n1/drover/agent/command", `{`, "Drover-Command", "/ok").StatusCode; s != 400 {
		l.Errorf("bad JSON: %d", s)
	}
	if s := l.send("POST", "http://n1/drover/agent/command", `"`+strings.Repeat("x", 1<<20)+`"`, "Drover-Command", "/ok").StatusCode; s != 413 {
		l.Errorf("too large: %d", s)
	}
	got, err := h.Send(bg, "http://n1", "/ok", map[string]int{"b": 2})
	if string(got) != `{"b":2}` || err != nil {
		l.Errorf("%s, %v", got, err)
	}
	var he *agent.HTTPError
	if _, err := h.Send(bg, "http://n1/", "/none", 1); !errors.As(err, &he) || he.Status != 404 {
		l.Errorf("no such command: %v", err)
	}
	if _, err := h.Send(bg, "http://elsewhere", "/ok", 1); !errors.Is(err, agent.ErrInvalid) {
		l.Errorf("to somewhere else: %v", err)
	}
	for _, path := range []string{"", "/ok"} {
		func() {
			defer func() {
				if recover() == nil {
					l.Errorf("%q is served twice", path)
				}
			}()
			n.HandleCommand(path, func(context.Context, json.RawMessage) (any, error) { return nil, nil })
		}()
	}
}

func ready(l *lab) {
	n := l.node("n1", nil)
	began := time.Now()
	go func() {
		time.Sleep(3 * time.Second)
		l.host("h1", nil)
	}()
	l.ok(n.Ready(bg, "http://h1/whatever"))
	if d := time.Since(began); d < 3*time.Second || d > 4100*time.Millisecond {
		l.Errorf("ready after %v", d)
	}
	ctx, cancel := context.WithTimeout(bg, 2*time.Second)
	defer cancel()
	began = time.Now()
	l.is(n.Ready(ctx, "http://h2"), context.DeadlineExceeded)
	l.took(began, 2*time.Second)
	l.break_(hang)
	ctx, cancel2 := context.WithTimeout(bg, 13*time.Second)
	defer cancel2()
	l.is(n.Ready(ctx, "http://h1"), context.DeadlineExceeded)
	l.is(n.Ready(bg, "h1"), agent.ErrInvalid)
}

func queueFull(l *lab) {
	var r runs
	n := l.node("n1", nil)
	l.host("h1", func(c *agent.ServerConfig) { c.Workers, c.Queue = 1, 1 }, nap(&r))
	for i := range 2 {
		_, err := n.Start(bg, "http://h1/nap", 2.0, agent.Task(fmt.Sprint(i)))
		l.ok(err)
	}
	resp := l.send("POST", "http://h1/nap", `1`, "Drover-Task", "x")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" {
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
