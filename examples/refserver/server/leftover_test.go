package server

import (
	"testing"
	"time"
)

// count reads one number.
func (n *node) count(query string, args ...any) (rows int) {
	n.t.Helper()
	if err := n.bun.NewRaw(query, args...).Scan(n.t.Context(), &rows); err != nil {
		n.t.Fatal(err)
	}
	return rows
}

// What ends otherwise than well leaves nothing behind.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	t.Run("ref-43 a deploy cancelled before it ran leaves Error, nothing allocated", func(t *testing.T) {
		t.Parallel()
		n := start(t, "-workers", "1", "-sim-latency", "500ms")
		_, first := n.deploy("first", nil)
		id, queued := n.deploy("queued", nil)
		if ok, err := n.jobs.Cancel(t.Context(), queued); err != nil || !ok {
			t.Fatal(ok, err)
		}
		n.wait(queued).failed(t, 530, "cancelled")
		n.wait(first).succeeds(t)
		for range 1000 {
			if n.state(id) != "Starting" {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n.state(id) != "Error" {
			t.Errorf("is %s", n.state(id))
		}
		if ips, volumes := n.count(`SELECT count(*) FROM rs_ip`), n.count(`SELECT count(*) FROM rs_volume`); ips != 1 || volumes != 1 {
			t.Errorf("%d addresses, %d volumes for one machine", ips, volumes)
		}
		n.run("destroyVirtualMachine", params{"id": id, "expunge": "true"}).succeeds(t)
	})
	t.Run("ref-43 started on another host, a machine is defined on that one only", func(t *testing.T) {
		t.Parallel()
		n := start(t, "-sim-latency", "0")
		id, j := n.deploy("mover", params{"hostid": hostA})
		n.wait(j).succeeds(t)
		n.run("stopVirtualMachine", params{"id": id}).succeeds(t)
		hosts := n.call("listHosts", nil).list("host")
		n.run("startVirtualMachine", params{"id": id, "hostid": hosts[1]["id"].(string)}).succeeds(t)
		if c := n.count(`SELECT count(*) FROM rs_sim WHERE state LIKE ?`, "%"+id+"%"); c != 1 {
			t.Errorf("defined on %d hosts", c)
		}
		n.run("destroyVirtualMachine", params{"id": id, "expunge": "true"}).succeeds(t)
		if c := n.count(`SELECT count(*) FROM rs_sim WHERE state LIKE ?`, "%"+id+"%"); c != 0 {
			t.Errorf("expunged, yet defined on %d hosts", c)
		}
	})
}
