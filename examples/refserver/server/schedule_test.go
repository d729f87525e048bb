package server

import (
	"testing"
	"time"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, "-sim-latency", "0")
	id, j := n.deploy("clockwork", nil)
	n.wait(j).succeeds(t)
	p := params{"virtualmachineid": id, "action": "force_reboot", "schedule": "*/5 * * * *", "timezone": "Europe/Paris"}
	t.Run("ref-62 bad schedules", func(t *testing.T) {
		for k, bad := range (params{"schedule": "61 * * * *", "timezone": "Europe/Nowhere", "action": "explode", "enddate": "x", "virtualmachineid": nobody}) {
			q := params{}
			for name, v := range p {
				q[name] = v
			}
			q[k] = bad
			n.call("createVMSchedule", q).fails(t, 431, 4350)
		}
	})
	t.Run("ref-62 each due instant once", func(t *testing.T) {
		made := n.call("createVMSchedule", p).ok(t).body["vmschedule"].(map[string]any)
		p["enabled"] = "false"
		n.call("createVMSchedule", p).ok(t)
		reboots := func() int { return n.count(`SELECT count(*) FROM drover_job WHERE kind = 'cmd.rebootVirtualMachine'`) }
		nodes := []map[string]time.Time{{}, {}, {}}
		now := time.Date(2027, 10, 31, 0, 54, 0, 0, time.UTC) // 2:54 of summer in Paris; after 2:59 it is 2:00
		look := func(want int) {
			t.Helper()
			for _, done := range nodes { // three nodes look, each for itself
				if err := n.cloud.LookAtSchedules(t.Context(), now, done); err != nil {
					t.Error(err)
				}
			}
			if got := reboots(); got != want {
				t.Errorf("at %v: %d jobs, want %d", now.In(paris), got, want)
			}
		}
		for minute := range 20 {
			look((minute + 4) / 5)
			now = now.Add(time.Minute)
		}
		nodes = append(nodes, map[string]time.Time{}) // one that was not there
		look(4)
		n.call("deleteVMSchedule", params{"virtualmachineid": id, "id": made["id"].(string)}).ok(t)
		if l := n.call("listVMSchedule", params{"virtualmachineid": id}).list("vmschedule"); len(l) != 1 || l[0]["enabled"] != false {
			t.Errorf("%v", l)
		}
		now = now.Add(time.Minute)
		look(4)
	})
}
