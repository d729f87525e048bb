package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	world "github.com/drover-cloud/drover/testkit"
)

// on tells where each machine runs, by what the hosts keep.
func (x *simulation) on() map[string][]string {
	x.w.T.Helper()
	var rows []struct {
		Host  string `bun:"host"`
		State string `bun:"state"`
	}
	if err := x.db.bun.NewRaw(`SELECT host, state FROM rs_sim WHERE state <> '' ORDER BY host`).Scan(context.Background(), &rows); err != nil {
		x.w.T.Fatal(err)
	}
	out := map[string][]string{}
	for _, r := range rows {
		var host struct {
			VMs map[string]struct{ Power string }
		}
		if err := json.Unmarshal([]byte(r.State), &host); err != nil {
			x.w.T.Fatal(err)
		}
		for id, vm := range host.VMs {
			if vm.Power == "on" {
				out[id] = append(out[id], r.Host)
			}
		}
	}
	return out
}

// once checks that no machine runs twice.
func (x *simulation) once() {
	x.w.T.Helper()
	for id, hosts := range x.on() {
		if len(hosts) > 1 {
			x.w.T.Errorf("VM %s runs on %v", id, hosts)
		}
	}
}

const (
	liveJobs = `SELECT count(*) FROM drover_job WHERE state NOT IN ('succeeded', 'failed', 'cancelled')`
	moving   = `SELECT count(*) FROM rs_vm WHERE state NOT IN ('Running', 'Stopped', 'Error', 'Destroyed')`
)

// settles waits until nothing is under way any more, and checks that hosts, claims, addresses and volumes are as the rows say.
func (x *simulation) settles(within time.Duration) {
	t := x.w.T
	t.Helper()
	for end := time.Now().Add(within); x.count(liveJobs) > 0 || x.count(moving) > 0; {
		if x.w.Advance(time.Second); time.Now().After(end) {
			t.Fatalf("after %v there are %d jobs and %d machines under way: %s", within, x.count(liveJobs), x.count(moving), x.text(`SELECT group_concat(state || ' ' || job) FROM rs_vm`))
		}
	}
	x.once()
	on := x.on()
	var vms []struct {
		ID    string `bun:"id"`
		State string `bun:"state"`
		Host  string `bun:"host"`
	}
	if err := x.db.bun.NewRaw(`SELECT id, state, host FROM rs_vm ORDER BY id`).Scan(context.Background(), &vms); err != nil {
		t.Fatal(err)
	}
	for _, vm := range vms {
		var hosts []string
		things := 1
		switch vm.State {
		case "Running":
			hosts = []string{vm.Host}
		case "Error":
			things = 0
		case "Destroyed": // perhaps after it was in Error
			things = x.count(`SELECT count(*) FROM rs_volume WHERE vm = ?`, vm.ID)
		}
		if !slices.Equal(on[vm.ID], hosts) || vm.State != "Running" && vm.Host != "" {
			t.Errorf("VM %s is %s on %q, and runs on %v", vm.ID, vm.State, vm.Host, on[vm.ID])
		}
		claims := x.text(`SELECT coalesce(group_concat(host), '') FROM drover_claim WHERE workload = ? AND state IN ('held', 'committed')`, vm.ID)
		if claims != vm.Host {
			t.Errorf("VM %s is %s on %q, with claims on %q", vm.ID, vm.State, vm.Host, claims)
		}
		addresses := x.count(`SELECT count(*) FROM rs_ip WHERE nic IN (SELECT id FROM rs_nic WHERE vm = ?)`, vm.ID)
		if volumes := x.count(`SELECT count(*) FROM rs_volume WHERE vm = ?`, vm.ID); addresses != things || volumes != things {
			t.Errorf("VM %s is %s with %d addresses and %d volumes", vm.ID, vm.State, addresses, volumes)
		}
		delete(on, vm.ID)
	}
	for id, hosts := range on {
		t.Errorf("VM %s has no row and runs on %v", id, hosts)
	}
	for _, q := range []string{
		`SELECT count(*) FROM rs_ip WHERE nic NOT IN (SELECT id FROM rs_nic)`, `SELECT count(*) FROM rs_nic WHERE vm NOT IN (SELECT id FROM rs_vm)`,
		`SELECT count(*) FROM drover_claim WHERE state IN ('held', 'committed') AND workload NOT IN (SELECT id FROM rs_vm)`,
	} {
		if n := x.count(q); n != 0 {
			t.Errorf("%s: %d", q, n)
		}
	}
}

// ask has a node do a command, as a client that waits for 20 s at most; false: who knows.
func (x *simulation) ask(at, command string, p params) (answer, bool) {
	q := params{"command": command}
	for k, v := range p {
		q[k] = v
	}
	n := x.nodes[at]
	if n == nil {
		return answer{}, false
	}
	ctx, cancel := context.WithTimeout(x.w.T.Context(), 20*time.Second)
	defer cancel()
	a, err := n.try(ctx, "POST", "/client/api", form(sign(q, "testsecret")))
	return a, err == nil && a.status == 200
}

// A crash before and after every call of the store, and of the hosts, which keep what they do there.
func TestDeployCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("a world for every operation")
	}
	t.Parallel()
	t.Run("ref-47 a crash anywhere in a deploy", func(t *testing.T) {
		world.Explore(t, 1, func(w *world.World) {
			w.JobInvariants()
			w.LeaseInvariants()
			x := simulate(w, "-sim-latency", "20ms")
			a := x.node("a")
			var made answer
			accepted := false
			w.CrashPoints(a, func() {
				made, accepted = x.ask("a", "deployVirtualMachine", params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "name": "vm1"})
				w.Advance(300 * time.Millisecond)
			})
			a.Restart()
			delete(x.nodes, "a")
			x.ready("a")
			x.settles(3 * time.Minute)
			switch state := x.text(`SELECT group_concat(state) FROM rs_vm`); {
			case accepted && (state != "Running" && state != "Error" || x.count(`SELECT count(*) FROM drover_job WHERE id = ?`, made.str("jobid")) != 1):
				w.T.Errorf("accepted, and is %q", state)
			case state != "Running" && state != "Error" && state != "":
				w.T.Errorf("is %q", state)
			}
		}, world.Store(openSim), world.AtMost(1))
	})
}

// verbs are what clients ask for at random; of a machine, if there is one.
var verbs = []struct {
	command, id string
	more        params
}{
	{"deployVirtualMachine", "", params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12}},
	{"startVirtualMachine", "id", nil}, {"stopVirtualMachine", "id", nil}, {"stopVirtualMachine", "id", params{"forced": "true"}},
	{"rebootVirtualMachine", "id", nil}, {"migrateVirtualMachine", "virtualmachineid", nil}, {"scaleVirtualMachine", "id", params{"serviceofferingid": small}},
	{"destroyVirtualMachine", "id", nil}, {"recoverVirtualMachine", "id", nil}, {"updateVirtualMachine", "id", params{"displayname": "other"}},
	{"listVirtualMachines", "id", nil}, {"cancelAsyncJob", "jobid", nil},
}

// client asks for things at random, of random nodes, and keeps the jobs that were accepted.
type client struct {
	*simulation
	r         *rand.Rand
	name      string
	vms, jobs []string
}

func (c *client) act() {
	v := verbs[c.r.IntN(len(verbs))]
	if len(c.vms) < 2 {
		v = verbs[0]
	}
	p := params{}
	for k, x := range v.more {
		p[k] = x
	}
	switch {
	case v.id == "jobid":
		p["jobid"] = c.jobs[c.r.IntN(len(c.jobs))]
	case v.id != "":
		p[v.id] = c.vms[c.r.IntN(len(c.vms))]
	}
	a, ok := c.ask([]string{"a", "b", "c"}[c.r.IntN(3)], v.command, p)
	if !ok {
		return
	}
	if id := a.str("jobid"); id != "" && v.command != "cancelAsyncJob" {
		c.jobs = append(c.jobs, id)
	}
	if id := a.str("id"); v.id == "" {
		c.vms = append(c.vms, id)
	}
}

func TestWholeServer(t *testing.T) {
	t.Parallel()
	seeds := 20
	if os.Getenv("DROVER_LONG") != "" {
		seeds = 200
	}
	t.Run("ref-64 the whole server in the simulator", func(t *testing.T) {
		world.Explore(t, seeds, func(w *world.World) {
			w.JobInvariants()
			w.LeaseInvariants()
			x := simulate(w, "-sim-hosts", "3")
			for _, name := range []string{"a", "b", "c"} {
				x.node(name)
			}
			stop := w.Chaos(world.Hostile)
			clients, left := make([]*client, 3), 3
			for i := range clients {
				c := &client{simulation: x, name: fmt.Sprint("client-", i)}
				c.r = w.Rand(c.name)
				clients[i] = c
				w.Go(c.name, func() {
					for range 10 {
						c.act()
						w.Advance(time.Duration(c.r.Int64N(int64(6 * time.Second))))
					}
					left--
				})
			}
			for left > 0 {
				w.Advance(5 * time.Second)
				x.once()
			}
			stop()
			w.Heal()
			w.Advance(time.Minute) // sessions are held again
			x.settles(10 * time.Minute)
			for _, c := range clients {
				for _, id := range c.jobs {
					if x.count(`SELECT count(*) FROM drover_job WHERE id = ?`, id) != 1 {
						w.T.Errorf("job %s was accepted and is gone", id)
					}
				}
			}
		}, world.Store(openSim), world.AtMost(seeds))
	})
}
