package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	bubble(t, "callbacks are retried", redelivery)
	bubble(t, "results are kept", results)
	bubble(t, "codes of failures", failureCodes)
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
