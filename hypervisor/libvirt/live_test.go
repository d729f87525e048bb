package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
	"github.com/drover-cloud/drover/internal/testkit"
)

const (
	qemu       = "qemu:///session"
	testDriver = "test:///default"
)

// liveID is the id of the nth guest of a test.
func liveID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

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

// guest defines the nth guest, without a disk, and starts it.
func guest(t testing.TB, v *libvirt.Driver, n int) string {
	t.Helper()
	_, err := v.Define(t.Context(), hypervisor.Spec{ID: liveID(n), Name: fmt.Sprint("g", n), VCPU: 1, MemoryMiB: 32})
	ok(t, err)
	ok(t, v.Start(t.Context(), liveID(n), hypervisor.StartOptions{Epoch: 1}))
	return liveID(n)
}

// best gives the shortest of three measurements: the machine may have more to do.
func best(f func() time.Duration) time.Duration { return min(f(), f(), f()) }

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func daemon(t testing.TB) *testkit.Libvirtd {
	t.Helper()
	return testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestStoppedDaemon(t *testing.T) {
	t.Parallel()
	d := daemon(t)
	v := open(t, d, testDriver)
	ok(t, v.Ping(t.Context()))
	id := liveID(1)
	t.Run("virt-01 calls end by their deadline", func(t *testing.T) {
		ok(t, d.Freeze())
		for what, f := range map[string]func(ctx context.Context) error{
			"ping": v.Ping,
			"get":  func(ctx context.Context) error { _, err := v.Get(ctx, id); return err },
			"stop": func(ctx context.Context) error { return v.Stop(ctx, id, hypervisor.StopOptions{}) },
		} {
			if took := best(func() time.Duration {
				return timed(func() { is(t, f(within(t, 300*time.Millisecond)), hypervisor.ErrTimeout) })
			}); took > 310*time.Millisecond {
				t.Errorf("%s took %v", what, took)
			}
		}
		ok(t, d.Thaw())
		ok(t, v.Ping(t.Context()))
		if s := v.Status(); s.Late == 0 || s.State != libvirt.Up {
			t.Errorf("%+v", s)
		}
	})
	t.Run("virt-02 connecting ends by its deadline", func(t *testing.T) {
		ok(t, d.Freeze())
		if took := best(func() time.Duration {
			w := open(t, d, testDriver)
			return timed(func() { _, err := w.Info(within(t, time.Second)); is(t, err, hypervisor.ErrTimeout) })
		}); took > 1050*time.Millisecond {
			t.Errorf("took %v", took)
		}
		ok(t, d.Thaw())
	})
	t.Run("virt-03 silent, and back", func(t *testing.T) {
		e := hear(t, v, nil)
		until(t, e, "synced", hypervisor.EventSynced)
		ok(t, d.Freeze())
		until(t, e, "silent", hypervisor.EventSilent)
		ok(t, d.Thaw())
		until(t, e, "back", hypervisor.EventBack)
		if slices.Contains(e.heard(), "lost") {
			t.Error(e.heard())
		}
	})
	t.Run("virt-06 a killed daemon", func(t *testing.T) {
		ok(t, d.Freeze())
		answers := make(chan error, 50)
		for range 50 {
			go func() { answers <- v.Ping(t.Context()) }()
		}
		for len(v.Status().Calls) < 50 {
			time.Sleep(time.Millisecond)
		}
		ok(t, d.Kill())
		for range 50 {
			is(t, <-answers, hypervisor.ErrGone)
		}
		ok(t, d.Restart())
		start := time.Now()
		for v.Ping(t.Context()) != nil { // until the backoff of the failed dial has passed
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the first call that succeeds took %v", took)
		}
	})
}

// until waits for an event of that kind.
func until(t testing.TB, e *ear, what string, kind hypervisor.EventKind) hypervisor.Event {
	t.Helper()
	return untilVM(t, e, what, kind, "")
}

func untilVM(t testing.TB, e *ear, what string, kind hypervisor.EventKind, id string) hypervisor.Event {
	t.Helper()
	for late := time.After(30 * time.Second); ; {
		e.mu.Lock()
		at := slices.IndexFunc(e.events, func(v hypervisor.Event) bool { return v.Kind == kind && (id == "" || v.VM.ID == id) })
		var found hypervisor.Event
		if at >= 0 {
			found = e.events[at]
		}
		e.mu.Unlock()
		if at >= 0 {
			return found
		}
		select {
		case <-e.news:
		case <-late:
			t.Fatalf("no %s: %v", what, e.heard())
		}
	}
}

func TestGuests(t *testing.T) {
	t.Parallel()
	d := daemon(t)
	v := open(t, d, qemu)
	t.Run("virt-14 events of a guest's life", func(t *testing.T) {
		e := hear(t, v, nil)
		until(t, e, "synced", hypervisor.EventSynced)
		id := guest(t, v, 1)
		ok(t, v.Reboot(t.Context(), id, hypervisor.RebootOptions{Epoch: 1}))
		until(t, e, "rebooted", hypervisor.EventRebooted)
		ok(t, v.Stop(t.Context(), id, hypervisor.StopOptions{}))
		until(t, e, "stopped", hypervisor.EventStopped)
		ok(t, v.Undefine(t.Context(), id))
		until(t, e, "undefined", hypervisor.EventUndefined)
		if got, want := e.heard(), []string{"synced", "defined g1", "started g1", "rebooted g1", "stopped g1", "undefined g1"}; !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
		e.stop()
	})
	t.Run("virt-12 a guest's process is killed", func(t *testing.T) {
		e := hear(t, v, nil)
		id := guest(t, v, 2)
		until(t, e, "started", hypervisor.EventStarted)
		ok(t, d.SignalGuest("g2", syscall.SIGKILL))
		until(t, e, "crashed", hypervisor.EventCrashed)
		vm, err := v.Get(t.Context(), id)
		ok(t, err)
		if vm.Power != hypervisor.Crashed || vm.HasProcess() {
			t.Errorf("%+v", vm)
		}
		e.stop()
		ok(t, v.Undefine(t.Context(), id))
	})
	t.Run("virt-06 a guest outlives its daemon; virt-11 what happened meanwhile is found", func(t *testing.T) {
		a, b := guest(t, v, 3), guest(t, v, 4)
		before, err := v.Get(t.Context(), a)
		ok(t, err)
		e := hear(t, v, nil)
		until(t, e, "synced", hypervisor.EventSynced)
		ok(t, d.Kill())
		until(t, e, "lost", hypervisor.EventLost)
		ok(t, d.SignalGuest("g4", syscall.SIGKILL))
		ok(t, d.Restart())
		until(t, e, "back", hypervisor.EventBack)
		gone := untilVM(t, e, "crash", hypervisor.EventCrashed, b)
		if list := e.heard(); gone.VM.HasProcess() || list[len(list)-1] != "synced" {
			t.Errorf("%+v, %q", gone, list)
		}
		after, err := v.Get(t.Context(), a)
		ok(t, err)
		if after.Power != hypervisor.On || after.Incarnation != before.Incarnation {
			t.Errorf("%+v, was %+v", after, before)
		}
		e.stop()
	})
}

func TestFrozenGuests(t *testing.T) {
	t.Parallel()
	d := daemon(t)
	v := open(t, d, qemu)
	for n := range 7 {
		guest(t, v, n)
	}
	t.Run("virt-26 statistics pass over a guest that hangs", func(t *testing.T) {
		ok(t, d.SignalGuest("g6", syscall.SIGSTOP))
		all := hypervisor.StatsQuery{Memory: true, VCPUs: true, Disks: true, NICs: true}
		var stats []hypervisor.Stats
		took := best(func() time.Duration {
			return timed(func() {
				var err error
				stats, err = v.Stats(t.Context(), all)
				ok(t, err)
			})
		})
		if len(stats) != 7 || took > time.Second {
			t.Fatalf("%d guests in %v", len(stats), took)
		}
		for _, s := range stats {
			if s.Stale != (s.Name == "g6") || s.VCPUs != 1 || s.MaxMemoryMiB != 32 || s.Power != hypervisor.On {
				t.Errorf("%+v", s)
			}
		}
		r, err := v.Resources(t.Context())
		ok(t, err)
		if r.VCPUsUsed != 7 || r.MemoryMiBUsed != 7*32 || len(r.PerVM) != 7 {
			t.Errorf("%+v", r)
		}
		ok(t, d.SignalGuest("g6", syscall.SIGCONT))
	})
	t.Run("virt-04 five frozen guests hold nobody up", func(t *testing.T) {
		for n := range 5 {
			ok(t, d.SignalGuest(fmt.Sprint("g", n), syscall.SIGSTOP))
		}
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		stops := make(chan error, 5)
		for n := range 5 {
			go func() { stops <- v.Stop(ctx, liveID(n), hypervisor.StopOptions{Grace: hypervisor.Default}) }()
		}
		for inFlight(v, "control") < 4 {
			time.Sleep(time.Millisecond)
		}
		t.Log("stops are under way after", time.Since(begin))
		waiting := make(chan error, 1)
		go func() { waiting <- v.Pause(within(t, 500*time.Millisecond), liveID(0)) }()
		for what, f := range map[string]func() error{
			"get":  func() error { _, err := v.Get(t.Context(), liveID(5)); return err },
			"list": func() error { _, err := v.List(t.Context(), hypervisor.Filter{}); return err },
		} {
			took := time.Hour
			for range 10 { // one that is not disturbed by the rest of the machine
				took = min(took, timed(func() { ok(t, f()) }))
			}
			if took > 20*time.Millisecond {
				t.Errorf("%s took %v", what, took)
			}
		}
		is(t, <-waiting, context.DeadlineExceeded)
		took := timed(func() { ok(t, v.Stop(t.Context(), liveID(5), hypervisor.StopOptions{})) })
		t.Log("the sixth took", took, "in all", time.Since(begin))
		if n := inFlight(v, "control"); took > 5*time.Second || n < 5 { // the fifth went over a spare connection as well
			t.Errorf("the sixth took %v, while %d of the others went on", took, n)
		}
		cancel()
		for range 5 {
			if err := <-stops; !errors.Is(err, context.Canceled) || !errors.Is(err, hypervisor.ErrOutcomeUnknown) {
				t.Error(err)
			}
		}
		for n := range 5 {
			ok(t, d.SignalGuest(fmt.Sprint("g", n), syscall.SIGCONT))
		}
	})
}

func inFlight(v *libvirt.Driver, name string) (n int) {
	for _, c := range v.Status().Connections {
		if c.Name == name {
			n += c.InFlight
		}
	}
	return n
}

func TestSubscribeUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 30
	if os.Getenv("DROVER_LONG") != "" {
		rounds = 300
	}
	t.Run("virt-05 subscribe, start and stop, cancel", func(t *testing.T) {
		d := daemon(t)
		v := open(t, d, testDriver)
		id := liveID(1)
		_, err := v.Define(t.Context(), hypervisor.Spec{ID: id, Name: "a", VCPU: 1, MemoryMiB: 32})
		ok(t, err)
		for n := range rounds {
			e := hear(t, v, nil)
			if n%2 == 0 {
				until(t, e, "synced", hypervisor.EventSynced)
			}
			ok(t, v.Start(t.Context(), id, hypervisor.StartOptions{}))
			pinged := make(chan error, 1)
			go func() { pinged <- v.Ping(t.Context()) }()
			e.stop()
			ok(t, v.Stop(t.Context(), id, hypervisor.StopOptions{}))
			ok(t, <-pinged)
			is(t, <-e.done, context.Canceled)
		}
		if s := v.Status(); s.Streams != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	t.Run("virt-25 definitions that are refused", func(t *testing.T) {
		d := daemon(t)
		v := openWith(t, libvirt.Config{URI: qemu, Socket: d.Socket, AllowRaw: true})
		raw := func(n int, name, doc string) error {
			_, err := v.Define(t.Context(), hypervisor.Spec{ID: liveID(n), Name: name, Raw: []byte(doc)})
			return err
		}
		is(t, raw(1, "a", "<domain type='qemu'><name>a</name>"), hypervisor.ErrInvalid)
		is(t, raw(1, "a", "<domain type='qemu'><name>a</name><uuid>"+liveID(1)+"</uuid></domain>"), hypervisor.ErrInvalid)
		guest(t, v, 2)
		_, err := v.Define(t.Context(), hypervisor.Spec{ID: liveID(3), Name: "g2", VCPU: 1, MemoryMiB: 32})
		is(t, err, hypervisor.ErrExists)
		var e *hypervisor.Error
		if !errors.As(err, &e) || e.Code != 9 {
			t.Errorf("%#v", err)
		}
	})
	t.Run("virt-27 resources of the test driver", func(t *testing.T) {
		d := daemon(t)
		v := openWith(t, libvirt.Config{URI: testDriver, Socket: d.Socket, Pools: []string{"default-pool"}})
		r, err := v.Resources(t.Context())
		ok(t, err)
		if r.VCPUs < 1 || r.MemoryMiB < 1 || r.DiskMiB < 1 || len(r.PerVM) != 1 {
			t.Errorf("%+v", r)
		}
	})
}
