package server

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

func TestTerminated(t *testing.T) {
	t.Parallel()
	t.Run("ref-52 what runs ends, what waits is answered", func(t *testing.T) {
		t.Parallel()
		n := start(t, "-data", t.TempDir(), "-db", "", "-sim-latency", "5s", "-hold", "20s", "-drain-delay", "1s")
		var jobs []string
		for i := range 10 {
			_, j := n.deploy(fmt.Sprint("d", i), nil)
			jobs = append(jobs, j)
		}
		n.until(func() bool { return n.count(`SELECT count(*) FROM rs_vm WHERE host <> ''`) == 10 })
		var waiting sync.WaitGroup
		for i := range 3 {
			waiting.Go(func() {
				began := time.Now()
				if a := n.call("queryAsyncJobResult", params{"jobid": jobs[i]}); num(a.body["jobstatus"]) != 0 || time.Since(began) > 4*time.Second {
					t.Errorf("held for %v: %s", time.Since(began), a.raw)
				}
			})
		}
		for range 2 {
			req, err := http.NewRequest(http.MethodGet, n.URL()+"/v1/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer testkey.testsecret")
			r, err := http.DefaultClient.Do(req)
			if err != nil || r.StatusCode != http.StatusOK {
				t.Fatal(r, err)
			}
			waiting.Go(func() {
				defer r.Body.Close() //nolint:errcheck // only read
				bye := false
				for lines := bufio.NewScanner(r.Body); lines.Scan(); {
					bye = bye || strings.Contains(lines.Text(), "bye")
				}
				if !bye {
					t.Error("a stream ends without bye")
				}
			})
		}
		n.until(func() bool { return n.face.Holds() == 3 })
		began := time.Now()
		n.stop()
		n.until(func() bool { return n.status("/readyz") == http.StatusServiceUnavailable })
		if took := time.Since(began); took > time.Second {
			t.Errorf("not ready after %v", took)
		}
		waiting.Wait()
		var ended int
		if err := <-n.done; err != nil {
			t.Errorf("exit: %v", err)
		}
		took := time.Since(began)
		n.done <- nil
		if took > 10*time.Second {
			t.Errorf("stopped after %v", took)
		}
		again := startWith(t, n.cfg)
		for _, j := range jobs {
			if a := again.call("queryAsyncJobResult", params{"jobid": j, "wait": "0"}); num(a.body["jobstatus"]) == 1 {
				ended++
			}
		}
		if ended != len(jobs) {
			t.Errorf("%d of %d had ended", ended, len(jobs))
		}
	})
	t.Run("ref-52 a long job goes on at the next node", func(t *testing.T) {
		t.Parallel()
		args := []string{"-data", t.TempDir(), "-db", "", "-drain", "500ms"}
		n := start(t, append(args, "-sim-fault", "start:*:slow=60s")...)
		id, j := n.deploy("long", nil)
		n.until(func() bool { return n.count(`SELECT count(*) FROM rs_sim WHERE state LIKE ?`, "%"+id+"%") == 1 })
		attempts := func(n *node) int { return n.count(`SELECT attempt FROM drover_job WHERE id = ?`, j) }
		before := attempts(n)
		n.stop()
		if err := <-n.done; err != nil {
			t.Errorf("exit: %v", err)
		}
		n.done <- nil
		next := start(t, args...)
		next.wait(j).succeeds(t)
		if after := attempts(next); after != before {
			t.Errorf("attempt %d, was %d", after, before)
		}
	})
}

func TestSessionOver(t *testing.T) {
	t.Parallel()
	now := &movable{Clock: clock.New()}
	cfg := parsed(t, "-data", t.TempDir(), "-db", "", "-sim-fault", "start:name=slow*:slow=3m")
	cfg.Env.Clock = now
	n := startWith(t, cfg)
	t.Run("ref-67 a node without a session", func(t *testing.T) {
		id, j := n.deploy("slow", nil)
		n.until(func() bool { return n.count(`SELECT count(*) FROM rs_vm WHERE host <> ''`) == 1 })
		writer, err := n.bun.DB.Conn(t.Context()) // the store takes no writes, so that no session is renewed
		if err != nil {
			t.Fatal(err)
		}
		if _, err := writer.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		now.add(time.Minute)
		if got := n.status("/readyz"); got != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d", got)
		}
		n.call("listVirtualMachines", nil).ok(t)
		n.call("rebootVirtualMachine", params{"id": id}).fails(t, 503, 9999)
		if r, p := n.v1("POST", "/v1/commands/rebootVirtualMachine", `{"id":"`+id+`"}`); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", r.StatusCode, p)
		}
		if _, err := writer.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		_ = writer.Close()
		n.until(func() bool { return n.status("/readyz") == http.StatusOK }) // a session of its own again
		n.call("rebootVirtualMachine", params{"id": id}).ok(t)
		n.until(func() bool { return n.count(`SELECT runs FROM drover_job WHERE id = ?`, j) > 1 }) // the first run was told job.ErrLost
	})
}
