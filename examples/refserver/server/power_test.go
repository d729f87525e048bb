package server

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	world "github.com/drover-cloud/drover/testkit"
)

// What becomes of a machine whose row and host disagree.
func TestPowerTruth(t *testing.T) {
	t.Parallel()
	type scene struct {
		*simulation
		n  *node
		h  *sim.Host
		d  *sim.Driver
		vm string

		looks, mute, hang *atomic.Bool // hosts were listed; they do not answer that
	}
	must := func(s scene, err error) {
		s.w.T.Helper()
		if err != nil {
			s.w.T.Fatal(err)
		}
	}
	run := func(s scene, command string, p params) { s.n.run(command, p).succeeds(s.w.T) }
	start := func(s scene) error { // as somebody at the host's own shell
		vm, err := s.d.Get(s.w.T.Context(), s.vm)
		must(s, err)
		return s.d.Start(s.w.T.Context(), s.vm, hypervisor.StartOptions{Epoch: vm.Epoch})
	}
	crash := func(s scene) { must(s, s.h.CrashVM(s.w.T.Context(), s.vm)) }
	stop := func(s scene) { must(s, s.d.Stop(s.w.T.Context(), s.vm, hypervisor.StopOptions{})) }
	for _, c := range []struct {
		name   string
		before func(scene) // through the server
		event  func(scene) // on the host
		wait   time.Duration
		state  string
		power  hypervisor.Power // on the host, in the end
		claims int
		events int // VM.STATE.SYNC
		jobs   int // of the system on the machine
	}{
		{name: "Running and off", event: stop, state: "Stopped", power: hypervisor.Off, events: 1},
		{name: "Running and crashed", event: crash, state: "Stopped", power: hypervisor.Crashed, events: 1},
		{name: "Running and crashed, with HA", before: func(s scene) { s.n.call("updateVirtualMachine", params{"id": s.vm, "haenable": "true"}).ok(s.w.T) },
			event: crash, state: "Running", power: hypervisor.On, claims: 1, events: 1, jobs: 1},
		{name: "Running and off, with HA", before: func(s scene) { s.n.call("updateVirtualMachine", params{"id": s.vm, "haenable": "true"}).ok(s.w.T) },
			event: stop, state: "Stopped", power: hypervisor.Off, events: 1},
		{name: "Running and undefined", event: func(s scene) { stop(s); must(s, s.d.Undefine(s.w.T.Context(), s.vm)) }, state: "Stopped", events: 1},
		{name: "Running and paused", event: func(s scene) { must(s, s.d.Pause(s.w.T.Context(), s.vm)) }, wait: 5 * time.Minute,
			state: "Running", power: hypervisor.Paused, claims: 1, events: 1},
		{name: "Running and its host unreadable", event: func(s scene) { s.mute.Store(true); stop(s) }, state: "Running", power: hypervisor.Off, claims: 1},
		{name: "Running and its host hangs", event: func(s scene) { s.hang.Store(true); stop(s) }, state: "Running", power: hypervisor.Off, claims: 1},
		{name: "Running, stop and start within 15 s", event: func(s scene) {
			stop(s)
			s.w.Eventually(2*time.Minute, "a look", s.looks.Load)
			s.w.Advance(10 * time.Second)
			must(s, start(s))
		}, state: "Running", power: hypervisor.On, claims: 1},
		{name: "Stopped and on", before: func(s scene) { run(s, "stopVirtualMachine", params{"id": s.vm}) },
			event: func(s scene) { must(s, start(s)) }, state: "Stopped", power: hypervisor.Off, events: 1, jobs: 1},
		{name: "Destroyed and on", before: func(s scene) { run(s, "destroyVirtualMachine", params{"id": s.vm}) },
			event: func(s scene) { must(s, start(s)) }, state: "Destroyed", power: hypervisor.Off, events: 1, jobs: 1},
		{name: "Unknown and on", event: func(s scene) { s.set("Unknown") }, state: "Running", power: hypervisor.On, claims: 1, events: 1},
		{name: "Unknown and off", event: func(s scene) { s.set("Unknown"); stop(s) }, state: "Stopped", power: hypervisor.Off, events: 1},
		{name: "Unknown and paused", event: func(s scene) { s.set("Unknown"); must(s, s.d.Pause(s.w.T.Context(), s.vm)) },
			state: "Unknown", power: hypervisor.Paused, claims: 1},
		{name: "as it should be", state: "Running", power: hypervisor.On, claims: 1},
	} {
		t.Run("ref-44 "+c.name, func(t *testing.T) {
			t.Parallel()
			world.Explore(t, 1, func(w *world.World) {
				w.JobInvariants()
				s := scene{simulation: simulate(w), looks: new(atomic.Bool), mute: new(atomic.Bool), hang: new(atomic.Bool)}
				s.cfg.SimFaults = []cloud.SimFault{
					{Fault: sim.Fault{Op: "list", Match: func(hypervisor.VM) bool { s.looks.Store(true); return s.mute.Load() }, Class: hypervisor.ErrGone}},
					{Fault: sim.Fault{Op: "list", Match: func(hypervisor.VM) bool { return s.hang.Load() }, Hang: true}},
				}
				s.node("a")
				s.n = s.nodes["a"]
				var j string
				s.vm, j = s.n.deploy("vm1", nil)
				s.h = s.host(s.n.wait(j).succeeds(w.T)["hostid"].(string))
				s.d = s.h.Open(s.spy.Env)
				if c.before != nil {
					c.before(s)
				}
				jobs := s.count(`SELECT count(*) FROM drover_job`)
				if c.event != nil {
					c.event(s)
				}
				w.Advance(max(c.wait, 150*time.Second))
				vm, err := s.d.Get(context.Background(), s.vm)
				if err != nil && c.power != "" {
					w.T.Fatal(err)
				}
				if got := s.n.state(s.vm); got != c.state || vm.Power != c.power {
					w.T.Errorf("is %s, and %s on its host; want %s and %s", got, vm.Power, c.state, c.power)
				}
				if got := s.count(`SELECT count(*) FROM drover_claim WHERE workload = ? AND state = 'committed'`, s.vm); got != c.claims {
					w.T.Errorf("%d claims, want %d", got, c.claims)
				}
				if got := len(s.n.call("listEvents", params{"type": "VM.STATE.SYNC", "resourceid": s.vm}).list("event")); got != c.events {
					w.T.Errorf("%d events, want %d", got, c.events)
				}
				if got := s.count(`SELECT count(*) FROM drover_job`) - jobs; got != c.jobs {
					w.T.Errorf("%d jobs, want %d", got, c.jobs)
				}
			}, world.Store(openSim), world.AtMost(1), world.Strict(false))
		})
	}
}
