package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/store"
	world "github.com/drover-cloud/drover/testkit"
)

// asked is a failure as both faces tell it.
type asked struct {
	n    *node
	t    testing.TB
	user cloud.Credentials // "" = the administrator
}

// v1As is v1 with another user's key.
func (a asked) v1(method, path, body string) (*http.Response, map[string]any) {
	if a.user.Key == "" {
		return a.n.v1(method, path, body)
	}
	return a.n.v1(method, path, body, "Authorization", "Bearer "+a.user.Key+"."+a.user.Secret)
}

func (a asked) call(command string, p params) answer {
	if a.user.Key == "" {
		return a.n.call(command, p)
	}
	return a.n.as(a.user, command, p)
}

// fails checks a row of the table of errors: what the command is refused with, on both faces. body is p in JSON if it is not "".
func (a asked) fails(row, command string, p params, body string, status int, code string, errorcode, cs int) {
	a.t.Helper()
	c := a.call(command, p)
	if c.status != errorcode || int(num(c.body["cserrorcode"])) != cs || c.body["type"] != "urn:drover:problem:"+code {
		a.t.Errorf("%s: %d %s, want %d, %d, %s", row, c.status, c.raw, errorcode, cs, code)
	}
	if body == "" {
		b, _ := json.Marshal(p) // texts always encode
		body = string(b)
	}
	r, v := a.v1("POST", "/v1/commands/"+command, body)
	if r.StatusCode != status || v["code"] != code || v["type"] != "urn:drover:problem:"+code || r.Header.Get("Content-Type") != "application/problem+json" {
		a.t.Errorf("%s: %d %v, want %d %s", row, r.StatusCode, v, status, code)
	}
	general := strings.Contains(c.str("errortext"), "could not be completed. Reference: "+c.header.Get("X-Trace-Id")) &&
		strings.Contains(fmt.Sprint(v["detail"]), "could not be completed. Reference: "+r.Header.Get("X-Trace-Id"))
	if hidden := a.user.Key != "" && code == "internal"; general != hidden {
		a.t.Errorf("%s: %q and %q", row, c.str("errortext"), v["detail"])
	}
}

// jobFails checks a row whose error ends a job: deploys of that name do.
func (a asked) jobFails(row, name string, code string, errorcode int, detail string) {
	a.t.Helper()
	p := params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "name": name}
	j := a.call("deployVirtualMachine", p).ok(a.t).str("jobid")
	a.n.wait(j)
	c := a.call("queryAsyncJobResult", params{"jobid": j}).ok(a.t)
	c.failed(a.t, errorcode)
	_, v := a.v1("GET", "/v1/jobs/"+j, "")
	e, _ := v["error"].(map[string]any)
	if v["state"] != "failed" || e["code"] != code {
		a.t.Errorf("%s: %v, want %s", row, v, code)
	}
	_, list := a.v1("GET", "/v1/jobs?state=failed", "")
	_, journal := a.v1("GET", "/v1/jobs/"+j+"/journal", "")
	_, timeline := a.v1("GET", "/v1/jobs/"+j+"/timeline", "")
	shown, hidden := []string{c.raw, fmt.Sprint(e)}, []string{}
	if a.user.Key != "" {
		shown, hidden = nil, append(shown, fmt.Sprint(list), fmt.Sprint(journal), fmt.Sprint(timeline))
	}
	for _, text := range shown {
		if !strings.Contains(text, detail) {
			a.t.Errorf("%s: %s", row, text)
		}
	}
	for _, text := range hidden {
		if strings.Contains(text, detail) {
			a.t.Errorf("%s, for a user: %s", row, text)
		}
	}
}

// Every cause of the table of errors, provoked on both faces of a simulated node.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	t.Run("ref-56 the table of errors", func(t *testing.T) {
		world.Explore(t, 1, func(w *world.World) {
			x := simulate(w, "-session-login", "-sim-fault", "start:name=full*:capacity", "-sim-fault", "start:name=broken*:error")
			x.cfg.SimFaults = append(x.cfg.SimFaults, cloud.SimFault{Fault: sim.Fault{
				Op: "start", Match: func(vm hypervisor.VM) bool { return strings.HasPrefix(vm.Name, "gone") }, Class: hypervisor.ErrGone,
			}})
			a := x.node("a")
			n := x.nodes["a"]
			if err := n.cloud.AddUser(w.T.Context(), "alice", false); err != nil {
				w.T.Fatal(err)
			}
			alice, err := n.cloud.UserKey(w.T.Context(), "alice", false)
			if err != nil {
				w.T.Fatal(err)
			}
			n.cloud.Forget()
			admin, user := asked{n: n, t: w.T}, asked{n: n, t: w.T, user: alice}
			vm, j := n.deploy("vm1", params{"ipaddress": "10.1.1.77"})
			n.wait(j).succeeds(w.T)
			deploy := func(more params) params {
				p := params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "name": "vm2"}
				for k, v := range more {
					p[k] = v
				}
				return p
			}
			made := n.as(alice, "deployVirtualMachine", deploy(nil)).ok(w.T)
			n.wait(made.str("jobid")).succeeds(w.T)
			hers := made.str("id")
			host := n.vm(vm)["hostid"].(string)

			admin.fails("malformed index", "deployVirtualMachine", deploy(params{"details[a]": "b"}), "", 400, "malformed", 430, 9999)
			admin.fails("missing parameter", "deployVirtualMachine", params{"name": "x"}, "", 400, "invalid", 431, 9999)
			admin.fails("page without pagesize", "listVirtualMachines", params{"page": "1"}, "", 400, "invalid", 431, 9999)
			admin.fails("bad value", "deployVirtualMachine", deploy(params{"ipaddress": "10.1.1"}), "", 400, "invalid", 431, 4350)
			admin.fails("page size over 500", "listVirtualMachines", params{"page": "1", "pagesize": "501"}, "", 400, "invalid", 431, 4350)
			admin.fails("reused id of a machine", "deployVirtualMachine", deploy(params{"customid": vm}), "", 400, "invalid", 431, 4350)
			admin.fails("unknown id", "stopVirtualMachine", params{"id": nobody}, "", 404, "not-found", 431, 4350)
			user.fails("another account's id", "stopVirtualMachine", params{"id": vm}, "", 404, "not-found", 431, 4350)
			admin.fails("unknown command", "explode", nil, "{}", 404, "unknown-command", 432, 9999)
			admin.fails("address taken", "deployVirtualMachine", deploy(params{"ipaddress": "10.1.1.77"}), "", 409, "allocation", 535, 4370)
			admin.fails("host with machines", "deleteHost", params{"id": host, "forced": "true"}, "", 409, "in-use", 536, 9999)
			admin.fails("host open", "deleteHost", params{"id": host}, "", 409, "wrong-state", 530, 4250)
			admin.fails("state forbids it", "updateVirtualMachine", params{"id": vm, "name": "other"}, "", 409, "wrong-state", 530, 4250)

			// outside the caller's role: a command that is not there, for CloudStack's clients
			n.as(alice, "listHosts", nil).fails(w.T, 432, 9999)
			if r, v := user.v1("POST", "/v1/commands/listHosts", "{}"); r.StatusCode != http.StatusForbidden || v["code"] != "forbidden" {
				w.T.Errorf("outside the role: %d %v", r.StatusCode, v)
			}
			n.send("POST", params{"command": "login", "username": "alice", "password": "wrong", "response": "json"}).fails(w.T, 531, 4365)
			n.send("POST", sign(params{"command": "listZones"}, "wrong")).fails(w.T, 401, 0)
			if r, v := n.v1("GET", "/v1/vms", "", "Authorization", "Bearer testkey.wrong"); r.StatusCode != http.StatusUnauthorized || v["code"] != "unauthenticated" {
				w.T.Errorf("unauthenticated: %d %v", r.StatusCode, v)
			}
			n.do("PUT", "/client/api?command=listZones", "").fails(w.T, 405, 9999)
			if r, v := n.v1("GET", "/v1/commands/stopVirtualMachine", ""); r.StatusCode != http.StatusMethodNotAllowed || v["code"] != "method" {
				w.T.Errorf("method: %d %v", r.StatusCode, v)
			}
			big := strings.Repeat("x", 1<<20)
			n.do("POST", "/client/api", "command=listZones&name="+big).fails(w.T, 413, 9999)
			if r, v := n.v1("POST", "/v1/commands/listZones", `{"name":"`+big+`"}`); r.StatusCode != http.StatusRequestEntityTooLarge || v["code"] != "too-large" {
				w.T.Errorf("body: %d %v", r.StatusCode, v)
			}

			for i, a := range []asked{admin, user} {
				who := []string{"admin", "user"}[i]
				a.jobFails("no host fits, "+who, "full-"+who, "insufficient-capacity", 533, "injected")
				a.jobFails("driver unreachable, "+who, "gone-"+who, "resource-unavailable", 534, "injected")
				a.jobFails("driver fails, "+who, "broken-"+who, "internal", 530, "injected")
			}

			rename := func(id string) params { return params{"id": id, "displayname": "other"} }
			a.Fail("store.tx.commit", 1, store.ErrConflict)
			admin.fails("lost compare-and-set", "updateVirtualMachine", rename(vm), "", 409, "conflict", 530, 4300)
			a.Fail("store.tx.commit", 1, nil)
			admin.fails("store failure", "updateVirtualMachine", rename(vm), "", 500, "internal", 530, 4250)
			user.fails("store failure", "updateVirtualMachine", rename(hers), "", 500, "internal", 530, 4250)
			a.Fail("store.tx.commit", 0, nil)
			a.Delay("store.tx.begin", 1, 40*time.Second, 40*time.Second)
			admin.fails("deadline passed", "updateVirtualMachine", rename(vm), "", 504, "timeout", 530, 4560)
			a.Delay("store.tx.begin", 0, 0, 0)
			w.Advance(2 * time.Minute)
			ms := n.call("listManagementServers", nil).list("managementserver")[0]["id"].(string)
			n.call("prepareForShutdown", params{"managementserverid": ms}).ok(w.T)
			w.Advance(10 * time.Second)
			admin.fails("draining", "rebootVirtualMachine", params{"id": vm}, "", 503, "draining", 503, 9999)
		}, world.Store(openSim), world.AtMost(1))
	})
	t.Run("ref-56 rate", func(t *testing.T) {
		t.Parallel()
		n := start(t, "-rate", "1", "-burst", "1")
		for range 50 {
			if a := n.call("listZones", nil); a.status != 200 {
				a.fails(t, 429, 4545)
				r, v := n.v1("POST", "/v1/commands/listZones", "{}")
				if r.StatusCode != http.StatusTooManyRequests || v["code"] != "rate" || r.Header.Get("Retry-After") == "" {
					t.Errorf("%d %v", r.StatusCode, v)
				}
				return
			}
		}
		t.Error("never refused")
	})
}
