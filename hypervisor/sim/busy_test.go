package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

// Fifty hands on twenty VMs for ten virtual seconds: every error has a class, and changes of one VM take as long together as one after
// the other.
func TestBusy(t *testing.T) {
	t.Run("hyp-20 fifty hands", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := open(t, sim.Config{})
			id := func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-0000000000%02d", i) }
			for i := range 20 {
				vm(t, d, id(i), 64)
			}
			end := time.Now().Add(10 * time.Second)
			var mu sync.Mutex
			calls := 0
			var wg sync.WaitGroup
			for hand := range 50 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(hand), 1))
					ctx, cancel := context.WithDeadline(t.Context(), end)
					defer cancel()
					for ctx.Err() == nil {
						err := busy(ctx, d, id(r.IntN(20)), r)
						var e *hypervisor.Error
						mu.Lock()
						calls++
						mu.Unlock()
						if err != nil && (!errors.As(err, &e) || e.Class == nil || errors.Is(err, hypervisor.ErrInternal)) {
							t.Errorf("%v", err)
						}
					}
				})
			}
			wg.Wait()
			if calls < 500 {
				t.Errorf("%d calls in ten seconds", calls)
			}
			// a start and a stop of one VM, at once, take 300 ms and then 1.5 s
			for range 3 {
				ok(t, d.Stop(t.Context(), id(0), hypervisor.StopOptions{}))
				at := time.Now()
				both := make(chan time.Duration, 2)
				go func() {
					_ = d.Start(t.Context(), id(0), hypervisor.StartOptions{Epoch: 1000, Fresh: true})
					both <- time.Since(at)
				}()
				synctest.Wait()
				go func() { _ = d.Stop(t.Context(), id(0), hypervisor.StopOptions{}); both <- time.Since(at) }()
				if a, b := <-both, <-both; a != 300*time.Millisecond || b != 1800*time.Millisecond {
					t.Errorf("ended after %v and %v", a, b)
				}
			}
		})
	})
}

func busy(ctx context.Context, d *sim.Driver, id string, r *rand.Rand) error {
	switch r.IntN(9) {
	case 0, 1:
		return d.Start(ctx, id, hypervisor.StartOptions{Epoch: r.Int64N(100)})
	case 2:
		return d.Stop(ctx, id, hypervisor.StopOptions{})
	case 3:
		return d.Pause(ctx, id)
	case 4:
		return d.Resume(ctx, id)
	case 5:
		return d.Reboot(ctx, id, hypervisor.RebootOptions{Epoch: 1000})
	case 6:
		time.Sleep(10 * time.Millisecond)
		_, err := d.List(ctx, hypervisor.Filter{})
		return err
	case 7:
		return d.Save(ctx, id)
	}
	time.Sleep(10 * time.Millisecond) // reads alone take no time
	_, err := d.Resources(ctx)
	return err
}
