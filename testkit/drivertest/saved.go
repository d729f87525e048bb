package drivertest

import (
	"errors"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
)

func hypSave(t *testing.T, d hypervisor.Driver) {
	s, able := d.(hypervisor.Saver)
	if !able {
		t.Skip("this driver saves no memory")
	}
	ctx := t.Context()
	is(t, s.Save(ctx, vmA), hypervisor.ErrNotFound)
	define(t, d, spec(vmA, "a"))
	is(t, s.Save(ctx, vmA), hypervisor.ErrState)
	save := func() {
		t.Helper()
		ok(t, s.Save(ctx, vmA))
		ok(t, s.Save(ctx, vmA))
		if vm := power(t, d, vmA, hypervisor.Off); !vm.Saved || vm.Incarnation != -1 {
			t.Fatalf("saved: %+v", vm)
		}
	}
	running := func() {
		t.Helper()
		if vm := power(t, d, vmA, hypervisor.On); vm.Saved {
			t.Fatalf("started: %+v", vm)
		}
	}
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 3}))
	save()
	is(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 2}), hypervisor.ErrStaleEpoch)
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 4})) // from memory
	running()
	if vm := get(t, d, vmA); vm.Epoch != 4 {
		t.Fatalf("restored with epoch %d", vm.Epoch)
	}
	save()
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 4, Fresh: true}))
	running()
	save()
	ok(t, s.DropSaved(ctx, vmA))
	ok(t, s.DropSaved(ctx, vmA))
	if vm := power(t, d, vmA, hypervisor.Off); vm.Saved {
		t.Fatalf("dropped: %+v", vm)
	}
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 4}))
	save()
	ok(t, d.Undefine(ctx, vmA))
}

func hypSnapshots(t *testing.T, d hypervisor.Driver) {
	s, able := d.(hypervisor.Snapshotter)
	if !able {
		t.Skip("this driver makes no snapshots")
	}
	ctx := t.Context()
	is(t, s.CreateSnapshot(ctx, vmA, hypervisor.SnapshotSpec{Name: "one"}), hypervisor.ErrNotFound)
	define(t, d, spec(vmA, "a"))
	is(t, s.CreateSnapshot(ctx, vmA, hypervisor.SnapshotSpec{Name: "<one>"}), hypervisor.ErrInvalid)
	is(t, s.RevertSnapshot(ctx, vmA, "one"), hypervisor.ErrNotFound)
	ok(t, s.DeleteSnapshot(ctx, vmA, "one"))
	ok(t, d.Start(ctx, vmA, hypervisor.StartOptions{Epoch: 3}))
	err := s.CreateSnapshot(ctx, vmA, hypervisor.SnapshotSpec{Name: "one", Description: "a<b"})
	if errors.Is(err, hypervisor.ErrUnsupported) {
		t.Log("no snapshots without a disk")
		return
	}
	ok(t, err)
	Snapshots(t, d, vmA)
}

// Snapshots checks the life of snapshots on a VM that is On with epoch 3 and has one, "one".
func Snapshots(t *testing.T, d hypervisor.Driver, id string) {
	s, ctx := d.(hypervisor.Snapshotter), t.Context()
	is(t, s.CreateSnapshot(ctx, id, hypervisor.SnapshotSpec{Name: "one"}), hypervisor.ErrExists)
	ok(t, d.Stop(ctx, id, hypervisor.StopOptions{}))
	ok(t, s.CreateSnapshot(ctx, id, hypervisor.SnapshotSpec{Name: "two"}))
	list, err := s.Snapshots(ctx, id)
	ok(t, err)
	if len(list) != 2 || list[0].Name != "one" || list[0].Power != hypervisor.On || list[0].Description != "a<b" || list[0].At.IsZero() ||
		list[1].Name != "two" || list[1].Power != hypervisor.Off || list[1].Parent != "one" {
		t.Fatalf("snapshots %+v", list)
	}
	ok(t, d.Start(ctx, id, hypervisor.StartOptions{Epoch: 5}))
	ok(t, s.RevertSnapshot(ctx, id, "one"))
	if vm := power(t, d, id, hypervisor.On); vm.Epoch != 5 {
		t.Fatalf("reverted to epoch %d", vm.Epoch)
	}
	ok(t, s.RevertSnapshot(ctx, id, "two"))
	power(t, d, id, hypervisor.Off)
	is(t, s.RevertSnapshot(ctx, id, "three"), hypervisor.ErrNotFound)
	ok(t, s.DeleteSnapshot(ctx, id, "one"))
	ok(t, s.DeleteSnapshot(ctx, id, "one"))
	if list, err = s.Snapshots(ctx, id); err != nil || len(list) != 1 {
		t.Fatalf("left: %+v %v", list, err)
	}
	ok(t, d.Undefine(ctx, id))
}
