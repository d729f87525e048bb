// Package drivertest has the conformance suites of driver interfaces: what every implementation must do.
package drivertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
)

// Hypervisor checks what hypervisor.Driver promises. open gives a driver to a host with no VM and room for 4 GiB; each subtest
// opens one of its own.
func Hypervisor(t *testing.T, open func(t testing.TB) hypervisor.Driver) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, d hypervisor.Driver)
	}{
		{"hyp-01 info", hypInfo},
		{"hyp-02 life of a vm", hypLife},
		{"hyp-03 goal already true", hypIdempotent},
		{"hyp-04 missing vm", hypMissing},
		{"hyp-05 wrong state", hypState},
		{"hyp-07 define", hypDefine},
		{"hyp-12 epochs", hypEpochs},
		{"hyp-14 saved memory", hypSave},
		{"hyp-15 snapshots", hypSnapshots},
		{"hyp-16 ended context", hypEnded},
		{"hyp-17 bad input", hypInvalid},
		{"hyp-19 raw descriptions", hypRaw},
		{"hyp-21 list while machines come and go", hypList},
		{"hyp-22 events", hypEvents},
		{"hyp-23 slow consumer of events", hypSlow},
		{"hyp-24 close", hypClose},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, open(t)) })
	}
}

const (
	vmA = "00000000-0000-4000-8000-00000000000a"
	vmB = "00000000-0000-4000-8000-00000000000b"
)

func spec(id, name string) hypervisor.Spec {
	return hypervisor.Spec{ID: id, Name: name, VCPU: 1, MemoryMiB: 32}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func define(t testing.TB, d hypervisor.Driver, s hypervisor.Spec) hypervisor.VM {
	t.Helper()
	vm, err := d.Define(t.Context(), s)
	ok(t, err)
	return vm
}

func get(t testing.TB, d hypervisor.Driver, id string) hypervisor.VM {
	t.Helper()
	vm, err := d.Get(t.Context(), id)
	ok(t, err)
	return vm
}

func power(t testing.TB, d hypervisor.Driver, id string, want hypervisor.Power) hypervisor.VM {
	t.Helper()
	vm := get(t, d, id)
	if vm.Power != want {
		t.Fatalf("power %q, want %q", vm.Power, want)
	}
	return vm
}

func hypInfo(t *testing.T, d hypervisor.Driver) {
	a, err := d.Info(t.Context())
	ok(t, err)
	b, err := d.Info(t.Context())
	ok(t, err)
	if a.ID == "" || a.ID != b.ID || a.CPUs < 1 || a.MemoryMiB < 1 {
		t.Fatalf("info %+v, then %+v", a, b)
	}
	_, migrates := d.(hypervisor.Migrator)
	_, snaps := d.(hypervisor.Snapshotter)
	_, saves := d.(hypervisor.Saver)
	_, counts := d.(hypervisor.Statser)
	_, tells := d.(hypervisor.Eventer)
	able := map[string]bool{"migrate": migrates, "postcopy": migrates, "snapshot": snaps, "save": saves, "stats": counts, "events": tells}
	for _, name := range a.Abilities {
		if !able[name] {
			t.Errorf("%s is no ability of this driver: %v", name, a.Abilities)
		}
	}
	if !slices.IsSorted(a.Abilities) || len(a.Abilities) == 0 && tells {
		t.Errorf("abilities %v", a.Abilities)
	}
}

func hypLife(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	define(t, d, spec(vmB, "b"))
	if vm := define(t, d, spec(vmA, "a")); vm.Power != hypervisor.Off || vm.Incarnation != -1 {
		t.Fatalf("defined: %+v", vm)
	}
	vms, err := d.List(ctx, hypervisor.Filter{})
	ok(t, err)
	if len(vms) != 2 || vms[0].ID != vmA || vms[1].ID != vmB {
		t.Fatalf("list %+v", vms)
	}
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	first := power(t, d, vmA, hypervisor.On).Incarnation
	if vms, err = d.List(ctx, hypervisor.Filter{Power: []hypervisor.Power{hypervisor.On}}); err != nil || len(vms) != 1 {
		t.Fatalf("filtered: %v %v", vms, err)
	}
	ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{}))
	if vm := power(t, d, vmA, hypervisor.Off); vm.Incarnation != -1 {
		t.Fatalf("stopped: %+v", vm)
	}
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	if n := power(t, d, vmA, hypervisor.On).Incarnation; first < 0 || n <= first {
		t.Fatalf("incarnations %d, then %d", first, n)
	}
	ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{Incarnation: first}))
	power(t, d, vmA, hypervisor.On)
	ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{}))
	ok(t, d.Undefine(ctx, vmA))
	_, err = d.Get(ctx, vmA)
	is(t, err, hypervisor.ErrNotFound)
}

func hypIdempotent(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	define(t, d, spec(vmA, "a"))
	ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{}))
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	ok(t, d.Undefine(ctx, vmB))
	ok(t, d.Stop(ctx, vmB, hypervisor.StopOptions{}))
	p, able := d.(hypervisor.Pauser)
	if !able {
		return
	}
	for _, f := range []func(context.Context, string) error{p.Resume, p.Pause, p.Pause, p.Resume, p.Resume} {
		ok(t, f(ctx, vmA))
	}
	power(t, d, vmA, hypervisor.On)
}

func hypMissing(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	_, err := d.Get(ctx, vmA)
	missing := func(op string, err error) {
		t.Helper()
		var e *hypervisor.Error
		is(t, err, hypervisor.ErrNotFound)
		if !errors.As(err, &e) || e.Op != op || e.VM != vmA || e.Host == "" {
			t.Fatalf("%s: %#v", op, err)
		}
	}
	missing("get", err)
	missing("start", d.Start(ctx, vmA, hypervisor.StartOptions{}))
	if p, able := d.(hypervisor.Pauser); able {
		missing("pause", p.Pause(ctx, vmA))
		missing("resume", p.Resume(ctx, vmA))
	}
	if r, able := d.(hypervisor.Rebooter); able {
		missing("reboot", r.Reboot(ctx, vmA, hypervisor.RebootOptions{}))
		missing("reboot", r.Reboot(ctx, vmA, hypervisor.RebootOptions{Soft: true}))
	}
	if vms, err := d.List(ctx, hypervisor.Filter{}); err != nil || len(vms) != 0 {
		t.Fatalf("left behind: %v %v", vms, err)
	}
}

func hypState(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	before := define(t, d, spec(vmA, "a"))
	if p, able := d.(hypervisor.Pauser); able {
		is(t, p.Pause(ctx, vmA), hypervisor.ErrState)
		is(t, p.Resume(ctx, vmA), hypervisor.ErrState)
	}
	if r, able := d.(hypervisor.Rebooter); able {
		is(t, r.Reboot(ctx, vmA, hypervisor.RebootOptions{}), hypervisor.ErrState)
	}
	if after := get(t, d, vmA); after != before {
		t.Fatalf("changed to %+v", after)
	}
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{}))
	is(t, d.Undefine(ctx, vmA), hypervisor.ErrState)
	power(t, d, vmA, hypervisor.On)
	if p, able := d.(hypervisor.Pauser); able {
		ok(t, p.Pause(ctx, vmA))
		is(t, d.Start(ctx, vmA, hypervisor.StartOptions{}), hypervisor.ErrState)
		power(t, d, vmA, hypervisor.Paused)
	}
}

func hypDefine(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	define(t, d, spec(vmA, "a"))
	again := spec(vmA, "a")
	again.MemoryMiB = 48
	if vm := define(t, d, again); vm.MaxMemoryMiB != 48 {
		t.Fatalf("defined again: %+v", vm)
	}
	_, err := d.Define(ctx, spec(vmB, "a"))
	is(t, err, hypervisor.ErrExists)
	if vms, err := d.List(ctx, hypervisor.Filter{}); err != nil || len(vms) != 1 || vms[0].MaxMemoryMiB != 48 {
		t.Fatalf("%v %v", vms, err)
	}
}

func hypEpochs(t *testing.T, d hypervisor.Driver) {
	ctx := t.Context()
	define(t, d, spec(vmA, "a"))
	for _, c := range []struct {
		epoch int64
		want  error
	}{{5, nil}, {4, hypervisor.ErrStaleEpoch}, {0, hypervisor.ErrStaleEpoch}, {5, nil}, {6, nil}} {
		ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{}))
		err := d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: c.epoch})
		if !errors.Is(err, c.want) {
			t.Fatalf("start with %d: %v, want %v", c.epoch, err, c.want)
		}
		if want := hypervisor.On; c.want == nil {
			power(t, d, vmA, want)
		}
	}
	is(t, d.Stop(ctx, vmA, hypervisor.StopOptions{Epoch: 5}), hypervisor.ErrStaleEpoch)
	if vm := power(t, d, vmA, hypervisor.On); vm.Epoch != 6 {
		t.Fatalf("epoch %d", vm.Epoch)
	}
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 8}))
	if vm := power(t, d, vmA, hypervisor.On); vm.Epoch != 8 {
		t.Fatalf("start of a running vm recorded %d", vm.Epoch)
	}
	ok(t, d.Stop(ctx, vmA, hypervisor.StopOptions{Epoch: 8}))
	define(t, d, spec(vmA, "a"))
	if vm := get(t, d, vmA); vm.Epoch != 8 {
		t.Fatalf("defined again: epoch %d", vm.Epoch)
	}
}

func hypEnded(t *testing.T, d hypervisor.Driver) {
	define(t, d, spec(vmA, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	abilities := []error{}
	if p, able := d.(hypervisor.Pauser); able {
		abilities = append(abilities, p.Pause(ctx, vmA), p.Resume(ctx, vmA))
	}
	if r, able := d.(hypervisor.Rebooter); able {
		abilities = append(abilities, r.Reboot(ctx, vmA, hypervisor.RebootOptions{}))
	}
	if r, able := d.(hypervisor.Resourcer); able {
		_, err := r.Resources(ctx)
		abilities = append(abilities, err)
	}
	if p, able := d.(hypervisor.Pinger); able {
		abilities = append(abilities, p.Ping(ctx))
	}
	if s, able := d.(hypervisor.Saver); able {
		abilities = append(abilities, s.Save(ctx, vmA), s.DropSaved(ctx, vmA))
	}
	if s, able := d.(hypervisor.Snapshotter); able {
		_, err := s.Snapshots(ctx, vmA)
		abilities = append(abilities, err, s.CreateSnapshot(ctx, vmA, hypervisor.SnapshotSpec{Name: "s"}), s.RevertSnapshot(ctx, vmA, "s"),
			s.DeleteSnapshot(ctx, vmA, "s"))
	}
	if s, able := d.(hypervisor.Statser); able {
		_, err := s.Stats(ctx, hypervisor.StatsQuery{})
		abilities = append(abilities, err)
	}
	_, info := d.Info(ctx)
	_, list := d.List(ctx, hypervisor.Filter{})
	_, get := d.Get(ctx, vmA)
	_, def := d.Define(ctx, spec(vmB, "b"))
	for i, err := range append(abilities, info, list, get, def, d.Undefine(ctx, vmA),
		d.Start(ctx, vmA, hypervisor.StartOptions{}), d.Stop(ctx, vmA, hypervisor.StopOptions{})) {
		if !errors.Is(err, context.Canceled) || errors.Is(err, hypervisor.ErrOutcomeUnknown) {
			t.Errorf("%d: %v", i, err)
		}
	}
	power(t, d, vmA, hypervisor.Off)
}

func hypInvalid(t *testing.T, d hypervisor.Driver) {
	for _, c := range []struct {
		field string
		bad   func(*hypervisor.Spec)
	}{
		{"ID", func(s *hypervisor.Spec) { s.ID = "A0000000-0000-4000-8000-00000000000a" }},
		{"Name", func(s *hypervisor.Spec) { s.Name = "-a" }},
		{"Name", func(s *hypervisor.Spec) { s.Name = "a<b" }},
		{"Name", func(s *hypervisor.Spec) { s.Name = "a'/><x/>" }},
		{"Name", func(s *hypervisor.Spec) { s.Name = "../../etc/passwd" }},
		{"Name", func(s *hypervisor.Spec) { s.Name = "a\x00b" }},
		{"Name", func(s *hypervisor.Spec) { s.Name = strings.Repeat("a", 10<<20) }},
		{"ID", func(s *hypervisor.Spec) { s.ID = "../" + s.ID[3:] }},
		{"Disks[0].Path", func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{Path: "/a\"/><x/>", Format: "raw"}} }},
		{"NICs[0].Model", func(s *hypervisor.Spec) {
			s.NICs = []hypervisor.NIC{{Bridge: "br0", MAC: "02:00:0a:01:01:0a", Model: "virtio'/>"}}
		}},
		{"VCPU", func(s *hypervisor.Spec) { s.VCPU = 4097 }},
		{"MemoryMiB", func(s *hypervisor.Spec) { s.MemoryMiB = 0 }},
		{"Epoch", func(s *hypervisor.Spec) { s.Epoch = -1 }},
		{"Raw", func(s *hypervisor.Spec) { s.Raw = []byte("<domain/>") }},
		{"Disks[0].Path", func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{Path: "x/y", Format: "raw"}} }},
		{"Disks[0].Path", func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{Path: "/etc/../etc/shadow", Format: "raw"}} }},
		{"NICs[0].MAC", func(s *hypervisor.Spec) { s.NICs = []hypervisor.NIC{{Bridge: "br0", MAC: "zz"}} }},
		{"NICs[0].Bridge", func(s *hypervisor.Spec) { s.NICs = []hypervisor.NIC{{Bridge: "a b", MAC: "02:00:0a:01:01:0a"}} }},
	} {
		s := spec(vmA, "a")
		c.bad(&s)
		_, err := d.Define(t.Context(), s)
		var f *hypervisor.FieldError
		if !errors.Is(err, hypervisor.ErrInvalid) || !errors.As(err, &f) || f.Field != c.field {
			t.Errorf("%s: %v", c.field, err)
		}
	}
	vms, err := d.List(t.Context(), hypervisor.Filter{})
	if err != nil || slices.ContainsFunc(vms, func(hypervisor.VM) bool { return true }) {
		t.Fatalf("left behind: %v %v", vms, err)
	}
}

func hypList(t *testing.T, d hypervisor.Driver) {
	define(t, d, spec(vmA, "a"))
	stop, gone := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for n := 0; err == nil; n++ {
			select {
			case <-stop:
				gone <- nil
				return
			default:
			}
			if _, err = d.Define(context.Background(), spec(vmB, "b")); err == nil {
				err = d.Undefine(context.Background(), vmB)
			}
		}
		gone <- err
	}()
	for range 30 {
		vms, err := d.List(t.Context(), hypervisor.Filter{})
		ok(t, err)
		if len(vms) == 0 || vms[0].ID != vmA || len(vms) > 2 || len(vms) == 2 && vms[1].ID != vmB {
			t.Errorf("list %+v", vms)
		}
	}
	close(stop)
	ok(t, <-gone)
}
