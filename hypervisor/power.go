package hypervisor

// Power is the state of a VM as its host reports it.
type Power string

// The states. Stopping still owns its disks: Nova and CloudStack call it off, and two writers are then possible.
const (
	Unknown   Power = ""         // could not be read; never treated as Off
	On        Power = "on"       // runs, or waits for I/O
	Paused    Power = "paused"   // frozen; also an incoming migration and an I/O error
	Stopping  Power = "stopping" // shutting down
	Off       Power = "off"      // also with its memory saved
	Crashed   Power = "crashed"  // without a process if Incarnation is -1
	Suspended Power = "suspended"
)

// PowerOf turns libvirt's numbers for a domain's state and its reason into a Power. A number that is not listed is Unknown.
func PowerOf(state, reason int) Power {
	const shutoffCrashed = 3
	switch state {
	case 1, 2:
		return On
	case 3:
		return Paused
	case 4:
		return Stopping
	case 5:
		if reason == shutoffCrashed {
			return Crashed
		}
		return Off
	case 6:
		return Crashed
	case 7:
		return Suspended
	}
	return Unknown
}

// Action is what a power reconciliation should do.
type Action string

// The actions of Reconcile.
const (
	Leave      Action = "leave"       // nothing
	RecordDown Action = "record-down" // store that it is down; host or ha decide what follows
	Warn       Action = "warn"        // tell an operator
	ForceStop  Action = "force-stop"  // of the incarnation seen
)

// Deleted is what Reconcile wants of a VM that should exist no more. No host reports it.
const Deleted Power = "deleted"

// Reconcile compares the power a VM should have with the one seen. busy means that a job holds the VM. It never acts on
// Unknown, and unlike Nova never stops a record silently: a VM found down is left to whoever decides about restarts.
func Reconcile(want Power, seen VM, busy bool) Action {
	if busy || seen.Power == Unknown {
		return Leave
	}
	switch want {
	case On:
		switch seen.Power {
		case Off, Crashed, Suspended:
			return RecordDown
		case Paused:
			return Warn
		}
	case Off:
		switch seen.Power {
		case On, Paused, Stopping:
			return ForceStop
		}
	case Paused:
		switch seen.Power {
		case Off, Crashed:
			return RecordDown
		}
	case Deleted:
		if seen.HasProcess() {
			return Warn
		}
	}
	return Leave
}
