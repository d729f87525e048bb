package clienttest

import (
	"os"
	"testing"

	"github.com/apache/cloudstack-go/v2/cloudstack"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/internal/testkit"
)

// TestLibvirt has machines on hosts that a real libvirt runs.
func TestLibvirt(t *testing.T) {
	daemon := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	for _, c := range []struct{ name, uri, query string }{{"test", "test:///default", ""}, {"qemu", "qemu:///session", "&bridge=none"}} {
		t.Run("ref-50 "+c.uri, func(t *testing.T) {
			d, err := libvirt.New(libvirt.Config{URI: c.uri, Socket: daemon.Socket})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // only looked
			there, err := d.List(t.Context(), hypervisor.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, vm := range there { // the test driver has a machine larger than its host
				if err := d.Stop(t.Context(), vm.ID, hypervisor.StopOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			s := start(t, "-data", t.TempDir(), "-hypervisor", c.name+"="+c.uri+"?socket="+daemon.Socket+c.query)
			client := s.client()
			onLibvirt(t, client, d, c.name)
			if now, err := d.List(t.Context(), hypervisor.Filter{}); err != nil || len(now) != len(there) {
				t.Errorf("left behind: %+v, %v", now, err)
			}
		})
	}
}

// onLibvirt is a machine's life on a host that is really there.
func onLibvirt(t *testing.T, c *cloudstack.CloudStackClient, d *libvirt.Driver, host string) {
	w := look(t, c)
	power := func(id string) hypervisor.Power {
		vm, err := d.Get(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		return vm.Power
	}
	hosts, err := c.Host.ListHosts(c.Host.NewListHostsParams())
	if err != nil || hosts.Count != 1 || hosts.Hosts[0].Name != host || hosts.Hosts[0].Memorytotal == 0 || hosts.Hosts[0].Cpunumber == 0 {
		t.Fatalf("%+v, %v", hosts, err)
	}
	vm, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, "real"))
	if err != nil || vm.State != "Running" || vm.Hostname != host || power(vm.Id) != hypervisor.On {
		t.Fatalf("deployed: %+v, %v", vm, err)
	}
	reboot := c.VirtualMachine.NewRebootVirtualMachineParams(vm.Id)
	reboot.SetForced(true)
	if vm, err := c.VirtualMachine.RebootVirtualMachine(reboot); err != nil || vm.State != "Running" {
		t.Fatalf("rebooted: %+v, %v", vm, err)
	}
	stop := c.VirtualMachine.NewStopVirtualMachineParams(vm.Id)
	stop.SetForced(true) // it runs nothing that could be asked
	if stopped, err := c.VirtualMachine.StopVirtualMachine(stop); err != nil || stopped.State != "Stopped" || power(vm.Id) != hypervisor.Off {
		t.Fatalf("stopped: %+v, %v", stopped, err)
	}
	if started, err := c.VirtualMachine.StartVirtualMachine(c.VirtualMachine.NewStartVirtualMachineParams(vm.Id)); err != nil || started.State != "Running" || power(vm.Id) != hypervisor.On {
		t.Fatalf("started: %+v, %v", started, err)
	}
	if _, err := c.VirtualMachine.StopVirtualMachine(stop); err != nil {
		t.Fatal(err)
	}
	destroy := c.VirtualMachine.NewDestroyVirtualMachineParams(vm.Id)
	destroy.SetExpunge(true)
	if _, err := c.VirtualMachine.DestroyVirtualMachine(destroy); err != nil {
		t.Fatal(err)
	}
	if got := state(t, c, vm.Id); got != "absent" {
		t.Errorf("an expunged machine is %s", got)
	}
}

// TestLibvirtMove moves a machine that runs from one QEMU host to another.
func TestLibvirtMove(t *testing.T) {
	one := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	two := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{Hostname: "two", HostUUID: "5ad1b0de-0000-4000-8000-000000000002"})
	uri := func(d *testkit.Libvirtd) string { return "qemu:///session?socket=" + d.Socket + "&bridge=none" }
	s := start(t, "-data", t.TempDir(), "-hypervisor", "one="+uri(one)+",two="+uri(two))
	c := s.client()
	w := look(t, c)
	vm, err := c.VirtualMachine.DeployVirtualMachine(deployParams(c, w, "mover"))
	if err != nil {
		t.Fatal(err)
	}
	at, moves := vm.Hostname, 1
	if os.Getenv("DROVER_LONG") != "" {
		moves = 4
	}
	for range moves {
		moved, err := c.VirtualMachine.MigrateVirtualMachine(c.VirtualMachine.NewMigrateVirtualMachineParams(vm.Id))
		if err != nil || moved.State != "Running" || moved.Hostname == at {
			t.Fatalf("from %s: %+v, %v", at, moved, err)
		}
		for name, d := range map[string]*testkit.Libvirtd{"one": one, "two": two} {
			drv, err := libvirt.New(libvirt.Config{URI: "qemu:///session", Socket: d.Socket})
			if err != nil {
				t.Fatal(err)
			}
			got, err := drv.Get(t.Context(), vm.Id)
			if on := err == nil && got.Power == hypervisor.On; on != (name == moved.Hostname) {
				t.Errorf("at %s it is %v, %v", name, got.Power, err)
			}
			_ = drv.Close()
		}
		at = moved.Hostname
	}
}
