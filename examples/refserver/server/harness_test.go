package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

const (
	zone1    = "22222222-0000-4000-8000-000000000001"
	small    = "22222222-0000-4000-8000-000000000002"
	debian12 = "22222222-0000-4000-8000-000000000003"
	net1     = "22222222-0000-4000-8000-000000000004"
	hostA    = "33333333-0000-4000-8000-00000000000a"
	nobody   = "99999999-9999-4999-8999-999999999999"
)

func seedFile(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../seed.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func noEnv(string) string { return "" }

// node is a server in this process.
type node struct {
	*Server
	t       testing.TB
	stop    func()
	done    chan error
	handler http.Handler // instead of a socket
}

// parsed gives a Config for tests; args win over what tests want.
func parsed(t testing.TB, args ...string) Config {
	t.Helper()
	cfg, err := Parse(append([]string{
		"-listen", "127.0.0.1:0", "-data", t.TempDir(), "-db", "sqlite::memory:", "-dev-key", "testkey:testsecret", "-hold", "0", "-sim-latency", "20ms", "-rate", "0", "-drain-delay", "0",
	}, args...), noEnv, seedFile(t), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Stdout = io.Discard
	cfg.Env.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

func start(t testing.TB, args ...string) *node { return startWith(t, parsed(t, args...)) }

func startWith(t testing.TB, cfg Config) *node {
	t.Helper()
	s, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Server: s, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { n.done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-n.done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	n.ready()
	return n
}

// ready waits until the node takes work.
func (n *node) ready() {
	n.t.Helper()
	for range 3000 {
		r, err := http.Get(n.URL() + "/readyz")
		if err == nil {
			_ = r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Fatal("not ready")
}

type params = map[string]string

// answer is an envelope taken apart.
type answer struct {
	status int
	key    string
	body   map[string]any
	header http.Header
	raw    string
}

func sign(p params, secret string) params {
	out := params{"apiKey": "testkey", "response": "json"}
	for k, v := range p {
		out[k] = v
	}
	out["signature"] = csapi.Sign(out, []byte(secret))
	return out
}

func form(p params) string {
	v := url.Values{}
	for k, x := range p {
		v.Set(k, x)
	}
	return v.Encode()
}

// call signs a command and POSTs it.
func (n *node) call(command string, p params) answer {
	n.t.Helper()
	q := params{"command": command}
	for k, v := range p {
		q[k] = v
	}
	return n.send("POST", sign(q, "testsecret"))
}

func (n *node) send(method string, p params) answer {
	n.t.Helper()
	if method == "GET" {
		return n.do(method, "/client/api?"+form(p), "")
	}
	return n.do(method, "/client/api", form(p))
}

func (n *node) do(method, path, body string) answer {
	n.t.Helper()
	a, err := n.try(context.Background(), method, path, body)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) try(ctx context.Context, method, path, body string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, n.URL()+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r, err := n.round(req)
	if err != nil {
		return a, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return a, err
	}
	return parseAnswer(r, b)
}

func (n *node) round(req *http.Request) (*http.Response, error) {
	if n.handler == nil {
		return http.DefaultClient.Do(req)
	}
	req.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, req)
	r := w.Result()
	r.Request = req
	return r, nil
}

// parseAnswer checks the shape that every answer has.
func parseAnswer(r *http.Response, b []byte) (answer, error) {
	a := answer{status: r.StatusCode, header: r.Header, raw: string(b)}
	var top map[string]map[string]any
	if err := json.Unmarshal(b, &top); err != nil || len(top) != 1 {
		return a, fmt.Errorf("%s: %d: not one JSON object with one key: %s", r.Request.URL.Path, a.status, b)
	}
	for a.key, a.body = range top {
	}
	if e, failed := a.body["errorcode"]; a.status != 200 && (!failed || int(e.(float64)) != a.status) {
		return a, errors.New("errorcode is not the status: " + a.raw)
	}
	return a, nil
}

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(context.Background())
}

// fails checks an error envelope.
func (a answer) fails(t testing.TB, status, cs int, words ...string) {
	t.Helper()
	if a.status != status || int(num(a.body["cserrorcode"])) != cs {
		t.Errorf("got %d: %s; want %d, %d", a.status, a.raw, status, cs)
		return
	}
	for _, w := range words {
		if !strings.Contains(a.str("errortext"), w) {
			t.Errorf("no %q in %s", w, a.str("errortext"))
		}
	}
}

func (a answer) ok(t testing.TB) answer {
	t.Helper()
	if a.status != 200 {
		t.Fatalf("%d: %s", a.status, a.raw)
	}
	return a
}

func (a answer) str(name string) string { s, _ := a.body[name].(string); return s }

func num(v any) float64 { f, _ := v.(float64); return f }

func (a answer) list(key string) (out []map[string]any) {
	items, _ := a.body[key].([]any)
	for _, i := range items {
		out = append(out, i.(map[string]any))
	}
	return out
}

// deploy submits a machine and answers its id and its job's.
func (n *node) deploy(name string, more params) (vm, job string) {
	n.t.Helper()
	p := params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "name": name}
	for k, v := range more {
		p[k] = v
	}
	a := n.call("deployVirtualMachine", p).ok(n.t)
	return a.str("id"), a.str("jobid")
}

// wait gives the ended job.
func (n *node) wait(job string) answer {
	n.t.Helper()
	for range 20 {
		if a := n.call("queryAsyncJobResult", params{"jobid": job, "wait": "10"}).ok(n.t); num(a.body["jobstatus"]) != 0 {
			return a
		}
	}
	n.t.Fatalf("job %s does not end", job)
	return answer{}
}

// run submits a command and gives its ended job.
func (n *node) run(command string, p params) answer {
	n.t.Helper()
	return n.wait(n.call(command, p).ok(n.t).str("jobid"))
}

// succeeds gives the machine in a job's result.
func (a answer) succeeds(t testing.TB) map[string]any {
	t.Helper()
	if num(a.body["jobstatus"]) != 1 {
		t.Fatalf("job failed: %s", a.raw)
	}
	r := a.body["jobresult"].(map[string]any)
	if len(r) != 1 || a.str("jobresulttype") != "object" {
		t.Errorf("jobresult is no object with one key: %s", a.raw)
	}
	vm, _ := r["virtualmachine"].(map[string]any)
	if _, has := vm["jobid"]; has {
		t.Errorf("a job's result names a job: %s", a.raw)
	}
	return vm
}

// failed checks a failed job.
func (a answer) failed(t testing.TB, code int, words ...string) {
	t.Helper()
	r, _ := a.body["jobresult"].(map[string]any)
	text, _ := r["errortext"].(string)
	if num(a.body["jobstatus"]) != 2 || int(num(a.body["jobresultcode"])) != code || int(num(r["errorcode"])) != code || a.str("jobresulttype") != "object" {
		t.Errorf("want a failure with %d: %s", code, a.raw)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %q", w, text)
		}
	}
}

// vm lists one machine.
func (n *node) vm(id string) map[string]any {
	n.t.Helper()
	l := n.call("listVirtualMachines", params{"id": id}).ok(n.t).list("virtualmachine")
	if len(l) != 1 {
		n.t.Fatalf("vm %s: %v", id, l)
	}
	return l[0]
}

func (n *node) state(id string) string { s, _ := n.vm(id)["state"].(string); return s }
