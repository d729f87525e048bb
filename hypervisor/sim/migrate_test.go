package sim_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

// A machine that moves is at one host, whatever ends the move, and a move that was left half-way goes on.
func TestMigrate(t *testing.T) {
	t.Parallel()
	const id = "00000000-0000-4000-8000-0000000000aa"
	for _, c := range []struct {
		name string
		stop func(ctx context.Context, m hypervisor.Migration, from *sim.Driver, leave context.CancelFunc)
		want error
		at   string // where it runs in the end
	}{
		{"to the end", func(context.Context, hypervisor.Migration, *sim.Driver, context.CancelFunc) {}, nil, "b"},
		{"aborted", func(ctx context.Context, m hypervisor.Migration, _ *sim.Driver, _ context.CancelFunc) {
			_ = m.Abort(ctx)
		}, hypervisor.ErrAborted, "a"},
		{"left", func(_ context.Context, _ hypervisor.Migration, _ *sim.Driver, leave context.CancelFunc) { leave() }, context.Canceled, "a"},
		{"a higher epoch", func(ctx context.Context, _ hypervisor.Migration, from *sim.Driver, _ context.CancelFunc) {
			_ = from.Start(ctx, id, hypervisor.StartOptions{Epoch: 9})
		}, hypervisor.ErrStaleEpoch, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				host := func(last string) *sim.Driver {
					d, err := sim.New(sim.Config{ID: "11111111-0000-4000-8000-00000000000" + last, MemoryMiB: 1024})
					if err != nil {
						t.Fatal(err)
					}
					return d
				}
				a, b := host("a"), host("b")
				if _, err := a.Define(ctx, hypervisor.Spec{ID: id, Name: "vm", VCPU: 1, MemoryMiB: 512}); err != nil {
					t.Fatal(err)
				}
				if err := a.Start(ctx, id, hypervisor.StartOptions{Epoch: 1}); err != nil {
					t.Fatal(err)
				}
				if _, err := a.Migrate(ctx, id, hypervisor.MigrateSpec{Target: b}); !errors.Is(err, hypervisor.ErrStaleEpoch) {
					t.Errorf("without epoch: %v", err)
				}
				if _, err := a.Migrate(ctx, id, hypervisor.MigrateSpec{Target: a, Epoch: 2}); !errors.Is(err, hypervisor.ErrInvalid) {
					t.Errorf("to itself: %v", err)
				}
				m, err := a.Migrate(ctx, id, hypervisor.MigrateSpec{Target: b, Epoch: 2})
				if err != nil {
					t.Fatal(err)
				}
				waiting, leave := context.WithCancel(ctx)
				defer leave()
				done := make(chan error, 1)
				go func() { done <- m.Wait(waiting) }()
				time.Sleep(time.Second)
				if p, err := m.Progress(ctx); err != nil || p.Total != 512 || p.Remaining != 256 {
					t.Errorf("%+v, %v", p, err)
				}
				c.stop(ctx, m, a, leave)
				if err := <-done; !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if c.want == nil || errors.Is(c.want, hypervisor.ErrAborted) {
					runsAt(t, id, map[string]*sim.Driver{"a": a, "b": b}, c.at)
				}
				if c.at == "a" { // begin again
					if m, err = a.Migrate(ctx, id, hypervisor.MigrateSpec{Target: b, Epoch: 10}); err != nil {
						t.Fatal(err)
					}
					if err := m.Wait(ctx); err != nil {
						t.Fatal(err)
					}
				}
				runsAt(t, id, map[string]*sim.Driver{"a": a, "b": b}, "b")
			})
		})
	}
}

func runsAt(t *testing.T, id string, hosts map[string]*sim.Driver, at string) {
	t.Helper()
	for name, d := range hosts {
		vm, err := d.Get(t.Context(), id)
		if name == at && (err != nil || vm.Power != hypervisor.On) || name != at && !errors.Is(err, hypervisor.ErrNotFound) {
			t.Errorf("host %s: %+v, %v", name, vm, err)
		}
	}
}
