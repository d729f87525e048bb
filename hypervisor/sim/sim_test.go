package sim_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/testkit/drivertest"
)

const (
	hostID = "33333333-0000-4000-8000-00000000000a"
	vmID   = "00000000-0000-4000-8000-00000000000a"
)

func fast() sim.Times {
	return sim.Times{Define: -1, Start: -1, Stop: -1, Reboot: -1, Migrate: -1, Save: -1, Restore: -1, Snapshot: -1, Revert: -1}
}

func open(t testing.TB, cfg sim.Config) *sim.Driver {
	t.Helper()
	cfg.ID = hostID
	d, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	drivertest.Hypervisor(t, func(t testing.TB) hypervisor.Driver { return open(t, sim.Config{Times: fast()}) })
}

func TestConformanceKept(t *testing.T) {
	drivertest.Hypervisor(t, func(t testing.TB) hypervisor.Driver {
		return open(t, sim.Config{Times: fast(), State: &file{path: filepath.Join(t.(*testing.T).TempDir(), "state")}})
	})
}

// file keeps a host in a file, for one process.
type file struct {
	mu   sync.Mutex
	path string
}

func (f *file) Update(_ context.Context, _ string, g func([]byte) ([]byte, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := os.ReadFile(f.path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	data, err := g(old)
	if err != nil || data == nil {
		return err
	}
	return os.WriteFile(f.path, data, 0o600)
}

// bubble runs f on a VM that is on, with the default times in virtual time.
func bubble(t *testing.T, name string, f func(t *testing.T, d *sim.Driver)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := open(t, sim.Config{})
			vm(t, d, vmID, 1024)
			ok(t, d.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 1}))
			f(t, d)
		})
	})
}

func vm(t *testing.T, d *sim.Driver, id string, mib int64) {
	t.Helper()
	_, err := d.Define(t.Context(), hypervisor.Spec{ID: id, Name: "vm-" + id[30:], VCPU: 1, MemoryMiB: mib})
	ok(t, err)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func power(t *testing.T, d *sim.Driver, want hypervisor.Power) hypervisor.VM {
	t.Helper()
	got, err := d.Get(t.Context(), vmID)
	ok(t, err)
	if got.Power != want {
		t.Fatalf("power %q, want %q", got.Power, want)
	}
	return got
}

func took(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got < want || got > want+2*time.Second {
		t.Fatalf("took %v, want %v", got, want)
	}
}

func TestStop(t *testing.T) {
	bubble(t, "hyp-08 deaf guest", func(t *testing.T, d *sim.Driver) {
		d.Host().Behave(vmID, sim.Guest{Deaf: true})
		at := time.Now()
		is(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{Grace: 5 * time.Second, NoForce: true}), hypervisor.ErrTimeout)
		took(t, at, 5*time.Second)
		power(t, d, hypervisor.On)
		at = time.Now()
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{Grace: 5 * time.Second}))
		took(t, at, 5*time.Second)
		power(t, d, hypervisor.Off)
	})
	bubble(t, "hyp-09 third request", func(t *testing.T, d *sim.Driver) {
		d.Host().Behave(vmID, sim.Guest{Ignores: 2})
		at := time.Now()
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{Grace: hypervisor.Default}))
		took(t, at, 21500*time.Millisecond)
		if v := power(t, d, hypervisor.Off); v.Reason != "shutdown" {
			t.Fatalf("reason %q", v.Reason)
		}
	})
	bubble(t, "hyp-10 guest comes back", func(t *testing.T, d *sim.Driver) {
		first := power(t, d, hypervisor.On).Incarnation
		d.Host().Behave(vmID, sim.Guest{Restarts: 1})
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{Incarnation: first}))
		if now := power(t, d, hypervisor.On).Incarnation; now == first {
			t.Fatal("same incarnation")
		}
		d.Host().Behave(vmID, sim.Guest{Restarts: 1})
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{}))
		power(t, d, hypervisor.Off)
		ok(t, d.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 1}))
		d.Host().Behave(vmID, sim.Guest{Restarts: 4})
		is(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{}), hypervisor.ErrBusy)
	})
	bubble(t, "hyp-11 soft reboot", func(t *testing.T, d *sim.Driver) {
		at := time.Now()
		ok(t, d.Reboot(t.Context(), vmID, hypervisor.RebootOptions{Soft: true, Epoch: 1}))
		took(t, at, 5*time.Second)
		d.Host().Behave(vmID, sim.Guest{Deaf: true})
		at = time.Now()
		ok(t, d.Reboot(t.Context(), vmID, hypervisor.RebootOptions{Soft: true, Epoch: 1}))
		took(t, at, 120*time.Second)
		power(t, d, hypervisor.On)
	})
}

func TestTwoStarters(t *testing.T) {
	t.Run("two starters", func(t *testing.T) {
		for _, late := range []time.Duration{0, time.Millisecond, 299 * time.Millisecond, 301 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				a := open(t, sim.Config{})
				b := a.Host().Open(sim.Config{}.Env)
				vm(t, a, vmID, 512)
				var errA error
				done := make(chan struct{})
				go func() {
					defer close(done)
					errA = a.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 7})
				}()
				synctest.Wait()
				time.Sleep(late)
				ok(t, b.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 8}))
				<-done
				if errA != nil && !errors.Is(errA, hypervisor.ErrStaleEpoch) {
					t.Fatalf("late %v: %v", late, errA)
				}
				if v := power(t, b, hypervisor.On); v.Epoch != 8 {
					t.Fatalf("late %v: epoch %d", late, v.Epoch)
				}
				is(t, a.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 7}), hypervisor.ErrStaleEpoch)
			})
		}
	})
	t.Run("start broken off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := open(t, sim.Config{})
			vm(t, d, vmID, 512)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err := d.Start(ctx, vmID, hypervisor.StartOptions{Epoch: 3})
			is(t, err, context.DeadlineExceeded)
			is(t, err, hypervisor.ErrTimeout)
			is(t, err, hypervisor.ErrOutcomeUnknown)
			power(t, d, hypervisor.Paused)
			ok(t, d.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 4}))
			power(t, d, hypervisor.On)
		})
	})
}

func TestFaults(t *testing.T) {
	bubble(t, "sim-02 faults", func(t *testing.T, d *sim.Driver) {
		h := d.Host()
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{}))
		named := func(v hypervisor.VM) bool { return strings.HasPrefix(v.Name, "vm-") }
		start := hypervisor.StartOptions{Epoch: 2}

		remove := h.Inject(sim.Fault{Op: "start", Match: named, Class: hypervisor.ErrNoResources})
		is(t, d.Start(t.Context(), vmID, start), hypervisor.ErrNoResources)
		power(t, d, hypervisor.Off)
		remove()

		h.Inject(sim.Fault{Op: "start", Times: 1, Lose: true})
		err := d.Start(t.Context(), vmID, start)
		is(t, err, hypervisor.ErrOutcomeUnknown)
		is(t, err, hypervisor.ErrGone)
		power(t, d, hypervisor.On)

		h.Inject(sim.Fault{Op: "ping", Times: 1, Hang: true})
		at := time.Now()
		is(t, d.Ping(t.Context()), hypervisor.ErrTimeout)
		took(t, at, 5*time.Second)
		h.Inject(sim.Fault{Op: "ping", Times: 1, Delay: 2 * time.Second})
		at = time.Now()
		ok(t, d.Ping(t.Context()))
		took(t, at, 2*time.Second)
	})
	bubble(t, "sim-03 killed daemon", func(t *testing.T, d *sim.Driver) {
		before := power(t, d, hypervisor.On)
		d.Host().KillDaemon()
		is(t, d.Ping(t.Context()), hypervisor.ErrGone)
		d.Host().HangDaemon()
		is(t, d.Ping(t.Context()), hypervisor.ErrTimeout)
		d.Host().StartDaemon()
		if after := power(t, d, hypervisor.On); after != before {
			t.Fatalf("%+v", after)
		}
	})
	bubble(t, "sim-04 power loss", func(t *testing.T, d *sim.Driver) {
		ok(t, d.Host().PowerLoss(t.Context()))
		is(t, d.Ping(t.Context()), hypervisor.ErrTimeout)
		d.Host().PowerOn()
		d.Host().StartDaemon()
		power(t, d, hypervisor.Off)
	})
	bubble(t, "crashed guest", func(t *testing.T, d *sim.Driver) {
		ok(t, d.Host().CrashVM(t.Context(), vmID))
		if v := power(t, d, hypervisor.Crashed); v.HasProcess() {
			t.Fatalf("%+v", v)
		}
		ok(t, d.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 1}))
	})
	bubble(t, "hyp-24 close", func(t *testing.T, d *sim.Driver) {
		d.Host().HangDaemon()
		errs := make(chan error, 20)
		for range 20 {
			go func() { errs <- d.Ping(t.Context()) }()
		}
		synctest.Wait()
		ok(t, d.Close())
		ok(t, d.Close())
		for range 20 {
			is(t, <-errs, hypervisor.ErrClosed)
		}
	})
	t.Run("sim-06 capacity", func(t *testing.T) {
		d := open(t, sim.Config{MemoryMiB: 16 << 10, Times: fast()})
		id := func(i int) string { return vmID[:35] + string("0123456789abcdefg"[i%16]) }
		for i := range 16 {
			vm(t, d, id(i), 1024)
			ok(t, d.Start(t.Context(), id(i), hypervisor.StartOptions{}))
		}
		last := "10000000-0000-4000-8000-0000000000ff"
		vm(t, d, last, 1024)
		is(t, d.Start(t.Context(), last, hypervisor.StartOptions{}), hypervisor.ErrNoResources)
		ok(t, d.Stop(t.Context(), id(3), hypervisor.StopOptions{}))
		ok(t, d.Stop(t.Context(), "20000000-0000-4000-8000-000000000001", hypervisor.StopOptions{}))
		ok(t, d.Start(t.Context(), last, hypervisor.StartOptions{}))
		r, err := d.Resources(t.Context())
		ok(t, err)
		if r.MemoryMiBUsed != 16<<10 || r.VCPUsUsed != 16 || len(r.PerVM) != 16 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestConfig(t *testing.T) {
	for field, cfg := range map[string]sim.Config{
		"ID":        {ID: "x"},
		"VCPUs":     {ID: hostID, VCPUs: -1},
		"MemoryMiB": {ID: hostID, MemoryMiB: -1},
		"DiskMiB":   {ID: hostID, DiskMiB: -1},
	} {
		_, err := sim.New(cfg)
		var f *hypervisor.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
