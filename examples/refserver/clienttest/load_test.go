package clienttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
	"github.com/drover-cloud/drover/internal/testkit"
)

// balancer sends requests to its servers by turns, and to none that says it is not ready or cannot be reached.
type balancer struct {
	t     *testing.T
	http  *http.Client
	nodes []*server
	ready []atomic.Bool
	turn  atomic.Uint64
	lost  atomic.Int64 // connections refused or cut
}

func balance(t *testing.T, nodes ...*server) *balancer {
	b := &balancer{
		t: t, nodes: nodes, ready: make([]atomic.Bool, len(nodes)),
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
	}
	for i := range b.ready {
		b.ready[i].Store(true)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for i, s := range nodes {
				r, err := b.http.Get("http://" + s.addr + "/readyz")
				if err == nil {
					_ = r.Body.Close()
				}
				b.ready[i].Store(err == nil && r.StatusCode == http.StatusOK)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	return b
}

func (b *balancer) any() bool {
	for i := range b.ready {
		if b.ready[i].Load() {
			return true
		}
	}
	return false
}

// call answers the body of the envelope. A connection that is refused or cut is tried at the next server; any other error is
// the client's to see.
func (b *balancer) call(ctx context.Context, p map[string]string) (map[string]any, error) {
	p["apiKey"], p["response"] = "testkey", "json"
	delete(p, "signature")
	p["signature"] = csapi.Sign(p, []byte("testsecret"))
	form := url.Values{}
	for k, v := range p {
		form.Set(k, v)
	}
	for {
		i := int(b.turn.Add(1) % uint64(len(b.nodes)))
		if !b.ready[i].Load() && b.any() {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.nodes[i].addr+"/client/api", bytes.NewReader([]byte(form.Encode())))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r, err := b.http.Do(req)
		var text []byte
		if err == nil {
			text, err = io.ReadAll(r.Body)
			_ = r.Body.Close()
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, errors.Join(err, context.Cause(ctx))
			}
			b.lost.Add(1)
			b.ready[i].Store(false)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var top map[string]map[string]any
		if err := json.Unmarshal(text, &top); err != nil || r.StatusCode != http.StatusOK || len(top) != 1 {
			return nil, fmt.Errorf("%s: %d: %s", p["command"], r.StatusCode, text)
		}
		for _, body := range top {
			return body, nil
		}
	}
}

// TestLoad is two servers on one PostgreSQL under a stream of deploys, with one SIGKILL and one drain: every accepted job ends, every
// machine is in the state that its job reports, and no client sees another error than a connection that is gone.
func TestLoad(t *testing.T) {
	rate, length := 15, 6*time.Second
	if os.Getenv("DROVER_LONG") != "" {
		rate, length = 50, time.Minute
	}
	dir := t.TempDir()
	seed, err := os.ReadFile("../seed.json")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"10.1.1.0/24": "10.1.0.0/16", `"10.1.1.250"`: `"10.1.255.250"`} { // room for all
		seed = bytes.Replace(seed, []byte(from), []byte(to), 1)
	}
	for name, text := range map[string][]byte{"seed.json": seed, "master.key": []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dsn := testkit.Postgres(t).Database(t)
	node := func(name string) *server {
		return start(t, "-data", t.TempDir(), "-db", dsn, "-node", name, "-master-key", filepath.Join(dir, "master.key"), "-seed", filepath.Join(dir, "seed.json"),
			"-sim-hosts", "200", "-sim-latency", "50ms", "-workers", "32", "-console", "off")
	}
	a, b := node("a"), node("b")
	w := look(t, a.starter())
	lb := balance(t, a, b)
	steps := sync.WaitGroup{}
	steps.Go(func() {
		time.Sleep(length / 4)
		a.kill()
		a.again()
	})
	steps.Go(func() {
		time.Sleep(length * 2 / 3)
		t.Logf("drained in %v", b.terminate())
		b.again()
	})
	ctx, cancel := context.WithTimeout(t.Context(), length+4*time.Minute)
	defer cancel()
	n := rate * int(length/time.Second)
	states, began := make([]string, n), time.Now()
	var deploys sync.WaitGroup
	for i := range n {
		if d := time.Duration(i)*time.Second/time.Duration(rate) - time.Since(began); d > 0 {
			time.Sleep(d)
		}
		deploys.Go(func() { states[i] = lb.deploy(ctx, w, fmt.Sprint("load", i)) })
	}
	deploys.Wait()
	steps.Wait()
	took := time.Since(began)
	count := map[string]int{}
	for _, s := range states {
		count[s]++
	}
	t.Logf("%d deploys at %d/s: %v after %v; %d connections were gone", n, rate, count, took.Round(100*time.Millisecond), lb.lost.Load())
	if count["Running"] != n {
		t.Errorf("%v", count)
	}
}

var newID = drover.Env{}.Defaults().NewID

// deploy brings a machine up, waits for the job's end, and gives the machine's state, or what was wrong.
func (b *balancer) deploy(ctx context.Context, w world, name string) string {
	made, err := b.call(ctx, map[string]string{
		"command": "deployVirtualMachine", "name": name, "serviceofferingid": w.small, "templateid": w.template, "zoneid": w.zone,
		"customjobid": newID(), // the same request again, at whichever server, is the same job
	})
	if err != nil {
		b.t.Errorf("a client sees: %v", err)
		return "refused"
	}
	for {
		j, err := b.call(ctx, map[string]string{"command": "queryAsyncJobResult", "jobid": fmt.Sprint(made["jobid"])})
		if err != nil {
			b.t.Errorf("a client sees: %v", err)
			return "lost"
		}
		if j["jobstatus"] == 0.0 {
			continue
		}
		l, err := b.call(ctx, map[string]string{"command": "listVirtualMachines", "id": fmt.Sprint(made["id"])})
		vms, _ := l["virtualmachine"].([]any)
		if err != nil || len(vms) != 1 {
			b.t.Errorf("machine %v: %v %v", made["id"], l, err)
			return "absent"
		}
		state := fmt.Sprint(vms[0].(map[string]any)["state"])
		if want := map[any]string{1.0: "Running", 2.0: "Error"}[j["jobstatus"]]; state != want {
			b.t.Errorf("job %v: %v, its machine is %s", made["jobid"], j, state)
		}
		return state
	}
}
