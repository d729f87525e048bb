package clienttest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/cloudstack-go/v2/cloudstack"

	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/store/postgres"
)

// TestCluster runs three servers on one PostgreSQL: a job submitted at one is seen at the others, and completes there when the one
// that runs it is killed, within a session's lease, a second and a poll.
func TestCluster(t *testing.T) {
	dsn := testkit.Postgres(t).Database(t)
	key := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := func(name string) *server {
		return start(t, "-data", t.TempDir(), "-db", dsn, "-node", name, "-master-key", key, "-sim-latency", "4s", "-workers", "32")
	}
	a := node("a")
	ca := a.starter()
	w := look(t, ca)
	t.Run("ref-46 the node that runs 20 deploys dies", func(t *testing.T) {
		var jobs, vms []string
		for i := range 20 {
			r, err := ca.VirtualMachine.DeployVirtualMachine(deployParams(ca, w, fmt.Sprint("k", i)))
			if err != nil {
				t.Fatal(err)
			}
			jobs, vms = append(jobs, r.JobID), append(vms, r.Id)
		}
		b, c := node("b"), node("c") // while they all run at a
		if got := state(t, b.starter(), vms[0]); got != "Starting" {
			t.Errorf("seen at another: %s", got)
		}
		a.kill()
		killed := time.Now()
		const bound = 30*time.Second + time.Second + time.Second + 20*time.Second // lease, slack, poll, the work itself
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		others := []*cloudstack.CloudStackClient{b.starter(), c.starter()}
		for i, id := range jobs {
			if j := ended(ctx, t, others[i%2], id); j.Jobstatus != 1 {
				t.Errorf("job %s: %+v", id, j)
			}
			if got := state(t, others[(i+1)%2], vms[i]); got != "Running" {
				t.Errorf("VM %s is %s", vms[i], got)
			}
		}
		t.Logf("all jobs of the killed node ended %v after it died", time.Since(killed).Round(100*time.Millisecond))
		db, err := postgres.Open(dsn, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close() //nolint:errcheck // only read
		for _, vm := range vms {
			var hosts int
			if err := db.NewRaw(`SELECT count(*) FROM rs_sim WHERE state LIKE ?`, "%"+vm+"%").Scan(t.Context(), &hosts); err != nil || hosts != 1 {
				t.Errorf("VM %s is defined on %d hosts (%v)", vm, hosts, err)
			}
		}
	})
}
