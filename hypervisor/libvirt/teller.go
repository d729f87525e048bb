package libvirt

import (
	"maps"
	"slices"
	"time"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

// Events of a domain's life, and those of their details that matter, by libvirt's numbers.
const (
	lifeDefined     = 0
	lifeUndefined   = 1
	lifeStarted     = 2
	lifeSuspended   = 3
	lifeResumed     = 4
	lifeStopped     = 5
	lifePMSuspended = 7
	lifeCrashed     = 8

	byMigration = 1 // of started, suspended, resumed

	stoppedCrashed  = 2
	stoppedMigrated = 3
	stoppedSaved    = 4
	stoppedFailed   = 5

	suspendedPostCopy = 7
)

// settle is how long a pause is held back that is mostly none: of a start, which makes the guest paused and lets it go, and at the end of a
// migration.
const settle = 5 * time.Second

// teller makes of what libvirt says what happened. It is used by one goroutine.
type teller struct {
	debounce time.Duration // of a stop; <= 0: off
	pauses   bool          // starts make the guest paused first
	now      func() time.Time
	tell     func(hypervisor.EventKind, hypervisor.VM, string)

	known map[string]*known
	held  map[string]held
}

// known is what was told of a VM, and what is expected of it.
type known struct {
	hypervisor.VM
	ran      bool // it was seen running here
	early    bool // Resumed came before Started: the start makes no pause
	born     bool // just started
	own      bool // this driver has stopped it
	rebooted time.Time
}

// held is an event that is told when it is due, if nothing speaks against it.
type held struct {
	due    time.Time
	kind   hypervisor.EventKind
	detail string
}

// occurrence is one thing that libvirt said.
type occurrence struct {
	what          int // lifecycle, reboot, stopped by us, silent or heard
	dom           rpc.Domain
	event, detail int32
}

const (
	saidLifecycle = iota
	saidReboot
	didStop
	fellSilent
	wasHeard
)

func newTeller(debounce time.Duration, pauses bool, now func() time.Time, tell func(hypervisor.EventKind, hypervisor.VM, string)) *teller {
	return &teller{debounce: debounce, pauses: pauses, now: now, tell: tell, known: map[string]*known{}, held: map[string]held{}}
}

func (t *teller) of(dom rpc.Domain) *known {
	id := textID(dom.UUID)
	k := t.known[id]
	if k == nil {
		k = &known{VM: hypervisor.VM{ID: id, Power: hypervisor.Off, Incarnation: -1}}
		t.known[id] = k
	}
	if dom.Name != "" {
		k.Name = dom.Name
	}
	return k
}

// lifecycle takes an event of a VM's life.
func (t *teller) lifecycle(o occurrence) {
	k := t.of(o.dom)
	was, holding := t.held[k.ID]
	if was.kind != hypervisor.EventStopped || o.event == lifeStarted || o.event == lifeUndefined {
		delete(t.held, k.ID)
	}
	born := k.born
	k.born = false
	switch o.event {
	case lifeDefined:
		k.Persistent = true
		t.tell(hypervisor.EventDefined, k.VM, [...]string{"added", "updated", "renamed", "from snapshot"}[max(0, min(o.detail, 3))])
	case lifeUndefined:
		if was.kind == hypervisor.EventStopped {
			t.tell(was.kind, k.VM, was.detail)
		}
		k.Persistent = false
		t.tell(hypervisor.EventUndefined, k.VM, "")
		t.forget(k)
	case lifeStarted:
		t.started(k, o, holding && was.kind == hypervisor.EventStopped)
	case lifeSuspended:
		t.suspended(k, o, born)
	case lifeResumed:
		t.resumed(k, o, holding && was.kind == hypervisor.EventPaused)
	case lifeStopped:
		t.stopped(k, o)
	case lifePMSuspended:
		k.Power = hypervisor.Suspended
		t.tell(hypervisor.EventSuspended, k.VM, "")
	case lifeCrashed:
		k.Power = hypervisor.Crashed
		t.tell(hypervisor.EventCrashed, k.VM, "panicked")
	}
}

func (t *teller) started(k *known, o occurrence, again bool) {
	if k.HasProcess() && k.Incarnation == int64(o.dom.ID) {
		return // the listing saw it
	}
	k.Incarnation, k.Power, k.own, k.Saved = int64(o.dom.ID), hypervisor.On, false, false
	if o.detail == byMigration { // its memory is to come
		k.Power, k.ran = hypervisor.Paused, false
		return
	}
	k.born, k.ran, k.early = t.pauses && !k.early, true, false
	kind := hypervisor.EventStarted
	if again {
		kind = hypervisor.EventRebooted
	}
	t.tell(kind, k.VM, reasonOf(1, [...]int{1, 2, 3, 4, 8}[max(0, min(o.detail, 4))]))
}

func (t *teller) suspended(k *known, o occurrence, born bool) {
	if k.Power == hypervisor.Paused {
		return
	}
	k.Power = hypervisor.Paused
	if id := int64(o.dom.ID); id >= 0 {
		k.Incarnation = id
	}
	if born || o.detail == byMigration || o.detail == suspendedPostCopy {
		t.held[k.ID] = held{t.now().Add(settle), hypervisor.EventPaused, ""}
		return
	}
	t.tell(hypervisor.EventPaused, k.VM, "")
}

func (t *teller) resumed(k *known, o occurrence, unsaid bool) {
	switch {
	case !k.HasProcess():
		k.early = true // Started follows
		return
	case k.Power == hypervisor.On:
		return
	}
	k.Power, k.Incarnation = hypervisor.On, max(k.Incarnation, int64(o.dom.ID))
	switch {
	case unsaid:
	case !k.ran:
		t.tell(hypervisor.EventMovedIn, k.VM, "")
	default:
		t.tell(hypervisor.EventResumed, k.VM, "")
	}
	k.ran = true
}

func (t *teller) stopped(k *known, o occurrence) {
	if !k.HasProcess() {
		return // the listing saw it, or a start failed
	}
	ran, own := k.ran, k.own
	k.Power, k.Incarnation, k.ran, k.own, k.early = hypervisor.Off, -1, false, false, false
	k.CPUTime = 0
	detail := reasonOf(5, int(o.detail)+1)
	kind := hypervisor.EventStopped
	switch o.detail {
	case stoppedMigrated:
		kind = hypervisor.EventMovedOut
	case stoppedSaved:
		kind, k.Saved = hypervisor.EventSaved, true
	case stoppedCrashed, stoppedFailed:
		if ran { // else its migration to here failed
			kind, k.Power = hypervisor.EventCrashed, hypervisor.Crashed
		}
	default:
		if t.debounce > 0 && !own {
			t.held[k.ID] = held{t.now().Add(t.debounce), kind, detail}
			return
		}
	}
	t.tell(kind, k.VM, detail)
	t.forget(k)
}

// forget drops a VM that is no more: neither defined nor running.
func (t *teller) forget(k *known) {
	if !k.Persistent && !k.HasProcess() {
		delete(t.known, k.ID)
	}
}

// reboot takes libvirt's word for a reset; it says it two or three times.
func (t *teller) reboot(o occurrence) {
	k := t.of(o.dom)
	if now := t.now(); k.rebooted.IsZero() || now.Sub(k.rebooted) >= time.Second {
		k.rebooted = now
		t.tell(hypervisor.EventRebooted, k.VM, "reset")
	}
}

// ended notes that this driver has seen to the stop of a VM: there is nothing to wait for.
func (t *teller) ended(o occurrence) {
	k := t.known[textID(o.dom.UUID)]
	if k == nil {
		return
	}
	if h, ok := t.held[k.ID]; ok && h.kind == hypervisor.EventStopped {
		delete(t.held, k.ID)
		t.tell(h.kind, k.VM, h.detail)
		t.forget(k)
		return
	}
	k.own = k.HasProcess()
}

// next is when the first of what is held back is due.
func (t *teller) next() (at time.Time) {
	for _, h := range t.held { // the order does not matter
		if at.IsZero() || h.due.Before(at) {
			at = h.due
		}
	}
	return at
}

// due gives the VMs whose stop is due: they are to be read. Pauses that are due are told.
func (t *teller) due() (stops []string) {
	now := t.now()
	for _, id := range slices.Sorted(maps.Keys(t.held)) {
		h := t.held[id]
		switch {
		case h.due.After(now):
		case h.kind == hypervisor.EventStopped:
			stops = append(stops, id)
		default:
			delete(t.held, id)
			t.tell(h.kind, t.known[id].VM, h.detail)
		}
	}
	return stops
}

// judge tells a stop that was held back, if the VM is off indeed; nil: it is no more.
func (t *teller) judge(id string, vm *hypervisor.VM) {
	h, k := t.held[id], t.known[id]
	delete(t.held, id)
	if k == nil {
		return
	}
	if vm != nil && (vm.HasProcess() || vm.Power == hypervisor.Unknown) {
		k.VM, k.ran = *vm, true
		return
	}
	if vm == nil {
		k.Persistent = false
	}
	t.tell(h.kind, k.VM, h.detail)
	t.forget(k)
}
