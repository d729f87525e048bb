package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// eventsOf are the states of a job's events, the oldest first.
func (n *node) eventsOf(job string) (states []string) {
	n.t.Helper()
	for _, e := range n.call("listEvents", params{"jobid": job}).ok(n.t).list("event") {
		states = append([]string{e["state"].(string)}, states...)
	}
	return states
}

func TestEvents(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-fault", "start:name=fail*:capacity")
	t.Run("ref-42 three events", func(t *testing.T) {
		id, j := n.deploy("e", nil)
		n.wait(j).succeeds(t)
		_, f := n.deploy("fail", nil)
		n.wait(f).failed(t, 533)
		for _, job := range []string{j, f} {
			if got := n.eventsOf(job); !slices.Equal(got, []string{"Scheduled", "Started", "Completed"}) {
				t.Errorf("events %v", got)
			}
		}
		first := n.call("listEvents", params{"jobid": j, "state": "Scheduled"}).list("event")[0]
		for _, e := range n.call("listEvents", params{"resourceid": id, "resourcetype": "VirtualMachine", "type": "VM.CREATE"}).list("event") {
			if e["state"] != "Scheduled" && e["parentid"] != first["id"] || e["level"] != "INFO" || e["username"] != "admin" {
				t.Errorf("%v", e)
			}
		}
		if e := n.call("listEvents", params{"level": "ERROR"}).list("event"); len(e) != 1 || !strings.Contains(e[0]["description"].(string), "Unable to create a deployment") {
			t.Errorf("%v", e)
		}
		n.call("updateVirtualMachine", params{"id": id, "displayname": "new"}).ok(t)
		if e := n.call("listEvents", params{"type": "VM.UPDATE"}).list("event"); len(e) != 1 || e[0]["state"] != "Completed" || e[0]["jobid"] != nil {
			t.Errorf("%v", e)
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "400ms", "-sim-fault", "start:name=slow*:slow=20s")
	id, j := n.deploy("c", nil)
	n.wait(j).succeeds(t)
	cancel := func(job string) answer { return n.call("cancelAsyncJob", params{"jobid": job, "reason": "no more"}) }
	t.Run("ref-34 queued and running", func(t *testing.T) {
		running := n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid")
		queued := n.call("rebootVirtualMachine", params{"id": id}).ok(t).str("jobid")
		a := cancel(queued).ok(t)
		a.failed(t, 530, "job is cancelled by admin: no more")
		if a.str("jobstate") != "cancelled" || a.key != "cancelasyncjobresponse" {
			t.Errorf("%s", a.raw)
		}
		n.wait(running).succeeds(t)
		if got := n.eventsOf(queued); !slices.Equal(got, []string{"Scheduled", "Completed"}) {
			t.Errorf("it never started: %v", got)
		}
		vm, slow := n.deploy("slow", nil)
		n.until(func() bool {
			return n.count(`SELECT count(*) FROM rs_event WHERE job = ? AND state = 'Started'`, slow) == 1
		})
		began := time.Now()
		a = cancel(slow).ok(t)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		n.wait(slow).failed(t, 530, "job is cancelled by admin")
		n.until(func() bool { return n.state(vm) == "Error" }) // by the sweeper, if it was so early that no step was done
		if n.count(`SELECT count(*) FROM rs_ip`) != 1 || n.count(`SELECT count(*) FROM drover_claim WHERE workload = ?`, vm) != 0 {
			t.Errorf("a cancelled deploy leaves %v", n.vm(vm))
		}
	})
	t.Run("ref-37 not cancellable", func(t *testing.T) {
		before := n.call("queryAsyncJobResult", params{"jobid": j}).raw
		cancel(j).fails(t, 530, 4250, "succeeded")
		if after := n.call("queryAsyncJobResult", params{"jobid": j}).raw; after != before {
			t.Errorf("changed: %s", after)
		}
		cancel(nobody).fails(t, 431, 4350, fixed)
		stop := n.call("stopVirtualMachine", params{"id": id}).ok(t).str("jobid")
		n.until(func() bool { return n.state(id) == "Stopping" })
		cancel(stop).fails(t, 530, 4250)
		n.wait(stop).succeeds(t)
	})
}

// until waits for what the server does by itself.
func (n *node) until(done func() bool) {
	n.t.Helper()
	for range 3000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Fatal("does not happen")
}

func TestChanges(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "5ms")
	id, j := n.deploy("u", nil)
	n.wait(j).succeeds(t)
	medium := n.call("listServiceOfferings", params{"name": "medium"}).list("serviceoffering")[0]["id"].(string)
	large := n.call("listServiceOfferings", params{"name": "large"}).list("serviceoffering")[0]["id"].(string)
	vm := func(a answer) map[string]any { t.Helper(); return a.ok(t).body["virtualmachine"].(map[string]any) }
	t.Run("update", func(t *testing.T) {
		n.call("updateVirtualMachine", params{"id": id, "name": "other"}).fails(t, 530, 4250, "Running")
		n.call("updateVirtualMachine", params{"id": id, "userdata": "!"}).fails(t, 431, 4350, "userdata")
		v := vm(n.call("updateVirtualMachine", params{"id": id, "displayname": "Other", "group": "g", "haenable": "true", "details[0].key": "a", "details[0].value": "b"}))
		if v["displayname"] != "Other" || v["group"] != "g" || v["haenable"] != true || v["details"].(map[string]any)["a"] != "b" || v["name"] != "u" {
			t.Errorf("%v", v)
		}
		if v = vm(n.call("updateVirtualMachine", params{"id": id, "cleanupdetails": "true"})); len(v["details"].(map[string]any)) != 0 || v["displayname"] != "Other" {
			t.Errorf("%v", v)
		}
		if l := n.call("listVirtualMachines", params{"haenable": "true"}).list("virtualmachine"); len(l) != 1 {
			t.Errorf("%v", l)
		}
	})
	t.Run("scale", func(t *testing.T) {
		memory := func() (used float64) {
			for _, h := range n.call("listHosts", nil).list("host") {
				used += num(h["memoryallocated"])
			}
			return used / (1 << 20)
		}
		n.call("changeServiceForVirtualMachine", params{"id": id, "serviceofferingid": medium}).fails(t, 530, 4250, "Running")
		if v := n.run("scaleVirtualMachine", params{"id": id, "serviceofferingid": medium}).succeeds(t); num(v["memory"]) != 2048 || memory() != 2048 {
			t.Errorf("%v; %v MiB", v, memory())
		}
		n.run("scaleVirtualMachine", params{"id": id, "serviceofferingid": small}).failed(t, 530, "grow")
		host := n.vm(id)["hostid"].(string)
		for i := range 3 { // fill the host
			_, j := n.deploy(fmt.Sprint("fill", i), params{"serviceofferingid": medium, "hostid": host})
			n.wait(j).succeeds(t)
		}
		n.run("scaleVirtualMachine", params{"id": id, "serviceofferingid": large}).failed(t, 533)
		if v := n.vm(id); v["serviceofferingid"] != medium || memory() != 4*2048 {
			t.Errorf("%v; %v MiB", v, memory())
		}
		n.run("stopVirtualMachine", params{"id": id}).succeeds(t)
		if v := n.run("scaleVirtualMachine", params{"id": id, "serviceofferingid": large}).succeeds(t); num(v["memory"]) != 4096 {
			t.Errorf("%v", v)
		}
		if v := vm(n.call("changeServiceForVirtualMachine", params{"id": id, "serviceofferingid": small})); num(v["memory"]) != 512 {
			t.Errorf("%v", v)
		}
		if v := vm(n.call("updateVirtualMachine", params{"id": id, "name": "other"})); v["name"] != "other" {
			t.Errorf("%v", v)
		}
		n.run("startVirtualMachine", params{"id": id}).succeeds(t)
	})
	t.Run("ref-65 recover, expunge", func(t *testing.T) {
		n.call("recoverVirtualMachine", params{"id": id}).fails(t, 530, 4250, "Running")
		n.run("destroyVirtualMachine", params{"id": id}).succeeds(t)
		if v := n.vm(id); v["state"] != "Destroyed" {
			t.Errorf("%v", v)
		}
		if v := vm(n.call("recoverVirtualMachine", params{"id": id})); v["state"] != "Stopped" {
			t.Errorf("%v", v)
		}
		n.run("startVirtualMachine", params{"id": id}).succeeds(t)
		n.run("expungeVirtualMachine", params{"id": id}).failed(t, 530, "Running")
		n.run("destroyVirtualMachine", params{"id": id}).succeeds(t)
		n.run("createTags", params{"resourceids": id, "resourcetype": "UserVm", "tags[0].key": "a", "tags[0].value": "b"})
		a := n.run("expungeVirtualMachine", params{"id": id})
		if r := a.body["jobresult"].(map[string]any); r["success"] != true || len(r) != 1 {
			t.Errorf("%s", a.raw)
		}
		n.call("listVirtualMachines", params{"id": id}).fails(t, 431, 4350, fixed)
		if c := n.count(`SELECT count(*) FROM rs_tag`); c != 0 {
			t.Errorf("%d tags", c)
		}
	})
}

func TestTags(t *testing.T) {
	t.Parallel()
	n := start(t)
	id, j := n.deploy("t", params{"startvm": "false"})
	n.wait(j).succeeds(t)
	volume := n.call("listVolumes", params{"virtualmachineid": id}).list("volume")[0]["id"].(string)
	put := func(kind, ids, key, value string) answer {
		return n.run("createTags", params{"resourceids": ids, "resourcetype": kind, "tags[0].key": key, "tags[0].value": value})
	}
	for kind, thing := range map[string]string{"UserVm": id, "Volume": volume, "Network": net1, "Template": debian12} {
		if r := put(kind, thing, "env", kind).body["jobresult"].(map[string]any); r["success"] != true {
			t.Errorf("%s: %v", kind, r)
		}
	}
	put("UserVm", id, "env", "UserVm")
	put("UserVm", id, "env", "other").failed(t, 530, "env")
	put("Volume", id, "a", "b").failed(t, 431)
	n.call("createTags", params{"resourceids": id + "," + nobody, "resourcetype": "UserVm", "tags[0].key": "a", "tags[0].value": "b"}).fails(t, 431, 4350, fixed)
	if l := n.call("listTags", nil).list("tag"); len(l) != 4 {
		t.Errorf("%v", l)
	}
	if l := n.call("listTags", params{"resourceid": id, "key": "env"}).list("tag"); len(l) != 1 || l[0]["value"] != "UserVm" || l[0]["account"] != "admin" {
		t.Errorf("%v", l)
	}
	shown := n.vm(id)["tags"].([]any)
	if len(shown) != 1 || shown[0].(map[string]any)["key"] != "env" {
		t.Errorf("%v", shown)
	}
	for value, want := range map[string]int{"UserVm": 1, "Volume": 0} {
		if l := n.call("listVirtualMachines", params{"tags[0].key": "env", "tags[0].value": value}).list("virtualmachine"); len(l) != want {
			t.Errorf("%s: %v", value, l)
		}
	}
	n.run("deleteTags", params{"resourceids": id, "resourcetype": "UserVm", "tags[0].key": "env", "tags[0].value": "x"})
	n.run("deleteTags", params{"resourceids": volume, "resourcetype": "Volume"})
	if l := n.call("listTags", nil).list("tag"); len(l) != 3 {
		t.Errorf("%v", l)
	}
}
