package server

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// nobodyElse is a machine that is off.
func nobodyElse(n *node) string {
	id, j := n.deploy("off", params{"startvm": "false"})
	n.wait(j).succeeds(n.t)
	return id
}

type movable struct {
	clock.Clock
	mu sync.Mutex
	by time.Duration
}

func (m *movable) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Clock.Now().Add(m.by)
}

func (m *movable) add(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.by += d
}

func TestHold(t *testing.T) {
	t.Parallel()
	n := start(t, "-hold", "3s", "-max-holds", "3", "-sim-latency", "300ms")
	query := func(ctx context.Context, job string, more params) (answer, time.Duration, error) {
		p := params{"command": "queryAsyncJobResult", "jobid": job}
		for k, v := range more {
			p[k] = v
		}
		began := time.Now()
		a, err := n.try(ctx, "POST", "/client/api", form(sign(p, "testsecret")))
		return a, time.Since(began), err
	}
	t.Run("ref-30 hold", func(t *testing.T) {
		_, j := n.deploy("h", nil)
		a, took, err := query(t.Context(), j, nil)
		if err != nil || num(a.body["jobstatus"]) != 1 || took > 2*time.Second || took < 200*time.Millisecond {
			t.Errorf("held %v: %s %v", took, a.raw, err)
		}
		if a, took, _ := query(t.Context(), j, nil); took > 200*time.Millisecond {
			t.Errorf("a finished job was held %v: %s", took, a.raw)
		}
		id := a.body["jobresult"].(map[string]any)["virtualmachine"].(map[string]any)["id"].(string)
		slow := func() string { // some seconds of turns
			for range 30 {
				n.call("rebootVirtualMachine", params{"id": id}).ok(t)
			}
			return n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid")
		}()
		if _, took, _ := query(t.Context(), slow, params{"wait": "0"}); took > 200*time.Millisecond {
			t.Errorf("wait=0 took %v", took)
		}
		if a, took, _ := query(t.Context(), slow, params{"wait": "1"}); took < time.Second || took > 1300*time.Millisecond || num(a.body["jobstatus"]) != 0 {
			t.Errorf("wait=1 took %v", took)
		}
		query26, _, _ := query(t.Context(), slow, params{"wait": "26"})
		query26.fails(t, 431, 4350, "wait")

		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _, _ = query(ctx, slow, nil) })
		}
		time.Sleep(200 * time.Millisecond)
		if _, took, _ := query(t.Context(), slow, nil); took > 200*time.Millisecond {
			t.Errorf("a fourth was held %v", took)
		}
		leave()
		wg.Wait()
		time.Sleep(100 * time.Millisecond)
		if _, took, _ := query(t.Context(), slow, params{"wait": "1"}); took < 900*time.Millisecond {
			t.Errorf("slots of clients that left are not free: %v", took)
		}
		n.face.Drain()
		if _, took, _ := query(t.Context(), slow, nil); took > 200*time.Millisecond {
			t.Errorf("held %v while draining", took)
		}
		drain, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		if err := n.jobs.Drain(drain); err == nil {
			t.Error("nothing ran")
		}
		refused := n.call("stopVirtualMachine", params{"id": id})
		if refused.fails(t, 503, 9999); refused.header.Get("Retry-After") != "5" {
			t.Errorf("%v", refused.header)
		}
	})
}
