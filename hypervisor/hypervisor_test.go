package hypervisor_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

func Example() {
	host, err := sim.New(sim.Config{ID: "33333333-0000-4000-8000-00000000000a"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer host.Close() //nolint:errcheck // an example
	var d hypervisor.Driver = host
	ctx := context.Background()

	vm, _ := d.Define(ctx, hypervisor.Spec{
		ID: "00000000-0000-4000-8000-000000000001", Name: "web-1", VCPU: 2, MemoryMiB: 2048,
	})
	fmt.Println(vm.Name, vm.Power)
	fmt.Println(d.Start(ctx, vm.ID, hypervisor.StartOptions{Epoch: 7}))
	vm, _ = d.Get(ctx, vm.ID)
	fmt.Println(vm.Power, vm.Epoch)
	// Output:
	// web-1 off
	// <nil>
	// on 7
}

func TestPowerOf(t *testing.T) {
	t.Run("hyp-06 power table", func(t *testing.T) {
		want := map[int]hypervisor.Power{
			1: hypervisor.On, 2: hypervisor.On, 3: hypervisor.Paused, 4: hypervisor.Stopping,
			5: hypervisor.Off, 6: hypervisor.Crashed, 7: hypervisor.Suspended,
		}
		for state := -1; state <= 8; state++ {
			for reason := -1; reason <= 20; reason++ {
				w := want[state]
				if state == 5 && reason == 3 {
					w = hypervisor.Crashed
				}
				if got := hypervisor.PowerOf(state, reason); got != w {
					t.Errorf("PowerOf(%d, %d) = %q, want %q", state, reason, got, w)
				}
			}
		}
	})
}

func TestReconcile(t *testing.T) {
	t.Run("hyp-29 reconcile", func(t *testing.T) {
		powers := []hypervisor.Power{
			hypervisor.Unknown, hypervisor.On, hypervisor.Paused, hypervisor.Stopping, hypervisor.Off, hypervisor.Crashed,
			hypervisor.Suspended,
		}
		type row struct{ want, seen hypervisor.Power }
		acts := map[row]hypervisor.Action{
			{hypervisor.On, hypervisor.Off}:           hypervisor.RecordDown,
			{hypervisor.On, hypervisor.Crashed}:       hypervisor.RecordDown,
			{hypervisor.On, hypervisor.Suspended}:     hypervisor.RecordDown,
			{hypervisor.On, hypervisor.Paused}:        hypervisor.Warn,
			{hypervisor.Off, hypervisor.On}:           hypervisor.ForceStop,
			{hypervisor.Off, hypervisor.Paused}:       hypervisor.ForceStop,
			{hypervisor.Off, hypervisor.Stopping}:     hypervisor.ForceStop,
			{hypervisor.Paused, hypervisor.Off}:       hypervisor.RecordDown,
			{hypervisor.Paused, hypervisor.Crashed}:   hypervisor.RecordDown,
			{hypervisor.Deleted, hypervisor.On}:       hypervisor.Warn,
			{hypervisor.Deleted, hypervisor.Paused}:   hypervisor.Warn,
			{hypervisor.Deleted, hypervisor.Stopping}: hypervisor.Warn,
		}
		for _, want := range append(powers, hypervisor.Deleted) {
			for _, seen := range powers {
				vm := hypervisor.VM{Power: seen, Incarnation: -1}
				if seen == hypervisor.On || seen == hypervisor.Paused || seen == hypervisor.Stopping {
					vm.Incarnation = 3
				}
				w := acts[row{want, seen}]
				if w == "" {
					w = hypervisor.Leave
				}
				if got := hypervisor.Reconcile(want, vm, false); got != w {
					t.Errorf("want %q, seen %q: %s, not %s", want, seen, got, w)
				}
				if got := hypervisor.Reconcile(want, vm, true); got != hypervisor.Leave {
					t.Errorf("busy, want %q, seen %q: %s", want, seen, got)
				}
			}
		}
	})
}
