package sim_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
)

func TestBMC(t *testing.T) {
	for _, c := range []struct {
		name  string
		lie   sim.Lie
		fails bool             // Off
		state hypervisor.Power // after Off
		on    bool             // the host, at once
		later bool             // and ten minutes later
	}{
		{"truth", sim.Truth, false, hypervisor.Off, false, false},
		{"off is said, host and state stay on", sim.LieOnOff, false, hypervisor.On, true, true},
		{"off fails, the host is off", sim.LieErrorOff, true, hypervisor.Off, false, false},
		{"state cannot tell", sim.LieUnknown, false, hypervisor.Unknown, false, false},
		{"state is old", sim.LieStale(time.Minute), false, hypervisor.On, false, false},
		{"off is said, and is so later", sim.LieLateOff(time.Minute), false, hypervisor.Off, true, false},
		{"off is said, and never is", sim.LieLateOff(-1), false, hypervisor.Off, true, true},
	} {
		bubble(t, "sim-02 bmc: "+c.name, func(t *testing.T, d *sim.Driver) {
			b := d.Host().BMC()
			is := func(want hypervisor.Power) {
				t.Helper()
				if got, err := b.State(t.Context()); err != nil || got != want {
					t.Errorf("state %q, %v; want %q", got, err, want)
				}
			}
			runs := func(want bool) { // guests run exactly while the host is really on
				t.Helper()
				err := d.Ping(t.Context())
				if (err == nil) != want {
					t.Errorf("host on: %v; want %v", err, want)
				}
				if err == nil {
					power(t, d, hypervisor.On)
				}
			}
			time.Sleep(time.Hour)
			b.Lie(c.lie)
			if c.lie != sim.LieUnknown {
				is(hypervisor.On)
			}
			if err := b.Off(t.Context()); (err != nil) != c.fails {
				t.Errorf("off: %v", err)
			}
			is(c.state)
			runs(c.on)
			time.Sleep(10 * time.Minute)
			runs(c.later)
			b.Lie(sim.Truth)
			ok(t, b.On(t.Context()))
			is(hypervisor.On)
			if !c.later {
				power(t, d, hypervisor.Off)
			}
		})
	}
	bubble(t, "sim-04 power loss, with a dead bmc", func(t *testing.T, d *sim.Driver) {
		b := d.Host().BMC()
		ok(t, d.Host().PowerLoss(t.Context()))
		b.Dead(true)
		is(t, d.Ping(t.Context()), hypervisor.ErrTimeout)
		_, err := b.State(t.Context())
		is(t, err, hypervisor.ErrTimeout)
		is(t, b.Off(t.Context()), hypervisor.ErrTimeout)
		is(t, b.On(t.Context()), hypervisor.ErrTimeout)
		b.Dead(false)
		ok(t, b.On(t.Context()))
		power(t, d, hypervisor.Off)
	})
}

func TestMoreFaults(t *testing.T) {
	start := hypervisor.StartOptions{Epoch: 2}
	bubble(t, "sim-02 verbs", func(t *testing.T, d *sim.Driver) {
		h := d.Host()
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{}))
		h.FailBefore("start")
		err := d.Start(t.Context(), vmID, start)
		is(t, err, hypervisor.ErrGone)
		if errors.Is(err, hypervisor.ErrOutcomeUnknown) {
			t.Error("what was not sent has an outcome")
		}
		power(t, d, hypervisor.Off)
		h.LoseReply("start")
		is(t, d.Start(t.Context(), vmID, start), hypervisor.ErrOutcomeUnknown)
		power(t, d, hypervisor.On)
		end := h.Fail("ping", hypervisor.ErrDenied)
		is(t, d.Ping(t.Context()), hypervisor.ErrDenied)
		end()
		end = h.Slow("ping", 2*time.Second)
		at := time.Now()
		ok(t, d.Ping(t.Context()))
		took(t, at, 2*time.Second)
		end()
		h.Freeze(3 * time.Second)
		at = time.Now()
		ok(t, d.Ping(t.Context()))
		took(t, at, 3*time.Second)
		h.StealMemory(65536)
		ok(t, d.Stop(t.Context(), vmID, hypervisor.StopOptions{}))
		is(t, d.Start(t.Context(), vmID, start), hypervisor.ErrNoResources)
		h.WrongUUID("33333333-0000-4000-8000-00000000000f")
		if i, err := d.Info(t.Context()); err != nil || i.ID == hostID {
			t.Error(i, err)
		}
		other := h.Open(drover.Env{Node: "n2"})
		h.Partition("n2")
		is(t, other.Ping(t.Context()), hypervisor.ErrTimeout)
		ok(t, d.Ping(t.Context()))
		h.Heal("n2")
		ok(t, other.Ping(t.Context()))
	})
	bubble(t, "sim-03 events of an outage are not replayed", func(t *testing.T, d *sim.Driver) {
		var got []string
		done := make(chan error, 1)
		go func() {
			done <- d.Events(t.Context(), func(e hypervisor.Event) { got = append(got, string(e.Kind)) })
		}()
		seen := func(want string) {
			t.Helper()
			synctest.Wait()
			if now := strings.Join(got, " "); now != want {
				t.Fatalf("%s; want %s", now, want)
			}
			got = nil
		}
		seen("sync synced")
		h := d.Host()
		h.KillDaemon()
		seen("lost")
		ok(t, h.CrashVM(t.Context(), vmID))
		h.StartDaemon()
		seen("back crashed synced")
		h.HangDaemon()
		time.Sleep(2 * time.Second)
		seen("silent")
		h.StartDaemon()
		seen("back synced")
		h.HangDaemon()
		time.Sleep(20 * time.Second)
		seen("silent lost")
		h.StartDaemon()
		seen("back synced")
		h.LoseEvents(1)
		ok(t, d.Start(t.Context(), vmID, start))
		seen("")
		h.DuplicateEvents(true)
		ok(t, d.Pause(t.Context(), vmID))
		seen("paused paused")
		h.DuplicateEvents(false)
		ok(t, d.Close())
		is(t, <-done, hypervisor.ErrClosed)
	})
}

func TestWorld(t *testing.T) {
	t.Run("sim-05 one VM on two hosts", func(t *testing.T) {
		var told []sim.Violation
		w := sim.NewWorld(drover.Env{}, 4711, func(v sim.Violation) { told = append(told, v) })
		host := func(id string) *sim.Driver {
			h, err := w.Host(sim.Config{ID: id, Times: fast()})
			ok(t, err)
			return h.Open(drover.Env{})
		}
		a, b := host(hostID), host("33333333-0000-4000-8000-00000000000b")
		for _, d := range []*sim.Driver{a, b} {
			vm(t, d, vmID, 64)
		}
		ok(t, a.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 3}))
		ok(t, a.Stop(t.Context(), vmID, hypervisor.StopOptions{}))
		ok(t, b.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 4}))
		if len(told) != 0 {
			t.Fatal(told)
		}
		ok(t, a.Start(t.Context(), vmID, hypervisor.StartOptions{Epoch: 3}))
		if len(told) != 2 || !slices.Equal(told[1].Hosts, []string{hostID, "33333333-0000-4000-8000-00000000000b"}) || told[1].Step == 0 {
			t.Fatal(told)
		}
		if s := told[1].Error(); !strings.Contains(s, "seed 4711") || !strings.Contains(s, vmID) || !strings.Contains(s, "runs twice") {
			t.Error(s)
		}
		if s := told[0].Error(); !strings.Contains(s, "epoch 3 below 4") {
			t.Error(s)
		}
		m, err := a.Migrate(t.Context(), vmID, hypervisor.MigrateSpec{Target: host("33333333-0000-4000-8000-00000000000c"), Epoch: 9})
		ok(t, err)
		ok(t, m.Wait(t.Context()))
		if n := len(w.Violations()); n != 3 { // b still runs it
			t.Fatal(w.Violations())
		}
	})
}
