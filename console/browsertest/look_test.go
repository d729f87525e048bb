package browsertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drover-cloud/drover/console"
	"github.com/drover-cloud/drover/job"
)

// populate makes a day of a small cloud.
func populate(w *world) (deploy *job.Job) {
	for i := range 14 {
		name := fmt.Sprintf("app-%d", i+1)
		w.let(name, 100)
		a := work{Name: name, Host: "host-b", More: map[string]string{"offering": "small", "template": "debian12"}}
		if i%5 == 3 {
			a.Fail = "define"
		}
		w.reaches(w.submit("vm.deploy", a).ID, map[bool]job.State{true: job.Failed, false: job.Succeeded}[a.Fail != ""])
	}
	for _, name := range []string{"web-1", "web-2", "db-1"} {
		w.submit("vm.reboot", work{Name: name})
	}
	deploy = w.submit("vm.deploy", work{Name: "web-3", Host: "host-a", More: map[string]string{"offering": "large", "template": "debian12", "keypair": "anna"}})
	w.reaches(deploy.ID, job.Running)
	w.let("web-3", 2)
	for _, kind := range []string{"vm.reboot", "vm.deploy", "vm.reboot"} {
		w.submit(kind, work{Name: "web-1"})
	}
	w.submit("vm.reboot", work{Name: "db-1"})
	w.submit("vm.reboot", work{Name: "night-backup"}, func(r *job.Request) { r.RunAt = time.Now().Add(3 * time.Hour) })
	held := w.submit("vm.reboot", work{Name: "web-2"})
	if err := w.jobs.Hold(context.Background(), held.ID); err != nil {
		w.t.Fatal(err)
	}
	w.until("half of the deploy", func() bool { j, _ := w.jobs.Get(context.Background(), deploy.ID); return j.Progress.Percent >= 40 })
	return deploy
}

func TestLooks(t *testing.T) {
	w := newFull(t)
	w.group.set(console.MemberView{Members: []console.Member{
		{ID: "ms1", State: "up", Reason: "beat", Addr: "10.0.0.11:8080", Version: "v1.4.0", Age: 3 * time.Second, Meta: map[string]string{"zone": "north"}},
		{ID: "ms2", State: "up", Reason: "beat", Addr: "10.0.0.12:8080", Version: "v1.4.0", Age: 7 * time.Second, Meta: map[string]string{"zone": "north"}},
		{ID: "ms3", State: "up", Reason: "beat", Addr: "10.0.0.13:8080", Version: "v1.3.9", Age: 5 * time.Second, Mark: "maintenance", Meta: map[string]string{"zone": "south"}},
		{ID: "ms4", State: "down", Reason: "left", Addr: "10.0.0.14:8080", Version: "v1.3.9", Age: time.Hour},
	}, Leader: "ms1"})
	w.hosts.set(console.Host{Name: "host-a", State: "up"}, console.Host{Name: "host-b", State: "up"})
	w.otherNode("ms2", 30*time.Second)
	deploy := populate(w)
	b := browse(t, w.url)
	for _, dark := range []bool{false, true} {
		b.scheme(dark)
		suffix := map[bool]string{true: "-dark", false: ""}[dark]
		for _, p := range []struct{ name, path string }{
			{"overview", ""}, {"jobs", "jobs"}, {"jobs-failed", "jobs?state=failed"}, {"job", "jobs/" + deploy.ID}, {"queues", "queues"}, {"queue", "queues/vm/web-1"}, {"members", "members"}, {"periodic", "periodic"}, {"events", "events"},
		} {
			b.open(w.url + p.path)
			b.both(p.name + suffix)
		}
	}
}
