package agent_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/drover-cloud/drover/agent"
)

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
