package clienttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/cloudstack-go/v2/cloudstack"
)

// TestSDK drives a VM's life through the unmodified SDK, POSTing and with GET only.
func TestSDK(t *testing.T) {
	for name, getOnly := range map[string]bool{"POST": false, "GET only": true} {
		t.Run("ref-16 "+name, func(t *testing.T) {
			s := start(t, "-data", t.TempDir(), "-sim-fault", "start:name=fail*:capacity", "-sim-latency", "50ms")
			c := s.client()
			c.HTTPGETOnly = getOnly
			w := look(t, c)
			if l, err := c.VirtualMachine.ListVirtualMachines(c.VirtualMachine.NewListVirtualMachinesParams()); err != nil || l.Count != 0 {
				t.Fatalf("an empty list: %+v, %v", l, err)
			}
			id := life(t, c, w)
			queued(t, s, id)
			more(t, s, c, id)
			failing(t, c, w)
			paging(t, c, w)
			others(t, c)
			if _, err := c.VirtualMachine.DestroyVirtualMachine(c.VirtualMachine.NewDestroyVirtualMachineParams(id)); err != nil {
				t.Fatal(err)
			}
			if got := state(t, c, id); got != "Destroyed" {
				t.Errorf("destroyed VM is %s", got)
			}
		})
	}
}

// life deploys, stops, starts and reboots one VM.
func life(t *testing.T, c *cloudstack.CloudStackClient, w world) string {
	t.Helper()
	p := deployParams(c, w, "vm1")
	p.SetDisplayname("a b+c*d~e/(é)")
	p.SetUserdata("aGVsbG8=")
	vm, err := c.VirtualMachine.DeployVirtualMachine(p)
	if err != nil {
		t.Fatal(err)
	}
	if vm.State != "Running" || vm.Name != "vm1" || vm.Displayname != "a b+c*d~e/(é)" || len(vm.Nic) != 1 || vm.Nic[0].Ipaddress == "" || vm.Nic[0].Macaddress == "" || vm.Hostname == "" {
		t.Fatalf("deployed: %+v", vm)
	}
	byName, count, err := c.VirtualMachine.GetVirtualMachineByName("vm1")
	if err != nil || count != 1 || byName.Id != vm.Id || byName.Cpunumber != 1 || byName.Memory != 512 {
		t.Fatalf("by name: %+v, %d, %v", byName, count, err)
	}
	if stopped, err := c.VirtualMachine.StopVirtualMachine(c.VirtualMachine.NewStopVirtualMachineParams(vm.Id)); err != nil || stopped.State != "Stopped" {
		t.Fatalf("stopped: %+v, %v", stopped, err)
	}
	_, err = c.VirtualMachine.StopVirtualMachine(c.VirtualMachine.NewStopVirtualMachineParams(vm.Id))
	says(t, err, "530")
	if started, err := c.VirtualMachine.StartVirtualMachine(c.VirtualMachine.NewStartVirtualMachineParams(vm.Id)); err != nil || started.State != "Running" {
		t.Fatalf("started: %+v, %v", started, err)
	}
	if rebooted, err := c.VirtualMachine.RebootVirtualMachine(c.VirtualMachine.NewRebootVirtualMachineParams(vm.Id)); err != nil || rebooted.State != "Running" {
		t.Fatalf("rebooted: %+v, %v", rebooted, err)
	}
	return vm.Id
}

// queued submits three reboots at once: they take turns, in order, and are listed meanwhile.
func queued(t *testing.T, s *server, id string) {
	t.Helper()
	c := s.starter()
	var jobs []string
	for range 3 {
		r, err := c.VirtualMachine.RebootVirtualMachine(c.VirtualMachine.NewRebootVirtualMachineParams(id))
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, r.JobID)
	}
	l, err := c.Asyncjob.ListAsyncJobs(c.Asyncjob.NewListAsyncJobsParams())
	if err != nil || l.Count == 0 {
		t.Fatalf("pending jobs: %+v, %v", l, err)
	}
	if vm, _, err := c.VirtualMachine.GetVirtualMachineByID(id); err != nil || vm.JobID == "" || vm.Jobstatus != 0 {
		t.Errorf("a VM with unfinished jobs names the oldest: %+v, %v", vm, err)
	}
	var ends []string
	for _, j := range jobs {
		r := ended(t.Context(), t, c, j)
		if r.Jobstatus != 1 {
			t.Errorf("reboot: %+v", r)
		}
		ends = append(ends, r.Completed)
	}
	if !slices.IsSorted(ends) {
		t.Errorf("reboots ended out of order: %v", ends)
	}
}

// more moves, tags and scales the VM, cancels a job of it, and empties its host.
func more(t *testing.T, s *server, c *cloudstack.CloudStackClient, id string) {
	t.Helper()
	before, _, err := c.VirtualMachine.GetVirtualMachineByID(id)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := c.VirtualMachine.MigrateVirtualMachine(c.VirtualMachine.NewMigrateVirtualMachineParams(id))
	if err != nil || moved.State != "Running" || moved.Hostid == before.Hostid {
		t.Fatalf("moved: %+v, %v", moved, err)
	}
	if r, err := c.Resourcetags.CreateTags(c.Resourcetags.NewCreateTagsParams([]string{id}, "UserVm", map[string]string{"env": "test"})); err != nil || !r.Success {
		t.Fatalf("tags: %+v, %v", r, err)
	}
	tagged, _, err := c.VirtualMachine.GetVirtualMachineByID(id)
	if err != nil || len(tagged.Tags) != 1 || tagged.Tags[0].Key != "env" || tagged.Tags[0].Value != "test" {
		t.Errorf("tagged: %+v, %v", tagged, err)
	}
	medium, _, err := c.ServiceOffering.GetServiceOfferingID("medium")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.VirtualMachine.ScaleVirtualMachine(c.VirtualMachine.NewScaleVirtualMachineParams(id, medium)); err != nil {
		t.Errorf("scaled: %v", err)
	}
	e := c.Event.NewListEventsParams()
	e.SetType("VM.MIGRATE")
	if l, err := c.Event.ListEvents(e); err != nil || l.Count != 3 || l.Events[0].State != "Completed" {
		t.Errorf("events: %+v, %v", l, err)
	}
	plain := s.starter()
	var jobs []string
	for range 3 {
		r, err := plain.VirtualMachine.RebootVirtualMachine(plain.VirtualMachine.NewRebootVirtualMachineParams(id))
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, r.JobID)
	}
	custom := &cloudstack.CustomServiceParams{}
	custom.SetParam("jobid", jobs[2])
	if err := plain.Custom.(*cloudstack.CustomService).CustomRequest("cancelAsyncJob", custom, new(any)); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if r := ended(t.Context(), t, plain, jobs[2]); r.Jobstatus != 2 {
		t.Errorf("cancelled: %+v", r)
	}
	ended(t.Context(), t, plain, jobs[1])
	host, err := c.Host.PrepareHostForMaintenance(c.Host.NewPrepareHostForMaintenanceParams(moved.Hostid))
	if err != nil || host.Resourcestate != "Maintenance" {
		t.Fatalf("maintenance: %+v, %v", host, err)
	}
	if vm, _, err := c.VirtualMachine.GetVirtualMachineByID(id); err != nil || vm.Hostid == moved.Hostid || vm.State != "Running" {
		t.Errorf("after maintenance: %+v, %v", vm, err)
	}
	if host, err := c.Host.CancelHostMaintenance(c.Host.NewCancelHostMaintenanceParams(moved.Hostid)); err != nil || host.Resourcestate != "Enabled" {
		t.Errorf("back: %+v, %v", host, err)
	}
}

// TestLatency is what a client of the SDK sees of a job that takes 1.1 s: the server holds the answer.
func TestLatency(t *testing.T) {
	s := start(t, "-data", t.TempDir(), "-sim-latency", "1s")
	c := s.client()
	w := look(t, c)
	best := time.Hour
	for i := range 5 { // the host takes 1 s of it
		began := time.Now()
		if _, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, fmt.Sprint("l", i))); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	t.Logf("a job of 1.1 s takes %v", best)
	if best > 1300*time.Millisecond {
		t.Errorf("%v, want at most 1.3 s", best)
	}
}

func failing(t *testing.T, c *cloudstack.CloudStackClient, w world) {
	t.Helper()
	_, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, "fail1"))
	says(t, err, "533")
	failed, count, err := c.VirtualMachine.GetVirtualMachineByName("fail1")
	if err != nil || count != 1 || failed.State != "Error" {
		t.Errorf("a failed deploy leaves %+v, %d, %v", failed, count, err)
	}
	const unknown = "99999999-9999-4999-8999-999999999999"
	t.Run("ref-19 unknown id", func(t *testing.T) {
		if vm, count, err := c.VirtualMachine.GetVirtualMachineByID(unknown); count != 0 {
			t.Errorf("%+v, %d, %v", vm, count, err)
		}
		_, err := c.VirtualMachine.StopVirtualMachine(c.VirtualMachine.NewStopVirtualMachineParams(unknown))
		says(t, err, "431", "Invalid parameter id value="+unknown+" due to incorrect long value format, or entity does not exist")
	})
}

func paging(t *testing.T, c *cloudstack.CloudStackClient, w world) {
	t.Helper()
	for i := range 5 {
		p := deployParams(c, w, fmt.Sprint("page", i))
		p.SetStartvm(false)
		if vm, err := c.VirtualMachine.DeployVirtualMachine(p); err != nil || vm.State != "Stopped" {
			t.Fatalf("startvm=false: %+v, %v", vm, err)
		}
	}
	seen := map[string]bool{}
	for page := 1; page <= 4; page++ {
		p := c.VirtualMachine.NewListVirtualMachinesParams()
		p.SetKeyword("page")
		p.SetPage(page)
		p.SetPagesize(2)
		l, err := c.VirtualMachine.ListVirtualMachines(p)
		if err != nil || l.Count != 5 {
			t.Fatalf("page %d: %+v, %v", page, l, err)
		}
		for _, vm := range l.VirtualMachines {
			seen[vm.Name] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("pages gave %v", seen)
	}
}

func others(t *testing.T, c *cloudstack.CloudStackClient) {
	t.Helper()
	hosts, err := c.Host.ListHosts(c.Host.NewListHostsParams())
	if err != nil || hosts.Count != 2 || hosts.Hosts[0].State != "Up" || hosts.Hosts[0].Memorytotal != 8589934592 {
		t.Errorf("hosts: %+v, %v", hosts, err)
	}
	apis, err := c.APIDiscovery.ListApis(c.APIDiscovery.NewListApisParams())
	if err != nil || apis.Count < 14 {
		t.Errorf("listApis: %+v, %v", apis, err)
	}
}

// TestKilled kills the server in the middle of many deploys: every accepted job ends, and every VM is in the state that
// its job reports.
func TestKilled(t *testing.T) {
	const deploys = 200
	s := start(t, "-data", t.TempDir(), "-sim-hosts", "20", "-sim-latency", "100ms")
	c := s.starter()
	w := look(t, c)
	type accepted struct{ vm, job string }
	var mu sync.Mutex
	var got []accepted
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			c := s.starter()
			for i := range next {
				r, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, fmt.Sprint("k", i)))
				mu.Lock()
				if err == nil {
					got = append(got, accepted{r.Id, r.JobID})
				}
				n := len(got)
				mu.Unlock()
				if n == deploys/2 {
					go s.cmd.Process.Kill() //nolint:errcheck // it is about to be gone
				}
			}
		})
	}
	for i := range deploys {
		next <- i
	}
	close(next)
	wg.Wait()
	<-s.gone
	if len(got) < deploys/2 {
		t.Fatalf("only %d deploys were accepted", len(got))
	}
	s.again()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	counts := map[string]int{}
	for _, a := range got {
		r := ended(ctx, t, c, a.job)
		want := map[int]string{1: "Running", 2: "Error"}[r.Jobstatus]
		if st := state(t, c, a.vm); st != want {
			t.Errorf("job %s has status %d, its VM %s is %s", a.job, r.Jobstatus, a.vm, st)
		}
		counts[want]++
	}
	t.Logf("%d accepted: %v", len(got), counts)
	if counts["Running"] < deploys/4 {
		t.Errorf("only %v", counts)
	}
}

// TestAgain: a server that is started again after SIGKILL has its jobs at once, not when the lease of 30 s is over.
func TestAgain(t *testing.T) {
	s := start(t, "-data", t.TempDir(), "-sim-latency", "3s")
	c := s.starter()
	r, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, look(t, c), "again"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // in the middle of a step
	s.kill()
	began := time.Now()
	s.again()
	if j := ended(t.Context(), t, c, r.JobID); j.Jobstatus != 1 {
		t.Fatalf("%+v", j)
	}
	took := time.Since(began).Round(100 * time.Millisecond)
	t.Logf("ended %v after the restart", took)
	if took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestStop is SIGTERM: held answers come at once, running jobs get their time, the process ends by itself.
func TestStop(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "-data", dir, "-sim-latency", "200ms")
	c := s.starter()
	w := look(t, c)
	r, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, "vm1"))
	if err != nil {
		t.Fatal(err)
	}
	if d := s.terminate(); d > 35*time.Second {
		t.Errorf("took %v to stop", d)
	}
	s.again()
	if j := ended(t.Context(), t, c, r.JobID); j.Jobstatus != 1 {
		t.Errorf("a deploy across a restart: %+v", j)
	}
	if got := state(t, c, r.Id); got != "Running" {
		t.Errorf("the VM is %s", got)
	}
}
