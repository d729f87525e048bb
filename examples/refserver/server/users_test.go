package server

import (
	"strings"
	"testing"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

// as signs with another user's key.
func (n *node) as(k cloud.Credentials, command string, p params) answer {
	n.t.Helper()
	q := params{"command": command, "apiKey": k.Key, "response": "json"}
	for name, v := range p {
		q[name] = v
	}
	q["signature"] = csapi.Sign(q, []byte(k.Secret))
	return n.send("POST", q)
}

func TestUsers(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "100ms", "-sim-fault", "start:name=fail*:capacity")
	key := func(name string) cloud.Credentials {
		if err := n.cloud.AddUser(t.Context(), name, false); err != nil {
			t.Fatal(err)
		}
		k, err := n.cloud.UserKey(t.Context(), name, false)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, b := key("alice"), key("bob")
	n.cloud.Forget()
	deploy := params{"zoneid": zone1, "serviceofferingid": small, "templateid": debian12, "name": "hers", "hostid": nobody}
	made := n.as(a, "deployVirtualMachine", deploy).ok(t)
	vm, j := made.str("id"), made.str("jobid")
	n.wait(j).succeeds(t)
	t.Run("ref-61 others see nothing", func(t *testing.T) {
		for _, c := range []struct {
			command string
			p       params
		}{
			{"queryAsyncJobResult", params{"jobid": j}}, {"cancelAsyncJob", params{"jobid": j}}, {"stopVirtualMachine", params{"id": vm}},
			{"listVirtualMachines", params{"id": vm}}, {"updateVirtualMachine", params{"id": vm, "displayname": "x"}}, {"listEvents", params{"jobid": j}},
			{"createTags", params{"resourceids": vm, "resourcetype": "UserVm", "tags[0].key": "k", "tags[0].value": "v"}},
			{"listVolumes", params{"virtualmachineid": vm}}, {"queryAsyncJobResult", params{"resourcetype": "VirtualMachine", "resourceid": vm}},
		} {
			n.as(b, c.command, c.p).fails(t, 431, 4350)
		}
		for _, command := range []string{"listVirtualMachines", "listVolumes", "listEvents", "listTags", "listAsyncJobs"} {
			if got := n.as(b, command, params{"listall": "true"}).ok(t); len(got.body) != 0 {
				t.Errorf("%s: %s", command, got.raw)
			}
		}
		if l := n.as(b, "listUsers", nil).list("user"); len(l) != 1 || l[0]["username"] != "bob" || num(l[0]["accounttype"]) != 0 {
			t.Errorf("%v", l)
		}
		hers := n.as(a, "listVirtualMachines", nil).list("virtualmachine")
		if len(hers) != 1 || hers[0]["account"] != "alice" || hers[0]["hostid"] != nil {
			t.Errorf("%v", hers)
		}
		if l := n.call("listVirtualMachines", params{"account": "alice"}).list("virtualmachine"); len(l) != 1 || l[0]["hostid"] == nil {
			t.Errorf("%v", l)
		}
	})
	t.Run("ref-56 what is for admins", func(t *testing.T) {
		for _, command := range []string{"listHosts", "addHost", "migrateVirtualMachine", "prepareForShutdown"} {
			n.as(a, command, nil).fails(t, 432, 9999)
		}
		n.as(a, "listAsyncJobs", params{"runninglongerthan": "1"}).ok(t) // a parameter that is not hers is unknown
		deploy["name"] = "fail1"
		failed := n.as(a, "deployVirtualMachine", deploy).ok(t)
		n.wait(failed.str("jobid")).failed(t, 533, "Unable to create")
		mine := n.as(a, "queryAsyncJobResult", params{"jobid": failed.str("jobid")})
		if mine.failed(t, 533, "The operation could not be completed"); strings.Contains(mine.raw, "capacity") {
			t.Errorf("details: %s", mine.raw)
		}
		for _, e := range n.as(a, "listEvents", params{"level": "ERROR"}).list("event") {
			if strings.Contains(e["description"].(string), "Unable") {
				t.Errorf("details: %v", e)
			}
		}
	})
	t.Run("ref-61 a user that is gone when the job runs", func(t *testing.T) {
		first := n.as(a, "rebootVirtualMachine", params{"id": vm}).ok(t).str("jobid")
		second := n.as(a, "rebootVirtualMachine", params{"id": vm}).ok(t).str("jobid")
		if _, err := n.bun.Exec(`DELETE FROM rs_user WHERE name = 'alice'`); err != nil {
			t.Fatal(err)
		}
		n.wait(first)
		n.wait(second).failed(t, 531)
	})
}
