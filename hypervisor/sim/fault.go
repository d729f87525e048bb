package sim

import (
	"context"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

type daemon int

const (
	up daemon = iota
	hung
	killed
)

// Fault breaks calls until it is removed or used up. Of several that match, the one injected first counts.
type Fault struct {
	Op    string                      // list, get, info, resources, stats, ping, define, undefine, start, stop, reboot, pause, resume, save, snapshot, revert, fence, …; "" = all
	Match func(vm hypervisor.VM) bool // nil = all; a call about no VM shows the zero VM
	Times int                         // 0 = always
	Delay time.Duration               // it takes so much longer
	Hang  bool                        // no answer until the call's deadline
	Class error                       // it fails so, and nothing was done
	Lose  bool                        // it is done, and the reply is lost: hypervisor.ErrOutcomeUnknown
	used  int
}

// Inject makes f count from the next call on.
func (h *Host) Inject(f Fault) (remove func()) {
	p := &f
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, p)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.faults = slices.DeleteFunc(h.faults, func(q *Fault) bool { return q == p })
	}
}

// broken tells whether there are faults at all.
func (h *Host) broken() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.faults) > 0
}

// match finds the fault for a call and counts its use.
func (h *Host) match(op string, vm hypervisor.VM) Fault {
	h.mu.Lock()
	faults := slices.Clone(h.faults)
	h.mu.Unlock()
	for _, f := range faults {
		if f.Op != "" && f.Op != op || f.Match != nil && !f.Match(vm) {
			continue
		}
		h.mu.Lock()
		free := f.Times == 0 || f.used < f.Times
		if free {
			f.used++
		}
		h.mu.Unlock()
		if free {
			return *f
		}
	}
	return Fault{}
}

// KillDaemon ends what answers; guests go on. Calls get ErrGone.
func (h *Host) KillDaemon() { h.setDaemon(killed) }

// HangDaemon lets every call wait for its deadline; guests go on.
func (h *Host) HangDaemon() { h.setDaemon(hung) }

// StartDaemon ends KillDaemon and HangDaemon.
func (h *Host) StartDaemon() { h.setDaemon(up) }

func (h *Host) setDaemon(d daemon) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.daemon = d
	h.interrupt()
}

// interrupt wakes every call in flight to look at the host again; h.mu is held.
func (h *Host) interrupt() {
	close(h.down)
	h.down = make(chan struct{})
}

// PowerLoss ends all guests at once; the host is silent until PowerOn.
func (h *Host) PowerLoss(ctx context.Context) error {
	h.power(false)
	return h.update(ctx, func(w *world) error {
		for _, id := range w.ids() {
			if g := w.VMs[id]; g.Incarnation >= 0 {
				w.VMs[id] = g.off(hypervisor.Off, "power lost")
			}
		}
		return nil
	})
}

// PowerOn ends PowerLoss; guests stay Off.
func (h *Host) PowerOn() { h.power(true) }

func (h *Host) power(on bool) {
	now := h.cfg.Env.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.powered = on
	h.bmc.history = append(h.bmc.history, switched{now, on})
	h.interrupt()
}

// CrashVM kills the guest's process.
func (h *Host) CrashVM(ctx context.Context, id string) error {
	return h.update(ctx, func(w *world) error {
		if g, ok := w.VMs[id]; ok && g.Incarnation >= 0 {
			w.VMs[id] = g.off(hypervisor.Crashed, "process killed")
		}
		return nil
	})
}

// StealMemory takes so many MiB away from guests to start; negative gives back.
func (h *Host) StealMemory(mib int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stolen += mib
}

// memory is what the host has for guests.
func (h *Host) memory() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg.MemoryMiB - h.stolen
}

// WrongUUID makes Info answer another host's id; "" ends it.
func (h *Host) WrongUUID(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrongID = id
}

// Guest is how a guest behaves; the zero value obeys the first request.
type Guest struct {
	Deaf     bool // never obeys a request
	Ignores  int  // requests it does not hear before it obeys
	Restarts int  // how often it comes back by itself while it is forced off
}

// Behave sets the guest's behaviour in this process.
func (h *Host) Behave(id string, g Guest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests[id] = g
}

// obeys counts a request to shut down or reboot.
func (h *Host) obeys(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[id]
	if g.Deaf {
		return false
	}
	g.Ignores--
	h.guests[id] = g
	return g.Ignores < 0
}

// comesBack counts a restart of the guest by itself.
func (h *Host) comesBack(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[id]
	g.Restarts--
	h.guests[id] = g
	return g.Restarts >= 0
}

// Slow makes calls named op take d longer until it is ended.
func (h *Host) Slow(op string, d time.Duration) (end func()) {
	return h.Inject(Fault{Op: op, Delay: d})
}

// Fail makes calls named op fail with a class, undone, until it is ended.
func (h *Host) Fail(op string, class error) (end func()) {
	return h.Inject(Fault{Op: op, Class: class})
}

// FailBefore makes the next call named op fail with hypervisor.ErrGone, undone.
func (h *Host) FailBefore(op string) { h.Inject(Fault{Op: op, Times: 1, Class: hypervisor.ErrGone}) }

// LoseReply lets the next call named op do its work and lose its reply.
func (h *Host) LoseReply(op string) { h.Inject(Fault{Op: op, Times: 1, Lose: true}) }

// Freeze hangs the host for d, by its own clock; guests are there all the while.
func (h *Host) Freeze(d time.Duration) {
	h.HangDaemon()
	h.cfg.Env.Go("sim/freeze/"+h.cfg.ID, func() {
		<-h.cfg.Env.Clock.After(d)
		h.StartDaemon()
	})
}

// Partition cuts the drivers of a node, by their Env.Node, off: no answer comes, and nothing arrives. Heal ends it.
func (h *Host) Partition(node string) { h.reachable(node, false) }

// Heal ends Partition.
func (h *Host) Heal(node string) { h.reachable(node, true) }

func (h *Host) reachable(node string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut[node] = !on; on {
		delete(h.cut, node)
	}
	h.interrupt()
}

// LoseEvents drops the next n events, for each who listens.
func (h *Host) LoseEvents(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose += n
}

// DuplicateEvents makes every event come twice.
func (h *Host) DuplicateEvents(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.double = on
}
