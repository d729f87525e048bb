package hypervisor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

const (
	vmA    = "00000000-0000-4000-8000-00000000000a"
	vmB    = "00000000-0000-4000-8000-00000000000b"
	vmC    = "00000000-0000-4000-8000-00000000000c"
	otherH = "33333333-0000-4000-8000-00000000000f"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// guest defines a VM and starts it if epoch is above 0.
func guest(t *testing.T, d hypervisor.Driver, id string, epoch int64) {
	t.Helper()
	_, err := d.Define(t.Context(), hypervisor.Spec{ID: id, Name: "vm-" + id[35:], VCPU: 1, MemoryMiB: 64})
	must(t, err)
	if epoch > 0 {
		must(t, d.Start(t.Context(), id, hypervisor.StartOptions{Epoch: epoch}))
	}
}

// answering is a driver whose requests all meet one error.
type answering struct {
	hypervisor.Driver
	err   error
	local bool
}

func (a answering) Info(context.Context) (hypervisor.HostInfo, error) {
	return hypervisor.HostInfo{}, a.err
}
func (a answering) List(context.Context, hypervisor.Filter) ([]hypervisor.VM, error) {
	return nil, a.err
}
func (a answering) Dial(context.Context) (hypervisor.Driver, error) { return a, nil }
func (a answering) Origin() hypervisor.Origin                       { return hypervisor.Origin{Local: a.local} }

// dialled is what a real dial gives.
func dialled(network, addr string, limit time.Duration) error {
	c, err := (&net.Dialer{Timeout: limit}).Dial(network, addr)
	if err == nil {
		_ = c.Close()
	}
	return err
}

func TestProbe(t *testing.T) {
	gone := func(err error) error { return &hypervisor.Error{Class: hypervisor.ErrGone, Op: "info", Err: err} }
	timeout := &hypervisor.Error{Class: hypervisor.ErrTimeout, Op: "info", Err: context.DeadlineExceeded}
	for _, c := range []struct {
		name  string
		err   error
		local bool
		want  hypervisor.Answer
		host  hypervisor.Verdict
	}{
		{"another id", gone(hypervisor.ErrWrongHost), true, hypervisor.WrongHost, hypervisor.Undecided},
		{"no socket here", gone(dialled("unix", filepath.Join(t.TempDir(), "none"), time.Second)), true, hypervisor.DaemonDown, hypervisor.Alive},
		{"refused over the network", gone(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), false, hypervisor.DaemonDown, hypervisor.Undecided},
		{"reset", gone(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), false, hypervisor.DaemonDown, hypervisor.Undecided},
		{"taken and not answered, here", timeout, true, hypervisor.DaemonStuck, hypervisor.Alive},
		{"taken and not answered", timeout, false, hypervisor.DaemonStuck, hypervisor.Undecided},
		{"no route", gone(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}), false, hypervisor.HostSilent, hypervisor.Undecided},
		{"dial timed out", &hypervisor.Error{Class: hypervisor.ErrTimeout, Err: &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}}, false, hypervisor.HostSilent, hypervisor.Undecided},
		{"denied", &hypervisor.Error{Class: hypervisor.ErrDenied}, false, hypervisor.DaemonDown, hypervisor.Undecided},
	} {
		t.Run("hyp-26 "+c.name, func(t *testing.T) {
			r := hypervisor.Probe(t.Context(), answering{err: c.err, local: c.local}, []string{vmA})
			if r.Answer != c.want || r.Host != c.host || r.VMs[vmA].Verdict != hypervisor.Undecided || !errors.Is(r.Err, c.err) {
				t.Errorf("%+v", r)
			}
		})
	}
	bubble(t, "hyp-26 answering: each VM by its power", func(t *testing.T) {
		d := simHost(t, sim.Config{})
		guest(t, d, vmA, 1)
		guest(t, d, vmB, 1)
		must(t, d.Host().CrashVM(t.Context(), vmB))
		off := "00000000-0000-4000-8000-00000000000d"
		guest(t, d, off, 0)
		paused := "00000000-0000-4000-8000-00000000000e"
		guest(t, d, paused, 1)
		must(t, d.Pause(t.Context(), paused))
		r := hypervisor.Probe(t.Context(), d, []string{vmA, vmB, vmC, off, paused})
		for id, want := range map[string]hypervisor.Verdict{vmA: hypervisor.Alive, vmB: hypervisor.GuestGone, vmC: hypervisor.GuestGone,
			off: hypervisor.GuestGone, paused: hypervisor.Alive} {
			if r.VMs[id].Verdict != want {
				t.Errorf("%s: %+v", id, r.VMs[id])
			}
		}
		if r.Answer != hypervisor.Answering || r.Host != hypervisor.Alive || r.Err != nil {
			t.Errorf("%+v", r)
		}
	})
	bubble(t, "hyp-26 a thousand failed calls kill nobody", func(t *testing.T) {
		h := simHost(t, sim.Config{Local: true}).Host()
		d := h.Open(sim.Config{}.Env)
		guest(t, d, vmA, 1)
		for i := range 1000 {
			want, host := hypervisor.HostSilent, hypervisor.Undecided
			switch i % 4 {
			case 0:
				h.KillDaemon()
				want, host = hypervisor.DaemonDown, hypervisor.Alive
			case 1:
				h.HangDaemon()
				want, host = hypervisor.DaemonStuck, hypervisor.Alive
			case 2:
				h.StartDaemon()
				h.Partition("")
				h.WrongUUID(otherH)
				want = hypervisor.WrongHost
			case 3:
				h.WrongUUID("")
				must(t, h.PowerLoss(t.Context()))
			}
			at := time.Now()
			r := hypervisor.Probe(t.Context(), d, []string{vmA})
			if r.Answer != want || r.Host != host || r.VMs[vmA].Verdict != hypervisor.Undecided || time.Since(at) > hypervisor.ProbeLimit {
				t.Fatalf("%d after %v: %+v", i, time.Since(at), r)
			}
			h.PowerOn()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.StartDaemon()
		if r := hypervisor.Probe(ctx, d, []string{vmA}); r.Answer != hypervisor.HostSilent || r.Host != hypervisor.Undecided {
			t.Errorf("%+v", r)
		}
	})
}

func TestProveEmpty(t *testing.T) {
	guarded := []hypervisor.Guarded{{ID: vmA, Epoch: 9}, {ID: vmB, Epoch: 9}}
	refused := func(t *testing.T, d hypervisor.Driver, want error) {
		t.Helper()
		if e, err := hypervisor.ProveEmpty(t.Context(), d, guarded); !errors.Is(err, want) || e.Host != "" || e.Epochs != nil {
			t.Errorf("%+v, %v", e, err)
		}
	}
	bubble(t, "hyp-27 an empty host", func(t *testing.T) {
		d := simHost(t, sim.Config{})
		guest(t, d, vmA, 5)
		must(t, d.Stop(t.Context(), vmA, hypervisor.StopOptions{}))
		guest(t, d, vmC, 5) // of no concern
		e, err := hypervisor.ProveEmpty(t.Context(), d, guarded)
		if err != nil || e.Host != d.Origin().HostID || fmt.Sprint(e.Epochs) != fmt.Sprint(map[string]int64{vmA: 9, vmB: 9}) {
			t.Fatalf("%+v, %v", e, err)
		}
		if !e.Holds(e.At.Add(10*time.Second)) || e.Holds(e.At.Add(10*time.Second+1)) {
			t.Error("how long it holds")
		}
		for _, epoch := range []int64{5, 9} {
			if err := d.Start(t.Context(), vmA, hypervisor.StartOptions{Epoch: epoch}); !errors.Is(err, hypervisor.ErrStaleEpoch) {
				t.Errorf("start with %d: %v", epoch, err)
			}
		}
		must(t, d.Start(t.Context(), vmA, hypervisor.StartOptions{Epoch: 10}))
		refused(t, d, hypervisor.ErrState) // it runs
	})
	bubble(t, "hyp-27 doubts", func(t *testing.T) {
		d := simHost(t, sim.Config{})
		guest(t, d, vmA, 5)
		must(t, d.Pause(t.Context(), vmA))
		refused(t, d, hypervisor.ErrState)
		must(t, d.Stop(t.Context(), vmA, hypervisor.StopOptions{}))

		d.Host().WrongUUID(otherH)
		refused(t, d, hypervisor.ErrGone)
		refused(t, d, hypervisor.ErrWrongHost)
		d.Host().WrongUUID("")
		d.Host().KillDaemon()
		refused(t, d, hypervisor.ErrGone)
		d.Host().HangDaemon()
		refused(t, d, hypervisor.ErrTimeout)
		d.Host().StartDaemon()
		d.Host().Slow("list", 11*time.Second)
		refused(t, d, hypervisor.ErrTimeout)
	})
	bubble(t, "hyp-27 a guest that comes in", func(t *testing.T) {
		a, b := simHost(t, sim.Config{}), simHost(t, sim.Config{ID: otherH})
		guest(t, a, vmA, 5)
		_, err := a.Migrate(t.Context(), vmA, hypervisor.MigrateSpec{ToHost: otherH, Target: b, Epoch: 6})
		must(t, err)
		refused(t, b, hypervisor.ErrState)
	})
	for _, c := range []struct {
		name string
		busy func(t *testing.T, d hypervisor.Driver)
	}{
		{"started between both listings", func(t *testing.T, d hypervisor.Driver) {
			guest(t, d, vmB, 3)
		}},
		{"defined between both listings", func(t *testing.T, d hypervisor.Driver) { guest(t, d, vmB, 0) }},
	} {
		bubble(t, "hyp-27 "+c.name, func(t *testing.T) {
			d := simHost(t, sim.Config{})
			guest(t, d, vmA, 5)
			must(t, d.Stop(t.Context(), vmA, hypervisor.StopOptions{}))
			n := 0
			refused(t, between{d, func() {
				if n++; n == 1 {
					c.busy(t, d)
				}
			}}, hypervisor.ErrState)
		})
	}
	t.Run("drivers that cannot", func(t *testing.T) {
		refused(t, struct{ hypervisor.Driver }{}, hypervisor.ErrUnsupported)
	})
}

// between is a driver on which something happens before each fence.
type between struct {
	*sim.Driver
	f func()
}

func (b between) Dial(context.Context) (hypervisor.Driver, error) { return b, nil }
func (b between) Close() error                                    { return nil }
func (b between) Fence(ctx context.Context, id string, epoch int64) error {
	b.f()
	return b.Driver.Fence(ctx, id, epoch)
}

func TestLocate(t *testing.T) {
	at := func(t *testing.T, want string, class error, hosts ...hypervisor.Driver) {
		t.Helper()
		w, err := hypervisor.Locate(t.Context(), vmA, hosts...)
		got := fmt.Sprintf("%s %d", w.Power, w.At)
		if w.Moving {
			got += fmt.Sprintf(" to %d", w.To)
		}
		if got != want || !errors.Is(err, class) {
			t.Errorf("%s, %v; want %s, %v", got, err, want, class)
		}
	}
	bubble(t, "hyp-30 one, none, unreadable, two", func(t *testing.T) {
		a, b := simHost(t, sim.Config{}), simHost(t, sim.Config{ID: otherH})
		at(t, "off -1", nil, a, b)
		guest(t, b, vmA, 1)
		at(t, "on 1", nil, a, b)
		guest(t, a, vmA, 0)
		at(t, "on 1", nil, a, b)
		must(t, b.Pause(t.Context(), vmA))
		at(t, "paused 1", nil, a, b)
		must(t, b.Resume(t.Context(), vmA))
		must(t, a.Start(t.Context(), vmA, hypervisor.StartOptions{Epoch: 1}))
		at(t, " -1", hypervisor.ErrTwoCopies, a, b)
		must(t, b.Stop(t.Context(), vmA, hypervisor.StopOptions{}))
		at(t, "on 0", nil, a, b)
		b.Host().KillDaemon()
		at(t, " -1", hypervisor.ErrGone, a, b)
		at(t, "on 0", nil, a)
	})
	bubble(t, "hyp-30 moving", func(t *testing.T) {
		a, b := simHost(t, sim.Config{}), simHost(t, sim.Config{ID: otherH})
		guest(t, a, vmA, 1)
		m, err := a.Migrate(t.Context(), vmA, hypervisor.MigrateSpec{ToHost: otherH, Target: b, Epoch: 2})
		must(t, err)
		at(t, "on 0 to 1", nil, a, b)
		at(t, "on 1 to 0", nil, b, a)
		must(t, m.Wait(t.Context()))
		at(t, "on 1", nil, a, b)
	})
}
