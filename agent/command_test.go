package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/drover-cloud/drover/agent"
)

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
