package libvirt_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/internal/testkit"
)

const (
	uuidA = "aaaaaaaa-0000-4000-8000-000000000001"
	uuidB = "bbbbbbbb-0000-4000-8000-000000000002"
)

// pair is two hosts.
type pair struct {
	a, b   *testkit.Libvirtd
	va, vb *libvirt.Driver
}

func hosts(t testing.TB) pair {
	t.Helper()
	p := pair{
		a: testkit.StartLibvirtd(t, testkit.LibvirtdOptions{Hostname: "hosta", HostUUID: uuidA}),
		b: testkit.StartLibvirtd(t, testkit.LibvirtdOptions{Hostname: "hostb", HostUUID: uuidB}),
	}
	p.va, p.vb = open(t, p.a, qemu), open(t, p.b, qemu)
	return p
}

func (p pair) spec() hypervisor.MigrateSpec {
	return hypervisor.MigrateSpec{ToHost: uuidB, Target: p.vb, Epoch: 2}
}

// runsAt says what the two hosts say of a guest.
func (p pair) runsAt(t testing.TB, id string) (source, target hypervisor.Power) {
	t.Helper()
	at := func(d hypervisor.Driver) hypervisor.Power {
		for late := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			vm, err := d.Get(t.Context(), id)
			switch {
			case errors.Is(err, hypervisor.ErrNotFound):
				return "absent"
			case err == nil:
				return vm.Power
			case !errors.Is(err, hypervisor.ErrGone) || time.Now().After(late): // a daemon that was killed is dialled again in a while
				t.Fatal(err)
			}
		}
	}
	return at(p.va), at(p.vb)
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	p := hosts(t)
	t.Run("virt-18 the same host, a target that is not there", func(t *testing.T) {
		id := guest(t, p.va, 1)
		same := p.spec()
		same.ToHost = uuidA
		_, err := p.va.Migrate(t.Context(), id, same)
		is(t, err, hypervisor.ErrInvalid)
		nowhere := p.spec()
		nowhere.Target, nowhere.To = nil, "qemu+unix:///session?socket="+p.b.Dir+"/none"
		m, err := p.va.Migrate(t.Context(), id, nowhere)
		ok(t, err)
		err = m.Wait(within(t, 20*time.Second))
		var e *hypervisor.Error
		if !errors.As(err, &e) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, hypervisor.ErrOutcomeUnknown) {
			t.Error(err)
		}
		if at, _ := p.runsAt(t, id); at != hypervisor.On {
			t.Error(at)
		}
		old := p.spec()
		old.Epoch = 1
		_, err = p.va.Migrate(t.Context(), id, old)
		is(t, err, hypervisor.ErrStaleEpoch)
		_, err = p.va.Migrate(t.Context(), liveID(9), p.spec())
		is(t, err, hypervisor.ErrNotFound)
	})
	t.Run("virt-16 aborted; stopped meanwhile", func(t *testing.T) {
		id := liveID(1)
		slow := p.spec()
		slow.Bandwidth = 1
		m, err := p.va.Migrate(t.Context(), id, slow)
		ok(t, err)
		ok(t, m.Abort(t.Context()))
		is(t, m.Wait(t.Context()), hypervisor.ErrAborted)
		if at, to := p.runsAt(t, id); at != hypervisor.On || to == hypervisor.On {
			t.Error(at, to)
		}
		ok(t, m.Abort(t.Context()))
		m, err = p.va.Migrate(t.Context(), id, slow)
		ok(t, err)
		ok(t, p.va.Stop(t.Context(), id, hypervisor.StopOptions{}))
		if err := m.Wait(t.Context()); err == nil {
			t.Error("a guest that was stopped has moved")
		}
		if at, to := p.runsAt(t, id); at != hypervisor.Off || to == hypervisor.On {
			t.Error(at, to)
		}
	})
	t.Run("virt-15 moves with its epoch", func(t *testing.T) {
		id := liveID(1)
		ok(t, p.va.Start(t.Context(), id, hypervisor.StartOptions{Epoch: 2}))
		out, in := hear(t, p.va, nil), hear(t, p.vb, nil)
		until(t, out, "synced", hypervisor.EventSynced)
		until(t, in, "synced", hypervisor.EventSynced)
		s := p.spec()
		s.Epoch = 7
		m, err := p.va.Migrate(t.Context(), id, s)
		ok(t, err)
		ok(t, m.Wait(t.Context()))
		if progress, err := m.Progress(t.Context()); err != nil || progress.Total < 1 || progress.Remaining != 0 {
			t.Error(progress, err)
		}
		if at, to := p.runsAt(t, id); at != "absent" || to != hypervisor.On {
			t.Error(at, to)
		}
		if vm, err := p.vb.Get(t.Context(), id); err != nil || vm.Epoch != 7 || !vm.Persistent {
			t.Errorf("%+v %v", vm, err)
		}
		untilVM(t, out, "move out", hypervisor.EventMovedOut, id)
		untilVM(t, in, "move in", hypervisor.EventMovedIn, id)
		again, err := p.va.Migrate(t.Context(), id, s)
		ok(t, err)
		ok(t, again.Wait(t.Context()))
		t.Log(out.heard(), in.heard())
		out.stop()
		in.stop()
		ok(t, p.vb.Stop(t.Context(), id, hypervisor.StopOptions{}))
		ok(t, p.vb.Undefine(t.Context(), id))
	})
}

func TestMigrateDaemonKilled(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"source", "target"} {
		t.Run("virt-17 the "+victim+" daemon is killed", func(t *testing.T) {
			p := hosts(t)
			id := guest(t, p.va, 1)
			s := p.spec()
			s.Bandwidth = 1
			m, err := p.va.Migrate(t.Context(), id, s)
			ok(t, err)
			underWay(t, m)
			d := map[string]*testkit.Libvirtd{"source": p.a, "target": p.b}[victim]
			ok(t, d.Kill())
			ok(t, d.Restart())
			err = m.Wait(within(t, time.Minute))
			var e *hypervisor.Error
			if !errors.As(err, &e) || errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
				at, to := p.runsAt(t, id)
				if at == hypervisor.On && to != hypervisor.On {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s at the source, %s at the target", at, to)
				}
			}
		})
	}
}

func TestMigrateStalled(t *testing.T) {
	t.Parallel()
	t.Run("virt-19 a migration that does not get on", func(t *testing.T) {
		p := hosts(t)
		id := guest(t, p.va, 1)
		slow := p.spec()
		slow.Bandwidth = 1
		m, err := p.va.Migrate(t.Context(), id, slow)
		ok(t, err)
		underWay(t, m)
		ok(t, p.b.SignalGuest("g1", syscall.SIGSTOP))
		ok(t, p.va.Pause(within(t, 10*time.Second), id))
		if os.Getenv("DROVER_LONG") != "" {
			took := timed(func() { is(t, p.va.Resume(t.Context(), id), hypervisor.ErrBusy) })
			if took < 29*time.Second || took > 31*time.Second {
				t.Errorf("busy after %v", took)
			}
		}
		is(t, p.va.Resume(within(t, time.Second), id), context.DeadlineExceeded)
		for what, f := range map[string]func() error{
			"get": func() error { _, err := p.va.Get(t.Context(), id); return err },
			"stats": func() error {
				_, err := p.va.Stats(t.Context(), hypervisor.StatsQuery{Memory: true, VCPUs: true})
				return err
			},
			"snapshots": func() error { _, err := p.va.Snapshots(t.Context(), id); return err },
		} {
			if took := best(func() time.Duration { return timed(func() { ok(t, f()) }) }); took > 50*time.Millisecond {
				t.Errorf("%s took %v", what, took)
			}
		}
		ok(t, m.Abort(t.Context()))
		ok(t, p.b.SignalGuest("g1", syscall.SIGCONT))
		is(t, m.Wait(within(t, time.Minute)), hypervisor.ErrAborted)
		if _, to := p.runsAt(t, id); to == hypervisor.On {
			t.Error("it runs at the target")
		}
	})
}

// underWay waits until memory is being copied.
func underWay(t testing.TB, m hypervisor.Migration) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		p, err := m.Progress(t.Context())
		ok(t, err)
		if p.Remaining < p.Total {
			return
		}
	}
	t.Fatal("nothing is copied")
}
