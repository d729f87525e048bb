package clienttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover/internal/testkit"
)

// TestBus runs three servers on PostgreSQL with each bus and another membership: first the suite of the SDK, each part of it at
// another node, so that commands go to the owners of their machines; then one of the nodes leaves under load.
func TestBus(t *testing.T) {
	for _, c := range []struct {
		name, bus, members   string
		broker, membersStore func(t testing.TB) *testkit.Server
	}{
		{"postgres, nats, zk", "nats://%s", "zk://%s/cloud", testkit.FreshNATS, testkit.FreshZooKeeper},
		{"postgres, amqp, memcached", "amqp://guest:guest@%s/", "memcached://%s", testkit.FreshRabbitMQ, func(t testing.TB) *testkit.Server { return testkit.FreshMemcached(t) }},
	} {
		t.Run("ref-51 "+c.name, func(t *testing.T) {
			broker, members := c.broker(t), c.membersStore(t)
			dsn := testkit.Postgres(t).Database(t)
			key := filepath.Join(t.TempDir(), "master.key")
			if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
				t.Fatal(err)
			}
			leaver := []*testkit.Proxy{broker.Proxied(t), members.Proxied(t)} // between n2 and the others
			b := &bused{t: t, servers: map[string]*server{}}
			for _, name := range []string{"n1", "n2", "n3"} {
				addrs := []string{broker.Addr, members.Addr}
				if name == "n2" {
					addrs = []string{leaver[0].Addr(), leaver[1].Addr()}
				}
				b.servers[name] = start(t, "-data", t.TempDir(), "-db", dsn, "-node", name, "-master-key", key, "-bus", fmt.Sprintf(c.bus, addrs[0]),
					"-membership", fmt.Sprintf(c.members, addrs[1]), "-beat", beat.String(), "-down", "3s", "-sim-latency", "20ms", "-sim-fault", "start:name=fail*:capacity")
			}
			b.until("three are up", func() bool { return len(b.up("n1")) == 3 && len(b.up("n2")) == 3 && len(b.up("n3")) == 3 })
			b.suite()
			b.leave(leaver)
		})
	}
}

// bused is a cluster with a bus.
type bused struct {
	t       *testing.T
	servers map[string]*server
}

func (b *bused) until(what string, ok func() bool) {
	b.t.Helper()
	(&cluster{t: b.t}).until(30*time.Second, what, ok)
}

// get reads from a node's console.
func (b *bused) get(node, path string, v any) {
	b.t.Helper()
	r, err := http.Get("http://" + b.servers[node].addr + "/console/v1" + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(v); err != nil || r.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %d %v", path, r.StatusCode, err)
	}
}

// up are the members that a node sees up.
func (b *bused) up(node string) (names []string) {
	var v struct {
		Items []struct{ ID, State string }
	}
	b.get(node, "/members", &v)
	for _, m := range v.Items {
		if m.State == "up" {
			names = append(names, m.ID)
		}
	}
	return names
}

func (b *bused) owner(vm string) string {
	var v struct{ Owners []string }
	b.get("n1", "/members/owner?key="+url.QueryEscape("vm/"+vm), &v)
	return v.Owners[0]
}

// suite is that of the SDK, with another node for each part.
func (b *bused) suite() {
	t, s := b.t, b.servers
	c1, c2, c3 := s["n1"].client(), s["n2"].client(), s["n3"].client()
	w := look(t, c1)
	id := life(t, c1, w)
	queued(t, s["n2"], id)
	more(t, s["n3"], c3, id)
	failing(t, c2, w)
	paging(t, c3, w)
	others(t, c1)
	if _, err := c2.VirtualMachine.DestroyVirtualMachine(c2.VirtualMachine.NewDestroyVirtualMachineParams(id)); err != nil {
		t.Fatal(err)
	}
	if got := state(t, c3, id); got != "Destroyed" {
		t.Errorf("destroyed VM is %s", got)
	}
	var buses struct {
		Items []struct {
			Node, Error string
			Received    int64
			Endpoints   []struct{ Topic string }
		}
		Alone bool
	}
	b.get("n1", "/bus", &buses)
	for _, n := range buses.Items {
		if n.Error != "" || n.Received == 0 || len(n.Endpoints) == 0 {
			t.Errorf("bus of %+v", n)
		}
	}
	if len(buses.Items) != 3 || buses.Alone {
		t.Errorf("%d nodes have a bus", len(buses.Items))
	}
}

// submitted is a command of the load.
type submitted struct {
	vm, job     string
	began, done time.Time
}

// leave has n2 lose broker and membership while it is asked for its machines: what waits for it fails with the node, and is
// submitted elsewhere, once.
func (b *bused) leave(between []*testkit.Proxy) {
	t := b.t
	c := b.servers["n1"].client()
	w := look(t, c)
	owners := map[string]string{}
	var vms []string
	count := map[string]int{}
	for i := 0; i < 12 || count["n2"] == 0; i++ {
		vm, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, fmt.Sprint("load", i)))
		if err != nil {
			t.Fatal(err)
		}
		vms = append(vms, vm.Id)
		owners[vm.Id] = b.owner(vm.Id)
		count[owners[vm.Id]]++
	}
	var mu sync.Mutex
	var all []submitted
	var load sync.WaitGroup
	submit := func(i int) {
		s := submitted{vm: vms[i%len(vms)], began: time.Now()}
		c := b.servers[[]string{"n1", "n3"}[i%2]].starter()
		r, err := c.VirtualMachine.RebootVirtualMachine(c.VirtualMachine.NewRebootVirtualMachineParams(s.vm))
		if err != nil {
			t.Errorf("a client sees: %v", err)
			return
		}
		s.job, s.done = r.JobID, time.Now()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, s)
	}
	var cut, down time.Time
	for i := 0; down.IsZero() || time.Since(down) < 2*time.Second; i++ {
		load.Go(func() { submit(i) })
		time.Sleep(70 * time.Millisecond)
		switch {
		case i == 20:
			for _, p := range between {
				p.BlackHole()
			}
			cut = time.Now()
		case !cut.IsZero() && down.IsZero() && len(b.up("n1")) == 2 && len(b.up("n3")) == 2:
			down = time.Now()
			for vm, was := range owners {
				if is := b.owner(vm); was != "n2" && is != was || is == "n2" {
					t.Errorf("machine %s was %s's and is %s's", vm, was, is)
				}
			}
		case !cut.IsZero() && time.Since(cut) > 30*time.Second:
			t.Fatal("n2 is not down")
		}
	}
	load.Wait()
	b.judge(all, owners, cut, down)
	for _, p := range between {
		p.Heal()
	}
	b.until("n2 is back", func() bool { return len(b.up("n1")) == 3 })
	for vm, was := range owners {
		if is := b.owner(vm); is != was {
			t.Errorf("machine %s was %s's and is %s's after it came back", vm, was, is)
		}
	}
}

// judge looks at what became of the load.
func (b *bused) judge(all []submitted, owners map[string]string, cut, down time.Time) {
	t := b.t
	waited, late := 0, time.Duration(0)
	jobs := map[string]bool{}
	for _, s := range all {
		jobs[s.job] = true
		if owners[s.vm] == "n2" && s.began.After(cut) && s.began.Before(down.Add(-beat)) && s.done.After(down.Add(-beat)) {
			waited++
			late = max(late, s.done.Sub(down))
		}
	}
	t.Logf("%d commands, %d of them waited for the node that left; it was down %v after it was cut off, the last of them was taken %v after that",
		len(all), waited, down.Sub(cut).Round(10*time.Millisecond), late.Round(10*time.Millisecond))
	if waited == 0 || late > 3*time.Second || len(jobs) != len(all) {
		t.Errorf("%d waited, the last was taken %v later; %d jobs of %d commands", waited, late, len(jobs), len(all))
	}
	if said := b.servers["n1"].out.tail(1<<20) + b.servers["n3"].out.tail(1<<20); strings.Count(said, "bus: receiver lost") < waited {
		t.Errorf("only %d of %d calls failed with the loss of the node", strings.Count(said, "bus: receiver lost"), waited)
	}
	c := b.servers["n1"].starter()
	for id := range jobs {
		if j := ended(t.Context(), t, c, id); j.Jobstatus != 1 {
			t.Errorf("job %s: %+v", id, j)
		}
	}
	var made struct {
		Items []struct {
			ID   string
			Runs int
		}
	}
	b.get("n1", "/jobs?state=succeeded&state=failed&state=cancelled&kind=cmd.rebootVirtualMachine&limit=1000", &made)
	others := 0
	for _, j := range made.Items {
		if !jobs[j.ID] {
			others++
		} else if j.Runs != 1 {
			t.Errorf("job %s ran %d times", j.ID, j.Runs)
		}
	}
	if suite := 7; others != suite {
		t.Errorf("%d jobs that nobody has submitted", others-suite)
	}
}
