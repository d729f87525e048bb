package server

import (
	"fmt"
	"testing"
)

func (n *node) host(id string) map[string]any {
	n.t.Helper()
	l := n.call("listHosts", params{"id": id}).ok(n.t).list("host")
	if len(l) != 1 {
		n.t.Fatalf("host %s: %v", id, l)
	}
	return l[0]
}

const hostB = "33333333-0000-4000-8000-00000000000b"

func TestMigrate(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "200ms", "-sim-fault", "migrate:name=stuck*:error")
	id, j := n.deploy("m", params{"hostid": hostA})
	n.wait(j).succeeds(t)
	move := func(id string, p params) answer {
		q := params{"virtualmachineid": id}
		for k, v := range p {
			q[k] = v
		}
		return n.run("migrateVirtualMachine", q)
	}
	memory := func(host string) int { return int(num(n.host(host)["memoryallocated"]) / (1 << 20)) }
	t.Run("to a host, and to the best", func(t *testing.T) {
		if vm := move(id, params{"hostid": hostB}).succeeds(t); vm["hostid"] != hostB || vm["state"] != "Running" {
			t.Errorf("%v", vm)
		}
		if memory(hostA) != 0 || memory(hostB) != 512 {
			t.Errorf("%d, %d MiB", memory(hostA), memory(hostB))
		}
		if c := n.count(`SELECT count(*) FROM rs_sim WHERE state LIKE ?`, "%"+id+"%"); c != 1 {
			t.Errorf("known to %d hosts", c)
		}
		move(id, params{"hostid": hostB}).failed(t, 530, "already")
		if vm := move(id, nil).succeeds(t); vm["hostid"] != hostA {
			t.Errorf("%v", vm)
		}
		for _, h := range n.call("findHostsForMigration", params{"virtualmachineid": id}).ok(t).list("host") {
			if h["id"] == hostA || h["suitableformigration"] != true || h["requiresStorageMotion"] != false {
				t.Errorf("%v", h)
			}
		}
		n.call("migrateVirtualMachine", params{"virtualmachineid": id, "autoselect": "false"}).fails(t, 431, 9999, "hostid")
		n.run("rebootVirtualMachine", params{"id": id}).succeeds(t)
	})
	t.Run("one that the host refuses", func(t *testing.T) {
		stuck, j := n.deploy("stuck", params{"hostid": hostA})
		n.wait(j).succeeds(t)
		move(stuck, nil).failed(t, 530)
		if vm := n.vm(stuck); vm["state"] != "Running" || vm["hostid"] != hostA || memory(hostA) != 1024 || memory(hostB) != 0 {
			t.Errorf("%v", vm)
		}
		n.run("stopVirtualMachine", params{"id": stuck}).succeeds(t)
		move(stuck, nil).failed(t, 530, "Stopped")
	})
	t.Run("cancelled", func(t *testing.T) {
		job := n.call("migrateVirtualMachine", params{"virtualmachineid": id, "hostid": hostB}).ok(t).str("jobid")
		n.until(func() bool { return memory(hostB) == 512 })
		n.call("cancelAsyncJob", params{"jobid": job}).ok(t)
		a := n.wait(job)
		want := map[float64]string{1: hostB, 2: hostA}[num(a.body["jobstatus"])]
		if vm := n.vm(id); vm["state"] != "Running" || vm["hostid"] != want || memory(want) != 512 {
			t.Errorf("%s: %v", a.raw, vm)
		}
		if c := n.count(`SELECT count(*) FROM rs_sim WHERE state LIKE ?`, "%"+id+"%"); c != 1 {
			t.Errorf("known to %d hosts", c)
		}
	})
}

func TestMaintenance(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "100ms", "-sim-fault", "migrate:name=stuck*:error")
	var vms []string
	for i := range 6 {
		id, j := n.deploy(fmt.Sprint("d", i), params{"hostid": hostA})
		n.wait(j).succeeds(t)
		vms = append(vms, id)
	}
	host := func(command string) answer { return n.run(command, params{"id": hostA}) }
	state := func(a answer) any {
		t.Helper()
		if num(a.body["jobstatus"]) != 1 {
			t.Fatalf("%s", a.raw)
		}
		return a.body["jobresult"].(map[string]any)["host"].(map[string]any)["resourcestate"]
	}
	t.Run("ref-49 drains and comes back", func(t *testing.T) {
		job := n.call("prepareHostForMaintenance", params{"id": hostA}).ok(t).str("jobid")
		most := 0
		n.until(func() bool {
			most = max(most, n.count(`SELECT count(*) FROM rs_vm WHERE state = 'Migrating'`))
			return n.host(hostA)["resourcestate"] != "PrepareForMaintenance" && n.count(`SELECT count(*) FROM rs_vm WHERE host = ?`, hostB) == 6
		})
		if got := state(n.wait(job)); got != "Maintenance" || most > 4 || most < 2 {
			t.Errorf("%v; %d at once", got, most)
		}
		_, refused := n.deploy("closed", params{"hostid": hostA})
		n.wait(refused).failed(t, 533)
		host("prepareHostForMaintenance").failed(t, 530, "Maintenance")
		if got := state(host("cancelHostMaintenance")); got != "Enabled" {
			t.Errorf("%v", got)
		}
		host("cancelHostMaintenance").failed(t, 530, "Enabled")
	})
	t.Run("ref-49 one refuses", func(t *testing.T) {
		id, j := n.deploy("stuck", params{"hostid": hostA})
		n.wait(j).succeeds(t)
		host("prepareHostForMaintenance").failed(t, 530, "1 machines")
		if got := n.host(hostA)["resourcestate"]; got != "ErrorInMaintenance" || n.state(id) != "Running" {
			t.Errorf("%v, %v", got, n.vm(id))
		}
		if got := state(host("cancelHostMaintenance")); got != "Enabled" {
			t.Errorf("%v", got)
		}
		n.run("destroyVirtualMachine", params{"id": id}).succeeds(t)
	})
	t.Run("ref-38 cancelled", func(t *testing.T) {
		job := n.call("prepareHostForMaintenance", params{"id": hostB}).ok(t).str("jobid")
		n.until(func() bool { return n.count(`SELECT count(*) FROM rs_vm WHERE state = 'Migrating'`) > 0 })
		n.call("cancelAsyncJob", params{"jobid": job}).ok(t)
		n.wait(job).failed(t, 530, "cancelled")
		n.until(func() bool { return n.count(`SELECT count(*) FROM rs_vm WHERE state = 'Migrating'`) == 0 })
		if got := n.host(hostB)["resourcestate"]; got != "Enabled" {
			t.Errorf("%v", got)
		}
		live := n.call("listAsyncJobs", nil).ok(t).list("asyncjobs")
		if len(live) != 0 || n.count(`SELECT count(*) FROM rs_vm WHERE state = 'Running' AND id IN (SELECT id FROM rs_vm)`) != 6 {
			t.Errorf("%v", live)
		}
	})
	t.Run("operator", func(t *testing.T) {
		update := func(p params) map[string]any {
			p["id"] = hostA
			return n.call("updateHost", p).ok(t).body["host"].(map[string]any)
		}
		if h := update(params{"allocationstate": "Disable", "hosttags": "ssd", "annotation": "hm"}); h["resourcestate"] != "Disabled" || h["hosttags"] != "ssd" {
			t.Errorf("%v", h)
		}
		_, refused := n.deploy("closed", params{"hostid": hostA})
		n.wait(refused).failed(t, 533)
		if got := state(host("reconnectHost")); got != "Disabled" {
			t.Errorf("ref-49: a reconnect undid the operator's Disable: %v", got)
		}
		update(params{"allocationstate": "Enable"})
		if got := state(host("declareHostAsDegraded")); got != "Degraded" {
			t.Errorf("%v", got)
		}
		if got := state(host("cancelHostAsDegraded")); got != "Enabled" {
			t.Errorf("%v", got)
		}
	})
	t.Run("add and delete", func(t *testing.T) {
		p := params{"url": "sim://host-x", "hypervisor": "KVM", "zoneid": zone1, "podid": "22222222-0000-4000-8000-000000000006", "username": "root", "password": "canary-password"}
		added := n.call("addHost", p).ok(t).body["host"].(map[string]any)
		n.call("addHost", p).fails(t, 431, 4350, "url")
		id := added["id"].(string)
		vm, j := n.deploy("x", params{"hostid": id})
		n.wait(j).succeeds(t)
		n.call("deleteHost", params{"id": id}).fails(t, 530, 4250, "disable")
		n.call("deleteHost", params{"id": id, "forced": "true"}).fails(t, 536, 9999, "1 machines")
		n.run("destroyVirtualMachine", params{"id": vm}).succeeds(t)
		if a := n.call("deleteHost", params{"id": id, "forced": "true"}).ok(t); a.body["success"] != true {
			t.Errorf("%s", a.raw)
		}
		n.call("listHosts", params{"id": id}).fails(t, 431, 4350, fixed)
		n.run("destroyVirtualMachine", params{"id": vms[0], "expunge": "true"}).succeeds(t)
		p["url"] = "sim://bad name"
		n.call("addHost", p).fails(t, 431, 4350, "url")
	})
}
