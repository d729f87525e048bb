package libvirt

import (
	"maps"
	"slices"

	"github.com/drover-cloud/drover/hypervisor"
)

// begin takes the first listing: all of it is told.
func (t *teller) begin(vms []hypervisor.VM) {
	clear(t.known)
	clear(t.held)
	for _, vm := range vms {
		t.known[vm.ID] = &known{VM: vm, ran: runs(vm)}
		t.tell(hypervisor.EventSync, vm, vm.Reason)
	}
}

// compare takes a later listing, and tells what is different.
func (t *teller) compare(vms []hypervisor.VM) {
	seen := make(map[string]hypervisor.VM, len(vms))
	for _, vm := range vms {
		seen[vm.ID] = vm
	}
	ids := slices.AppendSeq(slices.Collect(maps.Keys(seen)), maps.Keys(t.known))
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		vm, here := seen[id]
		t.differs(id, vm, here)
	}
	clear(t.held)
}

// differs tells what became of one VM while nothing was heard of it.
func (t *teller) differs(id string, now hypervisor.VM, here bool) {
	k := t.known[id]
	if k == nil {
		k = &known{VM: hypervisor.VM{ID: id, Power: hypervisor.Off, Incarnation: -1}}
		t.known[id] = k
		if now.Persistent {
			t.tell(hypervisor.EventDefined, now, "")
		}
	}
	was, h := k.VM, t.held[id]
	if !here {
		now = was
		now.Power, now.Incarnation, now.Persistent, now.CPUTime = hypervisor.Off, -1, false, 0
	}
	if here && now.Power == hypervisor.Unknown {
		return // what cannot be read did not change
	}
	k.VM, k.born, k.early, k.own = now, false, false, false
	k.ran = k.ran && was.Incarnation == now.Incarnation || runs(now)
	if kind := changed(was, now, h.kind); kind != "" {
		t.tell(kind, now, now.Reason)
	}
	if was.Persistent && !now.Persistent {
		t.tell(hypervisor.EventUndefined, now, "")
	}
	t.forget(k)
}

// changed is the event that leads from was to now, of which unsaid has been held back.
func changed(was, now hypervisor.VM, unsaid hypervisor.EventKind) hypervisor.EventKind {
	switch {
	case !was.HasProcess() && !now.HasProcess():
		if unsaid == hypervisor.EventStopped {
			return unsaid
		}
		return ""
	case !now.HasProcess():
		switch {
		case now.Power == hypervisor.Crashed:
			return hypervisor.EventCrashed
		case now.Saved:
			return hypervisor.EventSaved
		}
		return hypervisor.EventStopped
	case !was.HasProcess():
		if unsaid == hypervisor.EventStopped {
			return hypervisor.EventRebooted
		}
		return hypervisor.EventStarted
	case was.Incarnation != now.Incarnation:
		return hypervisor.EventRebooted
	case was.Power == now.Power:
		if unsaid == hypervisor.EventPaused && now.Power == hypervisor.Paused {
			return unsaid
		}
		return ""
	}
	switch now.Power {
	case hypervisor.On:
		if unsaid == hypervisor.EventPaused {
			return ""
		}
		return hypervisor.EventResumed
	case hypervisor.Paused:
		return hypervisor.EventPaused
	case hypervisor.Suspended:
		return hypervisor.EventSuspended
	case hypervisor.Crashed:
		return hypervisor.EventCrashed
	}
	return ""
}

// runs says whether the guest has run here: one that is paused since its migration to here began has not.
func runs(vm hypervisor.VM) bool {
	return vm.HasProcess() && (vm.Power != hypervisor.Paused || vm.Reason != reasonOf(3, 2))
}
