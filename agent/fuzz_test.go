package agent_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/agent"
)

// spec: agent-27
func FuzzAgentHeader(f *testing.F) {
	f.Add("t1", "http://n1/drover/agent/callback", "key", "1000", "7;db.1;vm/42", "0", []byte(`"x"`), "/x")
	f.Add("", "", "", "", "", "", []byte("1"), "/drover/tasks/%2e%2e")
	f.Add("a/b", "http://[::1]:99999/", "\x00", "1e9", ";;", "-1", []byte("{"), "/drover/tasks/")
	f.Add("é", "http://n1%2f@evil/", strings.Repeat("k", 300), "99999999999999999999", "9223372036854775808;a;b", "x", []byte(nil), "/drover/echo")
	f.Add("t", "http://N1:80/drover/agent/callback", "k", "5", "-1;db.1;x", "1", []byte("[[[[[[["), "/x?y=%zz")
	s, err := agent.NewServer(agent.ServerConfig{Env: drover.Env{Logger: quiet}, Nodes: []string{"http://n1"}, AdoptStore: true, HTTP: refusing{}})
	if err != nil {
		f.Fatal(err)
	}
	agent.Handle(s, "/x", func(_ context.Context, v any) (any, error) { return v, nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		<-done
	})
	f.Fuzz(func(t *testing.T, task, callback, key, timeout, token, wait string, body []byte, path string) {
		if again, err := agent.TokenAgain(token); err == nil && again != token {
			t.Errorf("%q came back as %q", token, again)
		}
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			r, err := http.NewRequestWithContext(ctx, method, "http://h1/"+strings.TrimPrefix(path, "/"), strings.NewReader(string(body)))
			if err != nil {
				return
			}
			if wait != "" && len(wait) > 2 {
				wait = wait[:2] // milliseconds: fuzzing does not wait
			}
			for k, v := range map[string]string{"Task": task, "Callback": callback, "Key": key, "Timeout": timeout, "Token": token, "Wait": wait} {
				r.Header["Drover-"+k] = []string{v}
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code < 200 || w.Code > 599 {
				t.Errorf("status %d", w.Code)
			}
		}
	})
}

// refusing is a network without anybody.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }

// spec: agent-27
func FuzzCallback(f *testing.F) {
	f.Add("t1", "key", "/drover/agent/callback", "", []byte(`{"result":1}`))
	f.Add("", "", "/drover/agent/command", "/x", []byte(`{`))
	f.Add("known", "\xff", "/drover/agent/callback/x", "/y", []byte(`{"error":{"code":7}}`))
	f.Add("known", "k", "/drover/agent/", "", []byte(nil))
	var clients []*agent.Client
	for _, compat := range []agent.Compat{0, agent.ZStack} {
		c, err := agent.New(agent.Config{Env: drover.Env{Logger: quiet}, Callback: "http://n1", HTTP: accepting{}, Compat: compat})
		if err != nil {
			f.Fatal(err)
		}
		c.HandleCommand("/x", func(_ context.Context, body json.RawMessage) (any, error) { return string(body), nil })
		clients = append(clients, c)
	}
	f.Fuzz(func(t *testing.T, task, key, path, command string, body []byte) {
		for _, c := range clients {
			known, err := c.Start(context.Background(), "http://h1/x", 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{task, string(known)} {
				r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://n1/"+strings.TrimPrefix(path, "/"), strings.NewReader(string(body)))
				if err != nil {
					return
				}
				for k, v := range map[string]string{"Drover-Task": id, "Taskuuid": id, "Drover-Key": key, "Drover-Command": command, "Commandpath": command} {
					if v != "" {
						r.Header[k] = []string{v}
					}
				}
				c.Handler().ServeHTTP(httptest.NewRecorder(), r)
			}
			if got := len(c.Pending()); got != 1 { // nobody guesses a key
				t.Fatalf("%d tasks are pending", got)
			}
			if err := c.Cancel(context.Background(), known); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// accepting is a network of agents that take everything.
type accepting struct{}

func (accepting) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.WriteString("{}")
	return w.Result(), nil
}
