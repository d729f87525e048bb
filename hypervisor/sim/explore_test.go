package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/testkit"
)

// seeds is how many worlds a run has.
func seeds(short, long int) int {
	if os.Getenv("DROVER_LONG") != "" {
		return long
	}
	return short
}

func exploreSpec() hypervisor.Spec {
	return hypervisor.Spec{ID: vmID, Name: "vm", VCPU: 1, MemoryMiB: 512}
}

// worldMust fails the world.
func worldMust(w *testkit.World, err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

func TestExplore(t *testing.T) {
	t.Run("hyp-13 two starters", exploreStarters)
	t.Run("hyp-28 no evidence, no second copy", exploreEmpty)
	t.Run("hyp-31 crash at each call", exploreCrash)
	t.Run("sim-01 same seed, same trace", exploreReplay)
}

func exploreStarters(t *testing.T) {
	testkit.Explore(t, seeds(50, 500), func(w *testkit.World) {
		h := w.Hosts(1, sim.Config{})[0]
		type end struct {
			err         error
			begun, over time.Time
		}
		ends := map[int64]*end{}
		ready := w.Node("definer", nil)
		_, err := ready.Driver(h).Define(ready.Context(), exploreSpec())
		worldMust(w, err)
		r := w.Rand("late")
		for _, epoch := range []int64{7, 8} {
			n := w.Node(fmt.Sprint("n", epoch), nil)
			d, late := n.Driver(h), time.Duration(r.IntN(400))*time.Millisecond
			n.Env.Go("starter", func() {
				_ = n.Env.Sleep(n.Context(), late)
				begun := time.Now()
				err := d.Start(n.Context(), vmID, hypervisor.StartOptions{Epoch: epoch})
				ends[epoch] = &end{err, begun, time.Now()}
			})
		}
		w.Eventually(time.Minute, "both starts end", func() bool { return len(ends) == 2 })
		vm, err := ready.Driver(h).Get(ready.Context(), vmID)
		worldMust(w, err)
		if vm.Power != hypervisor.On || vm.Epoch != 8 || ends[8].err != nil {
			w.T.Errorf("%+v; starter 8: %v", vm, ends[8].err)
		}
		switch err := ends[7].err; {
		case err == nil && ends[7].over.After(ends[8].begun):
			w.T.Errorf("starter 7 had its way after 8 had begun")
		case err != nil && !errors.Is(err, hypervisor.ErrStaleEpoch):
			w.T.Errorf("starter 7: %v", err)
		}
	})
}

// exploreEmpty: high availability with ProveEmpty as its only proof. A starter with an old epoch is slow, hosts hang, are cut off, lose
// their power; the world fails if the VM runs twice.
func exploreEmpty(t *testing.T) {
	testkit.Explore(t, seeds(100, 1000), func(w *testkit.World) {
		hosts := w.Hosts(2, sim.Config{})
		old, monitor := w.Node("old", nil), w.Node("monitor", nil)
		r := w.Rand("story")
		_, err := monitor.Driver(hosts[0]).Define(monitor.Context(), exploreSpec())
		worldMust(w, err)
		a := old.Driver(hosts[0])
		hosts[0].Slow("fence", time.Duration(r.IntN(1500))*time.Millisecond)
		late := time.Duration(r.IntN(20)) * 50 * time.Millisecond
		old.Env.Go("starter", func() { // of the job before
			for range 5 {
				_ = old.Env.Sleep(old.Context(), late)
				if err := a.Start(old.Context(), vmID, hypervisor.StartOptions{Epoch: 5}); err == nil || errors.Is(err, hypervisor.ErrStaleEpoch) {
					return
				}
			}
		})
		w.Go("faults", func() {
			for range 3 {
				w.Advance(time.Duration(r.IntN(2000)) * time.Millisecond)
				switch r.IntN(5) {
				case 0:
					hosts[0].HangDaemon()
				case 1:
					hosts[0].Partition("monitor")
				case 2:
					hosts[0].KillDaemon()
				case 3:
					_ = hosts[0].PowerLoss(context.Background())
				case 4:
					old.Freeze(time.Duration(r.IntN(5)) * time.Second)
				}
				w.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
				hosts[0].StartDaemon()
				hosts[0].Heal("monitor")
				hosts[0].PowerOn()
			}
		})
		recovered := false
		from, to := monitor.Driver(hosts[0]), monitor.Driver(hosts[1])
		monitor.Env.Go("recovery", func() {
			for epoch := int64(9); !recovered; epoch += 2 {
				if monitor.Env.Sleep(monitor.Context(), time.Duration(r.IntN(200))*time.Millisecond) != nil {
					return
				}
				e, err := hypervisor.ProveEmpty(monitor.Context(), from, []hypervisor.Guarded{{ID: vmID, Epoch: epoch}})
				if err != nil {
					if epoch > 200 { // it runs there, and stays
						return
					}
					continue
				}
				if !e.Holds(monitor.Env.Clock.Now()) {
					continue
				}
				if _, err := to.Define(monitor.Context(), exploreSpec()); err != nil {
					return
				}
				recovered = to.Start(monitor.Context(), vmID, hypervisor.StartOptions{Epoch: epoch + 1}) == nil
			}
		})
		w.Advance(10 * time.Minute)
	})
}

// exploreCrash: a node that dies at any call of a start, a stop and a migration is followed by one with a higher epoch, which reaches
// the goal; there is one copy and nothing is left paused.
func exploreCrash(t *testing.T) {
	for _, again := range []int64{0, 1} { // what is added to the epoch
		testkit.Explore(t, 1, func(w *testkit.World) {
			hosts := w.Hosts(2, sim.Config{})
			first, second := w.Node("first", nil), w.Node("second", nil)
			done := 0
			work := func(n *testkit.Node, epoch int64) error {
				a, b, ctx := n.Driver(hosts[0]), n.Driver(hosts[1]), n.Context()
				steps := []func() error{
					func() error { _, err := a.Define(ctx, exploreSpec()); return err },
					func() error { return a.Start(ctx, vmID, hypervisor.StartOptions{Epoch: epoch}) },
					func() error { return a.Stop(ctx, vmID, hypervisor.StopOptions{Epoch: epoch}) },
					func() error { return a.Start(ctx, vmID, hypervisor.StartOptions{Epoch: epoch}) },
					func() error {
						where, err := hypervisor.Locate(ctx, vmID, a, b)
						if err != nil || where.At == 1 && !where.Moving && where.Power == hypervisor.On {
							return err
						}
						m, err := a.(hypervisor.Migrator).Migrate(ctx, vmID, hypervisor.MigrateSpec{ToHost: "b", Target: b, Epoch: epoch})
						if err != nil {
							return err
						}
						return m.Wait(ctx)
					},
				}
				for ; done < len(steps); done++ {
					if err := steps[done](); err != nil {
						return fmt.Errorf("step %d: %w", done, err)
					}
				}
				return nil
			}
			w.CrashPoints(first, func() {
				first.Env.Go("work", func() { _ = work(first, 5) })
				w.Advance(time.Minute)
			})
			if err := work(second, 5+again); err != nil {
				w.T.Errorf("the successor: %v", err)
			}
			where, err := hypervisor.Locate(second.Context(), vmID, second.Driver(hosts[0]), second.Driver(hosts[1]))
			if err != nil || where.At != 1 || where.Power != hypervisor.On || where.Moving {
				w.T.Errorf("%+v, %v", where, err)
			}
		})
	}
}

// exploreReplay: a host under many hands; Explore compares traces of a seed that is run again.
func exploreReplay(t *testing.T) {
	runs := seeds(2, 10)
	for run := range runs {
		testkit.Explore(t, seeds(5, 20), func(w *testkit.World) {
			hosts := w.Hosts(2, sim.Config{MemoryMiB: 2048})
			for i := range 3 {
				n := w.Node(fmt.Sprint("n", i), nil)
				ds := []hypervisor.Driver{n.Driver(hosts[0]), n.Driver(hosts[1])}
				r := rand.New(n.Env.Rand)
				n.Env.Go("hands", func() {
					for range 15 {
						meddle(n.Context(), ds[i%2], r) // a VM is on one host
					}
				})
			}
			w.Advance(time.Hour)
			_ = run
		})
	}
}

// meddle does something to one of few VMs.
func meddle(ctx context.Context, d hypervisor.Driver, r *rand.Rand) {
	host := d.(hypervisor.Dialer).Origin().HostID
	id := fmt.Sprintf("%s-0000-4000-8000-00000000000%d", host[28:], r.IntN(3))
	switch r.IntN(8) {
	case 0, 1:
		_, _ = d.Define(ctx, hypervisor.Spec{ID: id, Name: "vm-" + id[35:], VCPU: 1, MemoryMiB: 512})
	case 2, 3:
		_ = d.Start(ctx, id, hypervisor.StartOptions{Epoch: r.Int64N(1000)})
	case 4:
		_ = d.Stop(ctx, id, hypervisor.StopOptions{Grace: time.Duration(r.IntN(2)) * time.Minute})
	case 5:
		_ = d.(hypervisor.Pauser).Pause(ctx, id)
	case 6:
		_ = d.(hypervisor.Pauser).Resume(ctx, id)
	case 7:
		_, _ = d.List(ctx, hypervisor.Filter{})
	}
}
