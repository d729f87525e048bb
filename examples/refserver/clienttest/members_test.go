package clienttest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

const (
	beat = 500 * time.Millisecond
	down = 5 * time.Second
)

// TestMembers runs three servers on PostgreSQL, with each membership. The one that has the cluster's tasks is killed: drover
// members tells within the configured time, and the tasks move to another.
func TestMembers(t *testing.T) {
	drover := filepath.Join(t.TempDir(), "drover")
	cmd := exec.Command("go", "build", "-o", drover, "./cmd/drover")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for kind, address := range map[string]func(t *testing.T) string{
		"db":        func(*testing.T) string { return "db" },
		"zk":        func(t *testing.T) string { return "zk://" + testkit.FreshZooKeeper(t).Addr + "/cloud" },
		"memcached": func(t *testing.T) string { return "memcached://" + testkit.FreshMemcached(t).Addr },
	} {
		if kind != "zk" && os.Getenv("DROVER_LONG") == "" {
			continue // one will do where time counts
		}
		t.Run("service-49 a node is killed, membership by "+kind, func(t *testing.T) {
			killLeader(t, drover, address(t))
		})
	}
}

// cluster is three servers by name.
type cluster struct {
	t       *testing.T
	drover  string // the command
	servers map[string]*server
}

func killLeader(t *testing.T, drover, membership string) {
	dsn := testkit.Postgres(t).Database(t)
	key := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, drover: drover, servers: map[string]*server{}}
	for _, name := range []string{"n1", "n2", "n3"} {
		c.servers[name] = start(t, "-data", t.TempDir(), "-db", dsn, "-node", name, "-master-key", key,
			"-sim-latency", "1s", "-membership", membership, "-beat", beat.String(), "-down", down.String())
	}
	c.until(20*time.Second, "three are up", func() bool {
		return fmt.Sprint(c.members("n3")) == fmt.Sprint(map[string]string{"n1": "up", "n2": "up", "n3": "up"})
	})
	var first string
	c.until(20*time.Second, "a task runs", func() bool { first = c.holder(); return first != "" })
	before := c.settled()
	other := map[bool]string{true: "n2", false: "n1"}[first == "n1"]
	client := c.servers[first].starter()
	w := look(t, client)
	var jobs []string
	for i := range 6 {
		r, err := client.VirtualMachine.DeployVirtualMachine(deployParams(client, w, fmt.Sprint("k", i)))
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, r.JobID)
	}
	time.Sleep(300 * time.Millisecond) // they are in the middle of a step of a second, on all nodes
	c.servers[first].kill()
	killed := time.Now()
	delete(c.servers, first)
	c.until(down+2*beat+2*time.Second, first+" is down", func() bool { return c.members(other)[first] == "down" })
	t.Logf("%s was down for drover members %v after it was killed", first, time.Since(killed).Round(100*time.Millisecond))
	c.until(45*time.Second, "the task has moved", func() bool { // a run that was cut off is its session's until the lease is over
		for name, runs := range c.settled() {
			if name != first && runs > before[name]+3 {
				return true
			}
		}
		return false
	})
	t.Logf("the task ran elsewhere %v after the kill", time.Since(killed).Round(100*time.Millisecond))
	const bound = 31*time.Second + 10*time.Second // lease and poll, and the work itself
	ctx, cancel := context.WithDeadline(t.Context(), killed.Add(bound))
	defer cancel()
	for _, id := range jobs {
		if j := ended(ctx, t, c.servers[other].starter(), id); j.Jobstatus != 1 {
			t.Errorf("job %s: %+v", id, j)
		}
	}
	for name, state := range c.members(other) {
		if want := map[bool]string{true: "down", false: "up"}[name == first]; state != want {
			t.Errorf("%s is %s", name, state)
		}
	}
	for name, s := range c.servers { // a stop in good order is told at once
		s.terminate()
		delete(c.servers, name)
		for rest := range c.servers {
			c.until(2*time.Second+2*beat, name+" has left", func() bool { return c.members(rest)[name] == "left" })
		}
		if len(c.servers) == 1 {
			break
		}
	}
}

func (c *cluster) until(within time.Duration, what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// members is what the operator's command says, asking one of the servers.
func (c *cluster) members(via string) map[string]string {
	c.t.Helper()
	out, err := exec.Command(c.drover, "-server", "http://"+c.servers[via].addr+"/console", "-o", "json", "members").Output()
	if err != nil {
		c.t.Fatalf("drover members: %v %s", err, out)
	}
	var got struct {
		Items []struct{ ID, State string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	states := map[string]string{}
	for _, m := range got.Items {
		states[m.ID] = m.State
	}
	return states
}

// settled is how often each server has run the task "settle".
func (c *cluster) settled() map[string]int {
	c.t.Helper()
	runs := map[string]int{}
	for name, s := range c.servers {
		r, err := http.Get("http://" + s.addr + "/console/v1/periodic")
		if err != nil {
			c.t.Fatal(err)
		}
		var got struct {
			Nodes []struct {
				Node  string
				Tasks []struct {
					Name string
					Runs int
				}
			} `json:"items"`
		}
		err = json.NewDecoder(r.Body).Decode(&got)
		_ = r.Body.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		for _, n := range got.Nodes {
			for _, task := range n.Tasks {
				if n.Node == name && task.Name == "settle" {
					runs[name] = task.Runs
				}
			}
		}
	}
	return runs
}

// holder is the server that has run it most, if it is the only one of late.
func (c *cluster) holder() (name string) {
	before := c.settled()
	time.Sleep(5 * time.Second)
	for n, runs := range c.settled() {
		if runs > before[n] {
			if name != "" {
				return ""
			}
			name = n
		}
	}
	return name
}
