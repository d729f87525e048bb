package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// shifted is the real clock, somewhere else in time.
type shifted struct {
	clock.Clock
	by time.Duration
}

func (s shifted) Now() time.Time { return s.Clock.Now().Add(s.by) }

// gated lets simulated hosts end their work only while it is open.
type gated struct {
	shifted
	open atomic.Bool
}

const hostTime = 300 * time.Millisecond

func (g *gated) After(d time.Duration) <-chan time.Time {
	if d != hostTime {
		return g.shifted.After(d)
	}
	out := make(chan time.Time, 1)
	go func() {
		t := <-g.shifted.After(d)
		for !g.open.Load() {
			time.Sleep(5 * time.Millisecond)
		}
		out <- t
	}()
	return out
}

type exchange struct {
	Seq, Slice int
	At         time.Time
	Command    string
	Request    struct {
		Method string
		Params params
	}
	Response struct {
		Status int
		Body   map[string]any
	}
	Introduces map[string]string
}

func exchanges(t *testing.T, file string) (xs []exchange) {
	t.Helper()
	f, err := os.Open("../testdata/cloudstack/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var x exchange
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		xs = append(xs, x)
	}
	return xs
}

func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name, file string
		lines      int
	}{
		{"ref-14 cloudstack-go", "cloudstack-go.jsonl", 46},
		{"ref-15 cmk", "cmk.jsonl", 22},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			xs := exchanges(t, c.file)
			if len(xs) != c.lines {
				t.Fatalf("%d lines", len(xs))
			}
			cfg := parsed(t, "-session-login", "-sim-latency", "300ms", "-sim-fault", "start:name=fail*:capacity")
			gate := &gated{shifted: shifted{clock.New(), time.Until(xs[0].At)}}
			cfg.Env.Clock = gate
			r := &replay{node: startWith(t, cfg), gate: gate, ids: map[string]string{}}
			t.Cleanup(func() { gate.open.Store(true) })
			if err := r.cloud.SetPassword(t.Context(), "admin", "password"); err != nil {
				t.Fatal(err)
			}
			for _, x := range xs {
				r.one(t, x)
			}
		})
	}
}

type replay struct {
	*node
	gate *gated
	ids  map[string]string // recorded to live
}

func (r *replay) one(t *testing.T, x exchange) {
	t.Helper()
	p := params{}
	for k, v := range x.Request.Params {
		if live, ok := r.ids[v]; ok {
			v = live
		}
		p[k] = v
	}
	if x.Response.Status != 401 {
		delete(p, "signature")
		p = sign(p, "testsecret")
	}
	want, _ := oneKey(x.Response.Body).(map[string]any)
	if status, ok := want["jobstatus"]; ok && x.Command == "queryAsyncJobResult" && num(status) != 0 {
		r.gate.open.Store(true)
		r.wait(p["jobid"])
		r.gate.open.Store(false)
	}
	if x.Command == "cancelAsyncJob" { // a job that has begun is taken back
		r.gate.open.Store(true)
	}
	got := r.send(x.Request.Method, p)
	r.gate.open.Store(false)
	if got.status != x.Response.Status {
		t.Fatalf("line %d %s: status %d, recorded %d: %s", x.Seq, x.Command, got.status, x.Response.Status, got.raw)
	}
	if _, same := x.Response.Body[got.key]; !same {
		t.Errorf("line %d %s: key %s", x.Seq, x.Command, got.key)
	}
	if x.Command == "listApis" {
		want = offered(want)
	}
	if x.Command == "listEvents" { // how many there are does not count
		delete(want, "count")
	}
	if x.Command == "queryAsyncJobResult" && num(want["jobstatus"]) == 0 && strings.Contains(got.raw, " is in state ") {
		return // a job that is refused before any host takes part cannot be held
	}
	r.compare(t, fmt.Sprintf("line %d %s", x.Seq, x.Command), want, got.body, x.Introduces)
}

func oneKey(m map[string]any) any {
	for _, v := range m {
		return v
	}
	return nil
}

// offered keeps of the commands those that are offered here, and of them what counts.
func offered(body map[string]any) map[string]any {
	var keep []any
	for _, a := range body["api"].([]any) {
		if m := a.(map[string]any); !slices.Contains(notYet, m["name"].(string)) {
			keep = append(keep, map[string]any{"name": m["name"], "isasync": m["isasync"]})
		}
	}
	return map[string]any{"api": keep}
}

// notYet are commands that come with a later package.
var notYet = []string{
	"createVMSchedule", "deleteVMSchedule", "listVMSchedule", "configureHAForHost", "enableHAForHost", "disableHAForHost", "listHostHAResources",
}

// equal are the members whose values count.
var equal = []string{
	"count", "jobstatus", "jobresultcode", "jobresulttype", "errorcode", "cserrorcode", "state", "name", "displayname", "zonename", "templatename",
	"serviceofferingname", "cpunumber", "cpuspeed", "memory", "networktype", "isasync",
}

func (r *replay) compare(t *testing.T, at string, want, got any, introduces map[string]string) {
	t.Helper()
	if want == nil || got == nil || reflect.TypeOf(want) != reflect.TypeOf(got) {
		t.Errorf("%s: %T, recorded %T", at, got, want)
		return
	}
	switch want := want.(type) {
	case map[string]any:
		have := got.(map[string]any)
		for k, w := range want {
			g, ok := have[k]
			switch {
			case !ok:
				t.Errorf("%s: %s is missing", at, k)
			case slices.Contains(equal, k):
				if !reflect.DeepEqual(w, g) {
					t.Errorf("%s: %s is %v, recorded %v", at, k, g, w)
				}
			default:
				r.compare(t, at+"."+k, w, g, introduces)
			}
		}
	case []any:
		have := got.([]any)
		for i, w := range want {
			m, isObject := w.(map[string]any)
			if !isObject || i >= len(have) && len(introduces) > 0 {
				continue
			}
			if g := r.partner(m, have, i); g != nil {
				r.compare(t, fmt.Sprintf("%s[%d]", at, i), w, g, introduces)
			} else {
				t.Errorf("%s[%d]: nothing like it: %v", at, i, m)
			}
		}
	case string:
		if _, is := introduces[want]; is {
			r.ids[want] = got.(string)
		}
	}
}

// partner finds the element of a list by its mapped id, jobid or name, else, of things that appear for the first time, by position.
func (r *replay) partner(want map[string]any, have []any, i int) any {
	for _, key := range []string{"id", "jobid", "name"} {
		w, _ := want[key].(string)
		if live, ok := r.ids[w]; ok {
			w = live
		}
		for _, g := range have {
			if m, ok := g.(map[string]any); ok && w != "" && m[key] == w {
				return g
			}
		}
	}
	if typ, event := want["level"]; event { // in another order
		for _, g := range have {
			if m := g.(map[string]any); m["level"] == typ && m["type"] == want["type"] && m["state"] == want["state"] {
				return m
			}
		}
		return nil
	}
	if _, fresh := want["id"]; fresh && i < len(have) {
		return have[i]
	}
	return nil
}
