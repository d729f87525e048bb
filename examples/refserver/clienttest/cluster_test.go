package clienttest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

// TestCluster runs two servers on one PostgreSQL: a job submitted at one is seen at the other, and completes there when
// the first is killed, within a session's lease, a second and a poll.
func TestCluster(t *testing.T) {
	dsn := testkit.Postgres(t).Database(t)
	key := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := func(name string) *server {
		return start(t, "-data", t.TempDir(), "-db", dsn, "-node", name, "-master-key", key, "-sim-latency", "1s")
	}
	a, b := node("a"), node("b")
	ca, cb := a.starter(), b.starter()
	w := look(t, ca)

	r, err := ca.VirtualMachine.DeployVirtualMachine(deployParams(ca, w, "shared"))
	if err != nil {
		t.Fatal(err)
	}
	if j := ended(t.Context(), t, cb, r.JobID); j.Jobstatus != 1 {
		t.Fatalf("polled at the other: %+v", j)
	}
	if got := state(t, cb, r.Id); got != "Running" {
		t.Fatalf("seen at the other: %s", got)
	}

	var jobs, vms []string
	for _, name := range []string{"k1", "k2", "k3", "k4", "k5", "k6"} {
		r, err := ca.VirtualMachine.DeployVirtualMachine(deployParams(ca, w, name))
		if err != nil {
			t.Fatal(err)
		}
		jobs, vms = append(jobs, r.JobID), append(vms, r.Id)
	}
	time.Sleep(300 * time.Millisecond) // the jobs are in the middle of a step of a second on either node
	a.kill()
	killed := time.Now()
	const bound = 30*time.Second + time.Second + time.Second + 10*time.Second // lease, slack, poll, the work itself
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	for i, id := range jobs {
		if j := ended(ctx, t, cb, id); j.Jobstatus != 1 {
			t.Errorf("job %s: %+v", id, j)
		}
		if got := state(t, cb, vms[i]); got != "Running" {
			t.Errorf("VM %s is %s", vms[i], got)
		}
	}
	t.Logf("all jobs of the killed node ended %v after it died", time.Since(killed).Round(100*time.Millisecond))
}
