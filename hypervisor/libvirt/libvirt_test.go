package libvirt_test

import (
	"strings"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/testkit/drivertest"
)

func open(t testing.TB, d *testkit.Libvirtd, uri string) *libvirt.Driver {
	t.Helper()
	return openWith(t, libvirt.Config{URI: uri, Socket: d.Socket, DiskRoots: []string{d.Dir}})
}

// configOf keeps consoles where the daemon may write.
func configOf(d *testkit.Libvirtd) libvirt.Config {
	return libvirt.Config{URI: "qemu:///session", Socket: d.Socket, ConsoleDir: d.Dir + "/lib"}
}

func openWith(t testing.TB, cfg libvirt.Config) *libvirt.Driver {
	t.Helper()
	v, err := libvirt.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func TestConformance(t *testing.T) {
	for _, uri := range []string{"test:///default", "qemu:///session"} {
		t.Run(strings.TrimSuffix(strings.TrimSuffix(uri, ":///session"), ":///default"), func(t *testing.T) {
			t.Parallel()
			drivertest.Hypervisor(t, func(t testing.TB) hypervisor.Driver {
				d := open(t, testkit.StartLibvirtd(t, testkit.LibvirtdOptions{}), uri)
				clear(t, d)
				return d
			})
		})
	}
}

// clear removes the VM that the test driver is born with.
func clear(t testing.TB, d hypervisor.Driver) {
	t.Helper()
	vms, err := d.List(t.Context(), hypervisor.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range vms {
		if err := d.Stop(t.Context(), vm.ID, hypervisor.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := d.Undefine(t.Context(), vm.ID); err != nil {
			t.Fatal(err)
		}
	}
}
