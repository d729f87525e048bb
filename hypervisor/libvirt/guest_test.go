package libvirt_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/internal/testkit"
)

const guestID = "5b0e6f0a-2d7c-4c57-9a3e-1f1f7b9c0a01"

// linux describes a real guest whose first serial line goes to a file.
func linux(t testing.TB, log string, words ...string) hypervisor.Spec {
	t.Helper()
	g := testkit.TinyGuest(t)
	off := "off"
	dom := libvirtxml.Domain{Type: "qemu", Name: "linux", UUID: guestID,
		Memory: &libvirtxml.DomainMemory{Value: 128, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: 1},
		OS: &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Type: "hvm", Arch: "x86_64"}, Kernel: g.Kernel, Initrd: g.Initrd,
			Cmdline: strings.Join(append(words, testkit.GuestCommandLine), " ")},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		Devices: &libvirtxml.DomainDeviceList{
			Serials:    []libvirtxml.DomainSerial{{Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: log, Append: off}}}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	doc, err := dom.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return hypervisor.Spec{ID: guestID, Name: "linux", VCPU: 1, MemoryMiB: 128, Raw: []byte(doc)}
}

// says waits until the guest has written text behind the first seen bytes of its log, and tells how long the log is then.
func says(t testing.TB, log, text string, seen int) int {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(log)
		if err == nil && len(b) >= seen && strings.Contains(string(b[seen:]), text) {
			return len(b)
		}
		if time.Now().After(end) {
			t.Fatalf("the guest does not say %q (%v); its log:\n%s", text, err, b)
		}
	}
}

func TestGuest(t *testing.T) {
	t.Parallel()
	testkit.TinyGuest(t)
	daemon := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	d, err := libvirt.New(libvirt.Config{URI: "qemu:///session", Socket: daemon.Socket, AllowRaw: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(daemon.Dir, "lib", "serial")
	_, err = d.Define(ctx, linux(t, log))
	must(err)
	must(d.Start(ctx, guestID, hypervisor.StartOptions{}))
	seen := says(t, log, "tick 1", 0)
	must(d.Pause(ctx, guestID))
	vm, err := d.Get(ctx, guestID)
	must(err)
	if vm.Power != hypervisor.Paused {
		t.Fatalf("after Pause it is %s", vm.Power)
	}
	must(d.Resume(ctx, guestID))
	seen = says(t, log, "tick", seen)
	must(d.Reboot(ctx, guestID, hypervisor.RebootOptions{Soft: true}))
	seen = says(t, log, "drover guest up", seen)
	says(t, log, "tick 1", seen-len("drover guest up"))
	must(d.Stop(ctx, guestID, hypervisor.StopOptions{Grace: time.Minute, NoForce: true})) // the guest itself has to power off
	vm, err = d.Get(ctx, guestID)
	must(err)
	if vm.Power != hypervisor.Off {
		t.Errorf("after Stop it is %s", vm.Power)
	}
}
