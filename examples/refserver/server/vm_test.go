package server

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

func TestLife(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "300ms", "-sim-fault", "start:name=fail*:capacity")
	t.Run("ref-29 listed at once", func(t *testing.T) {
		id, j := n.deploy("vm1", params{"displayname": "100% wrong"})
		if vm := n.vm(id); vm["state"] != "Starting" || vm["jobid"] != j || num(vm["jobstatus"]) != 0 {
			t.Errorf("while it starts: %v", vm)
		}
		vm := n.wait(j).succeeds(t)
		nic := vm["nic"].([]any)[0].(map[string]any)
		for k, want := range map[string]string{"ipaddress": "10.1.1.10", "netmask": "255.255.255.0", "gateway": "10.1.1.1", "macaddress": "02:00:0a:01:01:0a", "networkid": net1} {
			if nic[k] != want {
				t.Errorf("nic %s is %v, want %s", k, nic[k], want)
			}
		}
		if vm["state"] != "Running" || vm["hostid"] != hostA {
			t.Errorf("%v", vm)
		}
		if vm := n.vm(id); vm["jobid"] != nil {
			t.Errorf("names a job that has ended: %v", vm)
		}
		t.Run("ref-33 percent", func(t *testing.T) {
			n.run("startVirtualMachine", params{"id": id}).failed(t, 530, "100% wrong", "Running")
		})
		t.Run("ref-31 results are objects", func(t *testing.T) {
			for _, verb := range []string{"reboot", "stop", "start", "destroy"} {
				n.run(verb+"VirtualMachine", params{"id": id}).succeeds(t)
				n.run("rebootVirtualMachine", params{"id": nobodyElse(n)}).failed(t, 530)
			}
		})
		t.Run("ref-32 results name no job", func(t *testing.T) {
			for _, a := range n.call("listAsyncJobs", params{"jobstatus": "1"}).ok(t).list("asyncjobs") {
				vm := a["jobresult"].(map[string]any)["virtualmachine"].(map[string]any)
				if vm["jobid"] != nil || vm["jobstatus"] != nil {
					t.Errorf("%v", a)
				}
			}
		})
	})
	t.Run("a failed deploy leaves nothing", func(t *testing.T) {
		id, j := n.deploy("fail1", nil)
		n.wait(j).failed(t, 533, "Unable to create a deployment for VM instance "+id)
		if vm := n.vm(id); vm["state"] != "Error" || len(vm["nic"].([]any)) != 0 || vm["hostid"] != nil {
			t.Errorf("%v", vm)
		}
		var left int
		for _, q := range []string{`SELECT count(*) FROM rs_ip WHERE nic NOT IN (SELECT id FROM rs_nic)`,
			`SELECT count(*) FROM rs_volume WHERE vm = '` + id + `'`, `SELECT count(*) FROM drover_claim WHERE workload = '` + id + `'`,
			`SELECT count(*) FROM rs_sim WHERE state LIKE '%` + id + `%'`} {
			if err := n.bun.NewRaw(q).Scan(t.Context(), &left); err != nil || left != 0 {
				t.Errorf("%s: %d, %v", q, left, err)
			}
		}
		n.run("destroyVirtualMachine", params{"id": id, "expunge": "true"}).succeeds(t)
		n.call("listVirtualMachines", params{"id": id}).fails(t, 431, 4350, fixed)
	})
}

// From which states each verb moves a machine, and to which.
func TestMoves(t *testing.T) {
	t.Parallel()
	states := []string{"Starting", "Running", "Stopping", "Stopped", "Destroyed", "Expunging", "Error", "Migrating", "Unknown"}
	n := start(t, "-sim-latency", "0", "-sim-hosts", "6")
	for _, v := range []struct {
		name, command string
		more          params
		from          []string
		to            string
	}{
		{"start", "startVirtualMachine", nil, []string{"Stopped"}, "Running"},
		{"stop", "stopVirtualMachine", nil, []string{"Running"}, "Stopped"},
		{"forced stop", "stopVirtualMachine", params{"forced": "true"}, []string{"Running", "Starting", "Stopping", "Unknown"}, "Stopped"},
		{"reboot", "rebootVirtualMachine", nil, []string{"Running"}, "Running"},
		{"destroy", "destroyVirtualMachine", nil, []string{"Running", "Stopped", "Error", "Unknown"}, "Destroyed"},
		{"migrate", "migrateVirtualMachine", nil, []string{"Running"}, "Running"},
		{"scale", "scaleVirtualMachine", params{"serviceofferingid": small}, []string{"Running", "Stopped"}, "same"},
		{"expunge", "expungeVirtualMachine", nil, []string{"Destroyed", "Error", "Expunging"}, "gone"},
	} {
		for _, from := range states {
			t.Run(fmt.Sprintf("ref-43 %s from %s", v.name, from), func(t *testing.T) {
				off := slices.Contains([]string{"Stopped", "Destroyed", "Expunging", "Error"}, from)
				id, j := n.deploy("m", params{"startvm": fmt.Sprint(!off)})
				n.wait(j).succeeds(t)
				if _, err := n.bun.Exec(`UPDATE rs_vm SET state = ? WHERE id = ?`, from, id); err != nil {
					t.Fatal(err)
				}
				p := params{"id": id}
				if v.name == "migrate" {
					p = params{"virtualmachineid": id}
				}
				for k, x := range v.more {
					p[k] = x
				}
				a := n.run(v.command, p)
				to := v.to
				if to == "same" {
					to = from
				}
				if slices.Contains(v.from, from) && to == "gone" {
					a.succeeds(t)
					n.call("listVirtualMachines", params{"id": id}).fails(t, 431, 4350, fixed)
					return
				}
				if slices.Contains(v.from, from) {
					if a.succeeds(t); n.state(id) != to {
						t.Errorf("is %s", n.state(id))
					}
				} else if a.failed(t, 530, from); n.state(id) != from {
					t.Errorf("was touched: is %s", n.state(id))
				}
				if _, err := n.bun.Exec(`UPDATE rs_vm SET state = 'Unknown' WHERE id = ?`, id); err != nil { // and away with it
					t.Fatal(err)
				}
				n.run("destroyVirtualMachine", params{"id": id, "expunge": "true"}).succeeds(t)
			})
		}
	}
}

func TestTurns(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "5ms")
	id, j := n.deploy("t", nil)
	n.wait(j).succeeds(t)
	t.Run("ref-36 two stops, a hundred reboots", func(t *testing.T) {
		var jobs []string
		for range 100 {
			jobs = append(jobs, n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid"))
		}
		stops := []string{n.call("stopVirtualMachine", params{"id": id}).ok(t).str("jobid"), n.call("stopVirtualMachine", params{"id": id}).ok(t).str("jobid")}
		n.wait(stops[0]).succeeds(t)
		n.wait(stops[1]).failed(t, 530, "Stopped")
		var began []int64
		for _, j := range jobs {
			n.wait(j).succeeds(t)
			row, err := n.jobs.Get(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			began = append(began, row.Started.UnixMicro())
		}
		if !slices.IsSorted(began) {
			t.Errorf("out of order: %v", began)
		}
	})
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	cfg := parsed(t, "-sim-latency", "1ms")
	cfg.Seed = bytes.Replace(cfg.Seed, []byte(`"memory": 512`), []byte(`"memory": 1024`), 1)
	n := startWith(t, cfg)
	t.Run("ref-45 more than fits", func(t *testing.T) {
		var jobs []string
		for i := range 40 { // 8 of 1 GiB fit a host of 8 GiB
			_, j := n.deploy(fmt.Sprint("c", i), nil)
			jobs = append(jobs, j)
		}
		running, refused := 0, 0
		for _, j := range jobs {
			switch a := n.wait(j); int(num(a.body["jobstatus"])) {
			case 1:
				running++
			default:
				a.failed(t, 533)
				refused++
			}
		}
		if running != 16 || refused != 24 {
			t.Errorf("%d run, %d were refused", running, refused)
		}
		for _, h := range n.call("listHosts", nil).list("host") {
			if num(h["memoryallocated"]) != num(h["memorytotal"]) {
				t.Errorf("%v", h)
			}
		}
		if ips, claims := n.count(`SELECT count(*) FROM rs_ip`), n.count(`SELECT count(*) FROM drover_claim`); ips != 16 || claims != 16 {
			t.Errorf("%d addresses, %d claims", ips, claims)
		}
	})
}

func TestCustomJob(t *testing.T) {
	t.Parallel()
	n := start(t)
	t.Run("ref-41 customjobid", func(t *testing.T) {
		const id = "0190b5a0-0000-7000-8000-00000000abcd"
		p := params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "name": "once", "customjobid": "nope"}
		n.call("deployVirtualMachine", p).fails(t, 431, 4350, "customjobid")
		p["customjobid"] = id
		first := n.call("deployVirtualMachine", p).ok(t)
		if first.str("jobid") != id {
			t.Errorf("%s", first.raw)
		}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				q := params{"expires": time.Now().Add(time.Minute).UTC().Format(time.RFC3339), "signatureversion": "3"}
				for k, v := range p {
					q[k] = v
				}
				if a := n.call("deployVirtualMachine", q); a.str("id") != first.str("id") || a.str("jobid") != id {
					t.Errorf("repeat %d: %s", i, a.raw)
				}
			})
		}
		wg.Wait()
		n.wait(id).succeeds(t)
		if l := n.call("listVirtualMachines", params{"name": "once"}).list("virtualmachine"); len(l) != 1 {
			t.Errorf("%d machines", len(l))
		}
		p["name"] = "twice"
		n.call("deployVirtualMachine", p).fails(t, 431, 4350)
		n.call("stopVirtualMachine", params{"id": first.str("id"), "customjobid": id}).fails(t, 431, 4350)
	})
}

func TestJobs(t *testing.T) {
	t.Parallel()
	now := &movable{Clock: clock.New()}
	cfg := parsed(t, "-sim-latency", "1500ms", "-job-retention", "1h") // long enough for all that is asked while the job runs
	cfg.Env.Clock = now
	n := startWith(t, cfg)
	id, j := n.deploy("j", nil)
	t.Run("ref-40 listAsyncJobs", func(t *testing.T) {
		node := n.call("queryAsyncJobResult", params{"jobid": j}).str("managementserverid")
		for _, c := range []struct {
			p    params
			want int
		}{
			{nil, 1}, {params{"jobstatus": "0"}, 1}, {params{"jobstatus": "1"}, 0}, {params{"jobstatus": "2"}, 0}, {params{"jobstatus": "succeeded"}, 0},
			{params{"keyword": "deployvirtual"}, 1}, {params{"keyword": "reboot"}, 0},
			{params{"resourcetype": "VirtualMachine", "resourceid": id}, 1}, {params{"resourcetype": "virtualmachine"}, 1}, {params{"resourcetype": "Host"}, 0},
			{params{"managementserverid": node}, 1}, {params{"runninglongerthan": "3600"}, 0},
			{params{"startdate": "2001-01-01"}, 1}, {params{"enddate": "2001-01-01"}, 0},
		} {
			if got := n.call("listAsyncJobs", c.p).ok(t).list("asyncjobs"); len(got) != c.want {
				t.Errorf("%v: %d jobs, want %d", c.p, len(got), c.want)
			}
		}
		n.call("listAsyncJobs", params{"jobstatus": "3"}).fails(t, 431, 4350)
		n.call("listAsyncJobs", params{"resourcetype": "Toaster"}).fails(t, 431, 4350)
		n.wait(j).succeeds(t)
		if got := n.call("listAsyncJobs", nil).ok(t); len(got.body) != 0 {
			t.Errorf("finished jobs are listed: %s", got.raw)
		}
	})
	t.Run("ref-68 by resource", func(t *testing.T) {
		newest := n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid")
		a := n.call("queryAsyncJobResult", params{"resourcetype": "VirtualMachine", "resourceid": id}).ok(t)
		if a.str("jobid") != newest {
			t.Errorf("%s is not the newest, %s", a.str("jobid"), newest)
		}
		n.wait(newest).succeeds(t)
		n.call("queryAsyncJobResult", nil).fails(t, 431, 9999)
		n.call("queryAsyncJobResult", params{"resourcetype": "VirtualMachine"}).fails(t, 431, 9999)
	})
	t.Run("ref-39 retention", func(t *testing.T) {
		a := n.wait(j)
		if a.str("completed") == "" {
			t.Error("completed is missing")
		}
		if testing.Short() {
			t.Skip("waits for sessions to be opened again")
		}
		busy := n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid")
		queued := n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid")
		if ok, err := n.jobs.Cancel(t.Context(), queued, "changed my mind"); err != nil || !ok {
			t.Errorf("cancel: %v %v", ok, err)
		}
		c := n.wait(queued)
		if c.failed(t, 530, "job is cancelled", "changed my mind"); c.str("jobstate") != "cancelled" {
			t.Errorf("%s", c.raw)
		}
		n.wait(busy).succeeds(t)
		now.add(59 * time.Minute)
		n.ready()
		time.Sleep(1500 * time.Millisecond) // more than a round of the job manager
		n.call("queryAsyncJobResult", params{"jobid": j}).ok(t)
		now.add(2 * time.Minute)
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if a := n.call("queryAsyncJobResult", params{"jobid": j}); a.status == 431 {
				a.fails(t, 431, 4350, fixed)
				n.call("queryAsyncJobResult", params{"jobid": queued}).fails(t, 431, 4350, fixed)
				return
			}
			if time.Now().After(end) {
				t.Fatal("still there")
			}
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	n := start(t)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/version": 200, "/": 404} {
		r, err := http.Get(n.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}
