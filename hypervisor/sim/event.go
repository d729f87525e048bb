package sim

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
)

const (
	buffered    = 1024 // events, for each who listens
	silentAfter = 1800 * time.Millisecond
	lostAfter   = 15 * time.Second
	dialAgain   = 5 * time.Second
	pollKept    = 10 * time.Second // what other processes did to a host that State keeps
)

// change is an event on its way.
type change struct {
	n    int64 // of Host.changes
	kind hypervisor.EventKind
	vm   hypervisor.VM
}

// listener is a call of Events; Host.mu guards it.
type listener struct {
	pending  []change
	overflow bool
	wake     chan struct{} // capacity 1
}

// tell turns what became of the VMs into events. State or keep is held.
func (h *Host) tell(before, after map[string]guest) {
	ids := slices.Sorted(maps.Keys(after))
	for id := range before {
		if _, there := after[id]; !there {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		old, was := before[id]
		now, is := after[id]
		for _, k := range kinds(old, was, now, is) {
			vm := now.vm()
			if !is {
				vm = old.vm()
				vm.Power, vm.Incarnation = hypervisor.Off, -1
			}
			h.emit(k, vm)
		}
	}
	if h.world != nil {
		h.world.step(h, after)
	}
}

// kinds of events that a change of a guest is.
func kinds(old guest, was bool, now guest, is bool) (ks []hypervisor.EventKind) {
	ran, runs := was && old.Incarnation >= 0 && old.Mode != starting && old.Mode != incoming, is && now.Incarnation >= 0 && now.Mode != starting && now.Mode != incoming
	switch {
	case !is && ran:
		return []hypervisor.EventKind{hypervisor.EventMovedOut}
	case !is && old.Mode == incoming && old.Incarnation >= 0:
		return nil
	case !is:
		return []hypervisor.EventKind{hypervisor.EventUndefined}
	case !was && now.Mode == incoming && now.Incarnation >= 0:
		return nil
	case !was || !sameSpec(old.Spec, now.Spec):
		ks = append(ks, hypervisor.EventDefined)
	}
	switch {
	case !ran && runs && old.Mode == incoming:
		ks = append(ks, hypervisor.EventMovedIn)
	case !ran && runs:
		ks = append(ks, hypervisor.EventStarted)
	case ran && now.Incarnation < 0 && now.Power == hypervisor.Crashed:
		ks = append(ks, hypervisor.EventCrashed)
	case ran && now.Incarnation < 0 && now.Saved:
		ks = append(ks, hypervisor.EventSaved)
	case ran && now.Incarnation < 0:
		ks = append(ks, hypervisor.EventStopped)
	case ran && runs && old.Power != now.Power && now.Power == hypervisor.Paused:
		ks = append(ks, hypervisor.EventPaused)
	case ran && runs && old.Power == hypervisor.Paused && now.Power == hypervisor.On:
		ks = append(ks, hypervisor.EventResumed)
	}
	return ks
}

func sameSpec(a, b hypervisor.Spec) bool {
	return a.Name == b.Name && a.VCPU == b.VCPU && a.MemoryMiB == b.MemoryMiB && a.Console == b.Console &&
		slices.Equal(a.Disks, b.Disks) && slices.Equal(a.NICs, b.NICs)
}

// emit hands an event to those who listen. Of a daemon that is down they hear nothing.
func (h *Host) emit(k hypervisor.EventKind, vm hypervisor.VM) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes++
	if h.daemon != up || !h.powered {
		return
	}
	if h.lose > 0 {
		h.lose--
		return
	}
	times := 1
	if h.double {
		times = 2
	}
	for _, l := range h.listeners {
		for range times {
			if len(l.pending) >= buffered {
				l.pending, l.overflow = nil, true
			}
			if !l.overflow {
				l.pending = append(l.pending, change{h.changes, k, vm})
			}
		}
		l.poke()
	}
}

func (l *listener) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Events tells what happens; see hypervisor.Eventer.
func (d *Driver) Events(ctx context.Context, f func(hypervisor.Event)) error {
	e := &telling{d: d, f: f, l: &listener{wake: make(chan struct{}, 1)}, known: map[string]hypervisor.VM{}}
	h := d.h
	h.mu.Lock()
	h.listeners = append(h.listeners, e.l)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.listeners = slices.DeleteFunc(h.listeners, func(l *listener) bool { return l == e.l })
	}()
	for ctx.Err() == nil {
		if e.list(ctx) {
			e.follow(ctx)
		}
		select {
		case <-d.closed:
			return (&call{d: d, op: "events", ctx: ctx}).fail(errClosed)
		default:
		}
	}
	return context.Cause(ctx)
}

// telling is a call of Events under way.
type telling struct {
	d      *Driver
	f      func(hypervisor.Event)
	l      *listener
	seq    int64
	known  map[string]hypervisor.VM
	listed bool
	away   bool // EventSilent or EventLost was told
	lost   bool
}

func (e *telling) event(ctx context.Context, k hypervisor.EventKind, vm hypervisor.VM, detail string) {
	if ctx.Err() != nil {
		return
	}
	e.seq++
	defer func() {
		if v := recover(); v != nil {
			e.d.env.Logger.Error("hypervisor: panic of who listens", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	e.f(hypervisor.Event{Seq: e.seq, At: e.d.env.Clock.Now(), Kind: k, VM: vm, Detail: detail})
}

// list reads what is there and tells how it differs from what is known; all that is pending and older is forgotten.
func (e *telling) list(ctx context.Context) bool {
	h := e.d.h
	if !h.answers(e.d.env.Node) {
		e.outage(ctx)
		return false
	}
	var vms []hypervisor.VM
	var n int64
	err := e.d.read(ctx, "events", "", hypervisor.BulkLimit, func(c *call) error {
		return h.view(c.ctx, func(w *world) error {
			vms = nil
			for _, id := range w.ids() {
				vms = append(vms, w.VMs[id].vm())
			}
			h.mu.Lock()
			n = h.changes
			h.mu.Unlock()
			return nil
		})
	})
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		e.gone(ctx, err.Error())
		e.wait(ctx, dialAgain)
		return false
	}
	if e.away {
		e.away, e.lost = false, false
		e.event(ctx, hypervisor.EventBack, hypervisor.VM{}, "")
	}
	h.mu.Lock()
	e.l.pending = slices.DeleteFunc(e.l.pending, func(c change) bool { return c.n <= n })
	resync := e.l.overflow
	e.l.overflow = false
	h.mu.Unlock()
	if resync {
		e.event(ctx, hypervisor.EventResync, hypervisor.VM{}, "events were dropped")
		e.listed = false
	}
	e.differ(ctx, vms)
	e.event(ctx, hypervisor.EventSynced, hypervisor.VM{}, "")
	return true
}

// differ tells what is new against what is known; of what nobody knew, all.
func (e *telling) differ(ctx context.Context, vms []hypervisor.VM) {
	now := map[string]hypervisor.VM{}
	for _, vm := range vms {
		now[vm.ID] = vm
		old, was := e.known[vm.ID]
		switch {
		case !e.listed:
			e.event(ctx, hypervisor.EventSync, vm, "")
		case !was:
			e.event(ctx, hypervisor.EventDefined, vm, "")
			if vm.HasProcess() {
				e.event(ctx, hypervisor.EventStarted, vm, "")
			}
		case old.Incarnation != vm.Incarnation || old.Power != vm.Power:
			e.event(ctx, became(old, vm), vm, "")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.known)) {
		if _, there := now[id]; !there && e.listed {
			vm := e.known[id]
			vm.Power, vm.Incarnation = hypervisor.Off, -1
			e.event(ctx, hypervisor.EventUndefined, vm, "")
		}
	}
	e.known, e.listed = now, true
}

// became is the kind of event that a difference is.
func became(old, now hypervisor.VM) hypervisor.EventKind {
	switch {
	case now.HasProcess() && old.Incarnation != now.Incarnation:
		return hypervisor.EventStarted
	case now.Power == hypervisor.Crashed:
		return hypervisor.EventCrashed
	case now.Saved:
		return hypervisor.EventSaved
	case !now.HasProcess():
		return hypervisor.EventStopped
	case now.Power == hypervisor.Paused:
		return hypervisor.EventPaused
	}
	return hypervisor.EventResumed
}

// follow tells events as they come, until the host is out of reach or must be listed again.
func (e *telling) follow(ctx context.Context) {
	h := e.d.h
	for {
		var c change
		h.mu.Lock()
		overflow, down := e.l.overflow, h.down
		more := len(e.l.pending) > 0
		if more {
			c, e.l.pending = e.l.pending[0], e.l.pending[1:]
		}
		h.mu.Unlock()
		if more {
			if c.kind == hypervisor.EventUndefined || c.kind == hypervisor.EventMovedOut {
				delete(e.known, c.vm.ID)
			} else {
				e.known[c.vm.ID] = c.vm
			}
			e.event(ctx, c.kind, c.vm, "")
		}
		if overflow || ctx.Err() != nil || !h.answers(e.d.env.Node) {
			return
		}
		if more {
			continue
		}
		var poll <-chan time.Time
		if h.cfg.State != nil {
			poll = e.d.env.Clock.After(pollKept)
		}
		select {
		case <-e.l.wake:
		case <-down:
		case <-poll:
			return
		case <-e.d.closed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// outage waits until the host may answer again. It is silent, then lost; a daemon that is dead is lost at once.
func (e *telling) outage(ctx context.Context) {
	h := e.d.h
	h.mu.Lock()
	dead := h.daemon == killed && h.powered && !h.cut[e.d.env.Node]
	h.mu.Unlock()
	if dead {
		e.gone(ctx, "connection refused")
		e.wait(ctx, 0)
		return
	}
	if !e.away {
		if e.wait(ctx, silentAfter) {
			return
		}
		e.away = true
		e.event(ctx, hypervisor.EventSilent, hypervisor.VM{}, "")
	}
	if !e.lost {
		if e.wait(ctx, lostAfter-silentAfter) {
			return
		}
		e.gone(ctx, "no answer")
	}
	e.wait(ctx, 0)
}

func (e *telling) gone(ctx context.Context, why string) {
	if !e.lost {
		e.away, e.lost = true, true
		e.event(ctx, hypervisor.EventLost, hypervisor.VM{}, why)
	}
}

// wait waits for a change of the host's reach, d at most if that is above 0, and tells whether it came, or all is over.
func (e *telling) wait(ctx context.Context, d time.Duration) bool {
	h := e.d.h
	h.mu.Lock()
	down := h.down
	h.mu.Unlock()
	if d == 0 && h.answers(e.d.env.Node) {
		return true
	}
	var end <-chan time.Time
	if d > 0 {
		end = e.d.env.Clock.After(d)
	}
	select {
	case <-end:
		return false
	case <-down:
	case <-e.d.closed:
	case <-ctx.Done():
	}
	return true
}

// answers says whether a node's requests reach a daemon that works.
func (h *Host) answers(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.daemon == up && h.powered && !h.cut[node]
}
