package server

import (
	"net/http"
	"testing"
)

func (n *node) status(path string) int {
	n.t.Helper()
	r, err := http.Get(n.URL() + path)
	if err != nil {
		n.t.Fatal(err)
	}
	_ = r.Body.Close()
	return r.StatusCode
}

func TestDrain(t *testing.T) {
	t.Parallel()
	n := start(t, "-sim-latency", "1s")
	t.Run("ref-53 drain and back", func(t *testing.T) {
		ms := params{"managementserverid": n.call("listManagementServers", nil).list("managementserver")[0]["id"].(string)}
		ready := func() map[string]any {
			return n.call("readyForShutdown", ms).ok(t).body["readyforshutdown"].(map[string]any)
		}
		if r := ready(); r["readyforshutdown"] != false || r["shutdowntriggered"] != false || r["state"] != "Up" {
			t.Errorf("%v", r)
		}
		id, j := n.deploy("d", nil)
		n.until(func() bool { return num(ready()["pendingjobscount"]) == 1 })
		if r := n.call("prepareForShutdown", ms).ok(t).body; r["shutdowntriggered"] != true || r["readyforshutdown"] != false || r["state"] != "PreparingForShutDown" {
			t.Errorf("%v", r)
		}
		n.until(func() bool { return n.status("/readyz") == 503 })
		refused := n.call("rebootVirtualMachine", params{"id": id})
		if refused.fails(t, 503, 9999); refused.header.Get("Retry-After") != "5" {
			t.Errorf("%v", refused.header)
		}
		n.until(func() bool { return num(n.call("queryAsyncJobResult", params{"jobid": j}).body["jobstatus"]) == 1 }) // answered at once now
		n.until(func() bool { return ready()["readyforshutdown"] == true })
		n.call("listVirtualMachines", nil).ok(t)
		if r := n.call("cancelShutdown", ms).ok(t).body; r["state"] != "Up" {
			t.Errorf("%v", r)
		}
		n.until(func() bool { return n.status("/readyz") == 200 })
		n.run("rebootVirtualMachine", params{"id": id}).succeeds(t)
	})
}
