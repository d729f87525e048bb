package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/bus/amqp"
	"github.com/drover-cloud/drover/bus/nats"
	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/internal/testkit"
)

// cluster starts three nodes on one database and one bus, and waits until each knows the others.
func cluster(t *testing.T, dsn, url string) []*node {
	t.Helper()
	key := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []*node
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, start(t, "-db", dsn, "-master-key", key, "-node", name, "-bus", url, "-beat", "300ms", "-down", "20s"))
	}
	for _, n := range all {
		n.until(func() bool { return len(n.members.View().Up) == len(all) })
		if err := n.bus.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// heard collects the events of jobs as a node gets them.
type heard struct {
	mu  sync.Mutex
	all []jobEvent
}

func listen(t *testing.T, b *bus.Bus) *heard {
	t.Helper()
	h := &heard{}
	t.Cleanup(b.Subscribe("job", func(_ context.Context, e bus.Event) {
		var j jobEvent
		if err := json.Unmarshal(e.Data, &j); err != nil || e.Subject != "job."+j.Type+"."+j.Kind || e.Order != j.Job {
			t.Errorf("%s %s: %v", e.Subject, e.Data, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all = append(h.all, j)
	}))
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// of are the events of a job, complete once the last has come.
func (h *heard) of(n *node, job string) (es []jobEvent) {
	n.t.Helper()
	n.until(func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		es = nil
		for _, e := range h.all {
			if e.Job == job {
				es = append(es, e)
			}
		}
		return len(es) > 0 && es[len(es)-1].Type == "complete"
	})
	return es
}

func TestBus(t *testing.T) {
	t.Parallel()
	t.Run("nats", func(t *testing.T) { onBus(t, "nats", "nats://%s", testkit.FreshNATS(t)) })
	if os.Getenv("DROVER_LONG") != "" { // else RabbitMQ has its turn in clienttest
		t.Run("amqp", func(t *testing.T) { onBus(t, "amqp", "amqp://guest:guest@%s/", testkit.FreshRabbitMQ(t)) })
	}
}

func onBus(t *testing.T, kind, form string, broker *testkit.Server) {
	dsn, url := testkit.Postgres(t).Database(t), fmt.Sprintf(form, broker.Addr)
	all := cluster(t, dsn, url)
	a, b, c := all[0], all[1], all[2]
	var ears []*heard
	for _, n := range all {
		ears = append(ears, listen(t, n.bus))
	}
	var vms []string
	for i := range 4 {
		vm, j := all[i%3].deploy(fmt.Sprint("m", i), nil)
		a.wait(j).succeeds(t)
		vms = append(vms, vm)
	}
	t.Run("a command goes to the owner of its machine, its events to all nodes", func(t *testing.T) {
		for _, vm := range vms {
			owner, _ := a.link.Members.View().Ring.Owner(cloud.RingKey(vm))
			for _, n := range all {
				j := n.call("rebootVirtualMachine", params{"id": vm}).ok(t).str("jobid")
				n.wait(j).succeeds(t)
				for i, ear := range ears {
					es := ear.of(n, j)
					if es[0].Type != "submit" || es[0].Node != owner || es[0].Kind != "cmd.rebootVirtualMachine" || es[0].Key != "vm/"+vm {
						t.Errorf("node %d hears %+v, the owner is %s", i, es[0], owner)
					}
					if !slices.IsSortedFunc(es, func(x, y jobEvent) int { return int(x.Rev - y.Rev) }) || es[len(es)-1].State != "succeeded" {
						t.Errorf("node %d hears %+v", i, es)
					}
				}
			}
		}
	})
	t.Run("ref-41 the same id at another node", func(t *testing.T) {
		vm, p := vms[0], params{"id": vms[0], "customjobid": "44444444-0000-4000-8000-000000000001"}
		first := a.call("rebootVirtualMachine", p).ok(t).str("jobid")
		for _, n := range all {
			if again := n.call("rebootVirtualMachine", p).ok(t).str("jobid"); again != first {
				t.Errorf("%s, want %s", again, first)
			}
			p := params{"id": vm, "forced": "true", "customjobid": p["customjobid"]}
			n.call("rebootVirtualMachine", p).fails(t, 431, 4350, "in use by another request") // whoever owns it
		}
		a.wait(first).succeeds(t)
	})
	t.Run("bus-89 who has no key is no node", func(t *testing.T) { stranger(t, a, kind, url, vms[0]) })
	t.Run("ref-03 a node with another bus", func(t *testing.T) {
		cfg := parsed(t, "-db", dsn, "-master-key", a.cfg.MasterKey, "-node", "d")
		s, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		var bad *FlagError
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		if err := s.Run(ctx); !errors.As(err, &bad) || bad.Flag != "bus" || !strings.Contains(err.Error(), kind) {
			t.Errorf("%v", err)
		}
	})
	t.Run("console-05 a viewer on another node", func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		frames := follow(ctx, t, c)
		b.until(func() bool { // from when on a knows that somebody looks at c
			_, j := a.deploy("seen", params{"startvm": "false"})
			a.wait(j).succeeds(t)
			time.Sleep(500 * time.Millisecond)
			return strings.Contains(frames(), j)
		})
	})
	t.Run("console-13 what only a process knows", func(t *testing.T) {
		for _, path := range []string{"/console/v1/periodic", "/console/v1/bus"} {
			var v struct {
				Items []struct{ Node, Error string }
				Alone bool
			}
			a.json("GET", path, "", &v)
			if fmt.Sprint(v) != "{[{a } {b } {c }] false}" {
				t.Errorf("%s: %v", path, v)
			}
		}
		a.json("POST", "/console/v1/members/b/drain", "{}", new(any))
		b.until(func() bool { return b.status("/readyz") == http.StatusServiceUnavailable })
		a.until(func() bool { return a.memberState("b") == "draining" })
		for _, vm := range vms { // also of those that b owns
			a.run("rebootVirtualMachine", params{"id": vm}).succeeds(t)
		}
		a.json("POST", "/console/v1/members/b/resume", "{}", new(any))
		b.until(func() bool { return b.status("/readyz") == http.StatusOK })
		a.until(func() bool { return a.memberState("b") == "up" })
	})
	t.Run("without the broker each node works alone", func(t *testing.T) {
		broker.Kill(t)
		for _, n := range all {
			n.run("rebootVirtualMachine", params{"id": vms[0]}).succeeds(t)
		}
	})
}

func TestBusAway(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nats://user:hunter2@127.0.0.1:1", "amqp://user:hunter2@127.0.0.1:1/"} {
		t.Run("ref-58 "+url[:4], func(t *testing.T) {
			var mu sync.Mutex
			var said strings.Builder
			cfg := parsed(t, "-bus", url)
			cfg.Env.Logger = slog.New(slog.NewTextHandler(writer(func(b []byte) { mu.Lock(); defer mu.Unlock(); said.Write(b) }), &slog.HandlerOptions{Level: slog.LevelDebug}))
			n := startWith(t, cfg)
			vm, j := n.deploy("alone", nil)
			n.wait(j).succeeds(t)
			n.run("rebootVirtualMachine", params{"id": vm}).succeeds(t)
			n.until(func() bool {
				mu.Lock()
				defer mu.Unlock()
				return strings.Contains(said.String(), "component=bus/"+url[:4])
			})
			var v any
			n.json("GET", "/console/v1/bus", "", &v)
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(said.String(), "hunter2") || strings.Contains(fmt.Sprint(v), "hunter2") {
				t.Error("the password is told")
			}
		})
	}
}

// writer is a function as an io.Writer.
type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// stranger reaches the broker, and has another master key.
func stranger(t *testing.T, n *node, kind, url, vm string) {
	env := drover.Env{Node: "stranger", Logger: slog.New(slog.DiscardHandler)}
	var tr bus.Transport
	var err error
	if tr, err = nats.New(nats.Config{Env: env, URL: url}); kind == "amqp" {
		tr, err = amqp.New(amqp.Config{Env: env, URL: url})
	}
	if err != nil {
		t.Fatal(err)
	}
	b := bus.New(tr, bus.Config{Env: env})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	defer func() { stop(); <-done }()
	key, err := cloud.ParseMasterKey(strings.Repeat("0b", 32))
	if err != nil {
		t.Fatal(err)
	}
	other := &cloud.Link{Env: env.Defaults(), Bus: b, Key: key}
	body := []byte(`{"Name":"destroyVirtualMachine","Params":{"id":"` + vm + `"},"Identity":{"userid":"system"}}`)
	for what, call := range map[string]func(m *bus.Message) error{
		"another key": func(m *bus.Message) error { _, err := other.Call(ctx, m); return err },
		"no key": func(m *bus.Message) error {
			m.Namespace = "refserver"
			_, err := b.Call(ctx, m)
			return err
		},
	} {
		for _, m := range []*bus.Message{{Topic: "command", Method: "dispatch"}, {Topic: consoleTopic, Method: "ask"}} {
			m.Node, m.Body = n.env.Node, body
			var refused *bus.RemoteError
			if err := call(m); !errors.As(err, &refused) || !strings.Contains(err.Error(), "master key") {
				t.Errorf("%s, %s: %v", what, m.Topic, err)
			}
		}
	}
	if got := n.state(vm); got != "Running" {
		t.Errorf("the machine is %s", got)
	}
}

// follow reads the live stream of a node's console.
func follow(ctx context.Context, t *testing.T, n *node) (frames func() string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/console/v1/events?topics=job", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(r.Body); s.Scan(); {
			mu.Lock()
			text.WriteString(s.Text() + "\n")
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = r.Body.Close(); <-done })
	frames = func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	n.until(func() bool { return strings.Contains(frames(), "hello") })
	return frames
}

// json asks the console.
func (n *node) json(method, path, body string, v any) {
	n.t.Helper()
	req, err := http.NewRequest(method, n.URL()+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(v); err != nil || r.StatusCode != http.StatusOK {
		n.t.Fatalf("%s: %d %v %v", path, r.StatusCode, v, err)
	}
}

func (n *node) memberState(id string) string {
	n.t.Helper()
	var v struct{ Items []struct{ ID, State string } }
	n.json("GET", "/console/v1/members", "", &v)
	for _, m := range v.Items {
		if m.ID == id {
			return m.State
		}
	}
	return ""
}
