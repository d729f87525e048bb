package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/agent"
)

// zstack is an agent as zstacklib's HTTP server makes one (utils/http.py): asynchronous paths want taskuuid, answer 200 without a body
// at once, and post the handler's text, or a traceback in the header error, to callbackurl; synchronous paths refuse taskuuid.
type zstack struct {
	l *lab
}

func (z zstack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	task, callback := r.Header.Get("taskuuid"), r.Header.Get("callbackurl")
	switch r.URL.Path {
	case "/echo":
		return
	case "/kvm/capacity":
		if task != "" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{"success":true,"cpuNum":8}`)
		return
	}
	if task == "" {
		http.Error(w, "taskUuid missing in request header", http.StatusBadRequest)
		return
	}
	go func() {
		time.Sleep(time.Second)
		switch r.URL.Path {
		case "/vm/start":
			z.post(callback, `{"success":true,"got":`+string(body)+`}`, "taskuuid", task)
		case "/vm/silent":
			z.post(callback, "", "taskuuid", task)
		case "/vm/fails":
			z.post(callback, "Traceback (most recent call last)", "taskuuid", task, "error", "Traceback (most recent call last)")
		}
	}()
}

// post is json_post.
func (z zstack) post(uri, body string, header ...string) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, uri, bytes.NewReader([]byte(body)))
	z.l.ok(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Connection", "close")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := z.l.RoundTrip(r)
	z.l.ok(err)
	if resp.StatusCode != http.StatusOK {
		z.l.Errorf("%s answered %d", uri, resp.StatusCode)
	}
}

func TestZStack(t *testing.T) {
	bubble(t, "agent-24 ZStack's wire", func(l *lab) {
		n := l.node("n1", func(c *agent.Config) { c.Compat = agent.ZStack })
		l.serve("kvm", zstack{l})
		type rsp struct {
			Success bool
			Got     struct{ VM string }
			CPUNum  int
		}
		l.ok(n.Ready(bg, "http://kvm/echo"))
		got, err := agent.Call[rsp](bg, n.Client, "http://kvm/vm/start", map[string]string{"vm": "42"})
		if err != nil || !got.Success || got.Got.VM != "42" {
			l.Errorf("async: %+v, %v", got, err)
		}
		if _, err := agent.Call[*rsp](bg, n.Client, "http://kvm/vm/silent", 1); err != nil {
			l.Errorf("an empty reply: %v", err)
		}
		var failed *agent.RemoteError
		if _, err := agent.Call[rsp](bg, n.Client, "http://kvm/vm/fails", 1); !errors.As(err, &failed) || failed.Code != "internal" || !strings.HasPrefix(failed.Text, "Traceback") {
			l.Errorf("a failure: %v", err)
		}
		got, err = agent.Post[rsp](bg, n.Client, "http://kvm/kvm/capacity", struct{}{})
		if err != nil || got.CPUNum != 8 {
			l.Errorf("sync: %+v, %v", got, err)
		}
		n.HandleCommand("/kvm/reportvmstate", func(_ context.Context, body json.RawMessage) (any, error) { return body, nil })
		zstack{l}.post("http://n1/drover/agent/command", `{"vmUuid":"42"}`, "commandpath", "/kvm/reportvmstate")
		if _, err := agent.Call[rsp](bg, n.Client, "http://kvm/vm/never", 1, agent.Timeout(40*time.Second)); !errors.Is(err, agent.ErrTimeout) {
			l.Errorf("no callback: %v", err)
		}
		for _, s := range l.seen {
			if strings.Contains(s, "/drover/tasks/") {
				l.Errorf("%s: an agent of ZStack knows nothing of it", s)
			}
		}
		// The key is in the path of the callback.
		l.serve("kvm", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cb, task := r.Header.Get("callbackurl"), r.Header.Get("taskuuid")
			for _, c := range []struct {
				url  string
				want int
			}{{cb[:len(cb)-1] + "x", 403}, {"http://n1/drover/agent/callback", 403}, {cb, 200}, {cb, 200}} {
				if s := l.send("POST", c.url, `7`, "taskuuid", task).StatusCode; s != c.want {
					l.Errorf("%s: %d, want %d", c.url, s, c.want)
				}
			}
			w.WriteHeader(http.StatusNoContent)
		}))
		if got, err := agent.Call[int](bg, n.Client, "http://kvm/x", 1); got != 7 || err != nil {
			l.Errorf("%d, %v", got, err)
		}
	})
}
