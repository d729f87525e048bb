package libvirt_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/internal/testkit"
	"github.com/drover-cloud/drover/testkit/drivertest"
)

// disk makes an empty qcow2 image that the daemon may write.
func disk(t testing.TB, d *testkit.Libvirtd) string {
	t.Helper()
	path := filepath.Join(d.Dir, "lib", "disk.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "1M").CombinedOutput(); err != nil {
		testkit.Missing(t, "libvirt", "no qemu-img (apt-get install qemu-utils): "+string(out)+err.Error())
	}
	ok(t, os.Chmod(path, 0o666))
	return path
}

func TestDisk(t *testing.T) {
	t.Parallel()
	t.Run("hyp-15 snapshots of a guest with a disk", func(t *testing.T) {
		d := daemon(t)
		v := open(t, d, qemu)
		_, err := v.Define(t.Context(), hypervisor.Spec{ID: liveID(1), Name: "a", VCPU: 1, MemoryMiB: 32,
			Disks: []hypervisor.Disk{{Path: disk(t, d), Format: "qcow2"}}})
		ok(t, err)
		ok(t, v.Start(t.Context(), liveID(1), hypervisor.StartOptions{Epoch: 3}))
		ok(t, v.CreateSnapshot(t.Context(), liveID(1), hypervisor.SnapshotSpec{Name: "one", Description: "a<b"}))
		stats, err := v.Stats(t.Context(), hypervisor.StatsQuery{IDs: []string{liveID(1), liveID(2)}, Disks: true})
		ok(t, err)
		if len(stats) != 1 || len(stats[0].Disks) != 1 || stats[0].Disks[0].Name != "vda" || stats[0].Disks[0].Capacity != 1<<20 {
			t.Errorf("%+v", stats)
		}
		drivertest.Snapshots(t, v, liveID(1))
	})
}

func TestConsoleAndAgent(t *testing.T) {
	t.Parallel()
	d := daemon(t)
	v := openWith(t, configOf(d))
	spec := hypervisor.Spec{ID: liveID(1), Name: "a", VCPU: 1, MemoryMiB: 32, Console: true, Agent: true}
	_, err := v.Define(t.Context(), spec)
	ok(t, err)
	_, err = v.ConsoleLog(t.Context(), liveID(1), 0)
	is(t, err, hypervisor.ErrNotFound)
	is(t, v.PingGuest(t.Context(), liveID(1)), hypervisor.ErrState)
	ok(t, v.Start(t.Context(), liveID(1), hypervisor.StartOptions{}))
	if b, err := v.ConsoleLog(t.Context(), liveID(1), 10); err != nil || len(b) > 10 {
		t.Errorf("%q %v", b, err)
	}
	log, err := os.OpenFile(filepath.Join(d.Dir, "lib", liveID(1)+".log"), os.O_APPEND|os.O_WRONLY, 0) // which QEMU has made
	ok(t, err)
	_, err = log.WriteString("the end")
	ok(t, errors.Join(err, log.Close()))
	if b, err := v.ConsoleLog(t.Context(), liveID(1), 3); err != nil || string(b) != "end" {
		t.Errorf("%q %v", b, err)
	}
	start := time.Now()
	is(t, v.PingGuest(t.Context(), liveID(1)), hypervisor.ErrTimeout) // no agent runs there
	t.Logf("a guest without an agent: %v", time.Since(start))
	spec.ID, spec.Name, spec.Agent = liveID(2), "b", false
	_, err = v.Define(t.Context(), spec)
	ok(t, err)
	ok(t, v.Start(t.Context(), liveID(2), hypervisor.StartOptions{}))
	is(t, v.PingGuest(t.Context(), liveID(2)), hypervisor.ErrUnsupported)
}
