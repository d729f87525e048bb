package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/job"
)

// v1 sends one request to the native face; headers are pairs.
func (n *node) v1(method, path, body string, headers ...string) (*http.Response, map[string]any) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, n.URL()+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer testkey.testsecret")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.round(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	var out map[string]any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			n.t.Fatalf("%s %s: %d %q: %v", method, path, resp.StatusCode, b, err)
		}
	}
	return resp, out
}

func deployBody(name string) string {
	return fmt.Sprintf(`{"name":%q,"zoneid":%q,"serviceofferingid":%q,"templateid":%q,"networkids":[%q]}`, name, zone1, small, debian12, net1)
}

func TestNative(t *testing.T) {
	t.Run("ref-54 Prefer: wait", func(t *testing.T) {
		n := start(t, "-sim-latency", "300ms")
		resp, j := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("w1"), "Prefer", "respond-async, wait=20")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Preference-Applied") != "wait=20" || j["state"] != "succeeded" || resp.Header.Get("Location") != "/v1/jobs/"+fmt.Sprint(j["id"]) {
			t.Fatalf("%d %v %v", resp.StatusCode, resp.Header, j)
		}
		vm := fmt.Sprint(j["entity"])
		if resp, v := n.v1("GET", "/v1/vms/"+vm, ""); resp.StatusCode != http.StatusOK || v["name"] != "w1" || v["state"] != "Running" {
			t.Errorf("%d %v", resp.StatusCode, v)
		}
		if resp, _ := n.v1("POST", "/v1/commands/stopVirtualMachine", `{"id":"`+vm+`"}`, "Prefer", "wait=61"); resp.Header.Get("Preference-Applied") != "wait=60" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
		slow := start(t, "-sim-latency", "5s")
		began := time.Now()
		resp, j = slow.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("w2"), "Prefer", "wait=1")
		if took := time.Since(began); resp.StatusCode != http.StatusAccepted || resp.Header.Get("Preference-Applied") != "" || j["state"] == "succeeded" || took < time.Second {
			t.Errorf("%d after %v: %v", resp.StatusCode, took, j)
		}
		waiting := make(chan int, 1)
		go func() {
			resp, _ := slow.v1("POST", "/v1/commands/stopVirtualMachine", `{"id":"`+fmt.Sprint(j["entity"])+`"}`, "Prefer", "wait=60")
			waiting <- resp.StatusCode
		}()
		time.Sleep(100 * time.Millisecond)
		slow.native.Drain()
		if status := <-waiting; status != 202 {
			t.Errorf("drained: %d", status)
		}
	})
	t.Run("ref-55 blocking GET", func(t *testing.T) {
		n := start(t, "-sim-latency", "1s")
		_, j := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("b1"))
		path := "/v1/jobs/" + fmt.Sprint(j["id"])
		if resp, done := n.v1("GET", path+"?wait=30s", ""); resp.StatusCode != http.StatusOK || done["state"] != "succeeded" {
			t.Fatalf("%d %v", resp.StatusCode, done)
		}
		resp, _ := n.v1("GET", path, "")
		etag := resp.Header.Get("ETag")
		if resp, _ := n.v1("GET", path+"?wait=1s", "", "If-None-Match", etag); etag == "" || resp.StatusCode != http.StatusNotModified || resp.Header.Get("ETag") != etag {
			t.Errorf("%d with %q, was %q", resp.StatusCode, resp.Header.Get("ETag"), etag)
		}
	})
	n := start(t)
	t.Run("live stream", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer testkey.testsecret")
		req.Header.Set("Last-Event-ID", "another-node.1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var frames []string
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() && !slices.Contains(frames, "job") {
			event, is := strings.CutPrefix(lines.Text(), "event: ")
			if is {
				frames = append(frames, event)
			}
			if event == "gone" { // the stream is live
				if resp, j := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("live")); resp.StatusCode != http.StatusAccepted {
					t.Fatal(j)
				}
			}
		}
		if resp.StatusCode != http.StatusOK || !slices.Contains(frames, "hello") || !slices.Contains(frames, "job") {
			t.Errorf("%d %v", resp.StatusCode, frames)
		}
	})
	t.Run("ref-41 Idempotency-Key", func(t *testing.T) {
		resp, first := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("once"), "Idempotency-Key", "k 1")
		if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Idempotency-Replayed") != "" {
			t.Fatalf("%d %v", resp.StatusCode, first)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, again := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("once"), "Idempotency-Key", "k 1")
				if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Idempotency-Replayed") != "true" || again["id"] != first["id"] || again["entity"] != first["entity"] {
					t.Errorf("%d %v", resp.StatusCode, again)
				}
			})
		}
		wg.Wait()
		resp, p := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("other"), "Idempotency-Key", "k 1")
		wantProblem(t, resp, p, 422, "idempotency-mismatch")
		resp, p = n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("x"), "Idempotency-Key", strings.Repeat("k", 256))
		wantProblem(t, resp, p, 400, "invalid")
		if _, list := n.v1("GET", "/v1/commands/listVirtualMachines?name=once", ""); list["total"] != 1.0 {
			t.Errorf("%v machines", list["total"])
		}
	})
	t.Run("ref-56 problems", func(t *testing.T) { problems(t, n) })
	t.Run("ref-66 bind, validation, unknown", func(t *testing.T) {
		resp, p := n.v1("POST", "/v1/commands/deployVirtualMachine", `{"name":"-bad-","zoneid":"x","rootdisksize":1.5}`)
		wantProblem(t, resp, p, 400, "invalid")
		var names []string
		for _, e := range p["errors"].([]any) {
			names = append(names, fmt.Sprint(e.(map[string]any)["parameter"]))
		}
		for _, want := range []string{"serviceofferingid", "templateid", "zoneid", "rootdisksize"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s is not among %v", want, names)
			}
		}
		resp, p = n.v1("POST", "/v1/commands/nosuch", `{}`)
		wantProblem(t, resp, p, 404, "unknown-command")
		resp, p = n.v1("POST", "/v1/commands/listZones", `{"nam":"zone1"}`)
		wantProblem(t, resp, p, 400, "invalid")
		if e := p["errors"].([]any)[0].(map[string]any); e["parameter"] != "nam" || e["reason"] != "Unknown" {
			t.Errorf("%v", p)
		}
	})
	t.Run("ref-63 trace", func(t *testing.T) {
		const tid = "4bf92f3577b34da6a3ce929d0e0e4736"
		resp, p := n.v1("POST", "/v1/commands/nosuch", `{}`, "traceparent", "00-"+tid+"-00f067aa0ba902b7-01")
		if resp.Header.Get("X-Trace-Id") != tid || p["trace_id"] != tid {
			t.Errorf("%v %v", resp.Header, p)
		}
	})
	t.Run("ref-26 one source", func(t *testing.T) {
		_, cat := n.v1("GET", "/v1/commands?limit=1000", "")
		_, doc := n.v1("GET", "/v1/openapi.json", "")
		var apis, commands, paths []string
		for _, c := range cat["items"].([]any) {
			commands = append(commands, c.(map[string]any)["name"].(string))
		}
		for path := range doc["paths"].(map[string]any) {
			if name, is := strings.CutPrefix(path, "/v1/commands/"); is {
				paths = append(paths, name)
			}
		}
		list := n.call("listApis", nil).body
		for _, a := range list["api"].([]any) {
			apis = append(apis, a.(map[string]any)["name"].(string))
		}
		slices.Sort(paths)
		slices.Sort(apis)
		if !slices.Equal(apis, commands) || !slices.Equal(paths, commands) || len(commands) < 14 || doc["openapi"] != "3.1.0" {
			t.Errorf("listApis %v\ncommands %v\nOpenAPI  %v", apis, commands, paths)
		}
		if p := doc["paths"].(map[string]any); p["/v1/jobs/{id}"] == nil || p["/v1/vms/{id}"] == nil {
			t.Error("the operations are not described")
		}
	})
	t.Run("ref-24 typed parameters", func(t *testing.T) {
		resp, list := n.v1("POST", "/v1/commands/listVirtualMachines", `{"ids":[],"page":1,"pagesize":2,"userdata":false,"tags":[{"key":"a","value":null}]}`)
		if resp.StatusCode != http.StatusOK || list["total"] != 0.0 {
			t.Errorf("%d %v", resp.StatusCode, list)
		}
	})
	t.Run("paging", func(t *testing.T) {
		resp, page := n.v1("GET", "/v1/commands?limit=5", "")
		if len(page["items"].([]any)) != 5 || page["next"] != "1" || resp.Header.Get("Link") != `</v1/commands?limit=5&after=1>; rel="next"` {
			t.Errorf("%v %v", page["next"], resp.Header)
		}
		_, rest := n.v1("GET", "/v1/commands?limit=5&after=1", "")
		if rest["items"].([]any)[0].(map[string]any)["name"] == page["items"].([]any)[0].(map[string]any)["name"] {
			t.Error("the second page is the first")
		}
		for _, q := range []string{"limit=0", "limit=1001", "after=x", "foo=1", "limit=1&limit=2"} {
			if resp, _ := n.v1("GET", "/v1/vms?"+q, ""); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %d", q, resp.StatusCode)
			}
		}
	})
}

// problems provokes a row of the error table each.
func problems(t *testing.T, n *node) {
	big := `{"name":"` + strings.Repeat("x", 1<<20) + `"}`
	for name, c := range map[string]struct {
		method, path, body, code string
		status                   int
		headers                  []string
	}{
		"not JSON":          {"POST", "/v1/commands/listZones", "{", "malformed", 400, nil},
		"two objects":       {"POST", "/v1/commands/listZones", "{}{}", "malformed", 400, nil},
		"no object":         {"POST", "/v1/commands/listZones", "[]", "malformed", 400, nil},
		"too deep":          {"POST", "/v1/commands/listZones", `{"name":[[1]]}`, "malformed", 400, nil},
		"brackets":          {"POST", "/v1/commands/listZones", `{"a[0].b":1}`, "malformed", 400, nil},
		"two cases":         {"POST", "/v1/commands/listZones", `{"name":"a","NAME":"b"}`, "malformed", 400, nil},
		"twice":             {"GET", "/v1/commands/listZones?name=a&name=b", "", "malformed", 400, nil},
		"content type":      {"POST", "/v1/commands/listZones", "{}", "media-type", 415, []string{"Content-Type", "text/plain"}},
		"no such machine":   {"POST", "/v1/commands/stopVirtualMachine", `{"id":"` + nobody + `"}`, "not-found", 404, nil},
		"no such path":      {"GET", "/v1/nosuch", "", "not-found", 404, nil},
		"no such vm":        {"GET", "/v1/vms/" + nobody, "", "not-found", 404, nil},
		"unauthenticated":   {"GET", "/v1/vms", "", "unauthenticated", 401, []string{"Authorization", "Bearer testkey.wrong"}},
		"unknown key":       {"GET", "/v1/vms", "", "unauthenticated", 401, []string{"Authorization", "Bearer nokey.testsecret"}},
		"no credentials":    {"GET", "/v1/vms", "", "unauthenticated", 401, []string{"Authorization", ""}},
		"method of a verb":  {"GET", "/v1/commands/stopVirtualMachine", "", "method", 405, nil},
		"method of a list":  {"POST", "/v1/vms", "{}", "method", 405, nil},
		"large body":        {"POST", "/v1/commands/listZones", big, "too-large", 413, nil},
		"no host fits":      {"POST", "/v1/commands/listHosts", `{"id":"` + nobody + `"}`, "not-found", 404, nil},
		"another site":      {"POST", "/v1/commands/listZones", "{}", "forbidden", 403, []string{"Sec-Fetch-Site", "cross-site"}},
		"control character": {"POST", "/v1/commands/listZones", `{"name":"a\u0007"}`, "invalid", 400, nil},
	} {
		resp, p := n.v1(c.method, c.path, c.body, c.headers...)
		if resp.Header.Get("Content-Type") != "application/problem+json" || resp.StatusCode != c.status || p["code"] != c.code {
			t.Errorf("%s: %d %v, want %d %s", name, resp.StatusCode, p, c.status, c.code)
		}
	}
	_, j := n.v1("POST", "/v1/commands/deployVirtualMachine", deployBody("state"), "Prefer", "wait=20")
	vm := fmt.Sprint(j["entity"])
	resp, failed := n.v1("POST", "/v1/commands/startVirtualMachine", `{"id":"`+vm+`"}`, "Prefer", "wait=20")
	if e, _ := failed["error"].(map[string]any); resp.StatusCode != http.StatusOK || failed["state"] != string(job.Failed) || e["code"] != "wrong-state" {
		t.Errorf("a failed job that was waited for: %d %v", resp.StatusCode, failed)
	}
}

func TestNativeSignature(t *testing.T) {
	n := start(t)
	query := func(expires time.Duration, more ...string) string {
		p := map[string]string{"apiKey": "testkey", "signatureVersion": "3", "expires": time.Now().Add(expires).UTC().Format(time.RFC3339)}
		for i := 0; i < len(more); i += 2 {
			p[more[i]] = more[i+1]
		}
		q := url.Values{"signature": {csapi.Sign(p, []byte("testsecret"))}}
		for k, v := range p {
			q.Set(k, v)
		}
		return q.Encode()
	}
	for name, c := range map[string]struct {
		method, query string
		status        int
	}{
		"good":             {"GET", query(time.Minute, "name", "zone1"), 200},
		"expired":          {"GET", query(-time.Second), 401},
		"too far ahead":    {"GET", query(25 * time.Hour), 401},
		"on a POST":        {"POST", query(time.Minute), 401},
		"changed":          {"GET", query(time.Minute) + "&name=zone2", 401},
		"an older version": {"GET", query(time.Minute, "signatureVersion", "2"), 401},
	} {
		resp, body := n.v1(c.method, "/v1/commands/listZones?"+c.query, "", "Authorization", "")
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d %v", name, resp.StatusCode, body)
		}
	}
}

func wantProblem(t *testing.T, resp *http.Response, p map[string]any, status int, code string) {
	t.Helper()
	if resp.StatusCode != status || p["code"] != code || p["type"] != "urn:drover:problem:"+code || p["title"] == "" || p["trace_id"] != resp.Header.Get("X-Trace-Id") {
		b := new(bytes.Buffer)
		_ = resp.Header.Write(b)
		t.Errorf("%d %v, want %d %s\n%s", resp.StatusCode, p, status, code, b)
	}
}
