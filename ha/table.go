package ha

// trigger is what may move a host from one state to another.
type trigger string

const (
	onBeat      trigger = "beat"       // healthy, of the known or a newer incarnation
	onNewer     trigger = "newer beat" // likewise, of an incarnation above the fenced one
	onSick      trigger = "sick beat"
	onGoodbye   trigger = "goodbye"
	onGhost     trigger = "beat of the fenced" // of the incarnation that was fenced
	onHint      trigger = "hint"
	onSilence   trigger = "silence"
	onSlot      trigger = "probe slot free"
	onAlive     trigger = "alive"
	onDead      trigger = "dead"
	onConflict  trigger = "conflict"
	onNothing   trigger = "nothing found"             // and there is a checker
	onNobody    trigger = "nothing found, no checker" // and the window is over
	onAiling    trigger = "unhealthy, but beats"
	onActive    trigger = "active"
	onIdle      trigger = "idle"            // too many samples were; there is a repair left
	onIdleDone  trigger = "idle, no repair" // there is none
	onBadCheck  trigger = "checker error"
	onRecheck   trigger = "recheck"
	onRepaired  trigger = "repaired"
	onRepairOff trigger = "repaired, with proof"
	onUseless   trigger = "repairs exhausted"
	onCleared   trigger = "cleared to fence" // window, warm-up, domain, armed, protected
	onOpen      trigger = "protection off"
	onProof     trigger = "proof"
	onExhausted trigger = "fencing exhausted"
	onShielded  trigger = "protection on"
	onClosed    trigger = "last row closed"
	onReady     trigger = "ready" // hooks, inventory, hold-down
	onHookError trigger = "hook error"
	onNoReturn  trigger = "did not return" // after a repair
	onDrained   trigger = "drained"
	byMaintain  trigger = "maintain"
	byResume    trigger = "resume"
	byDisable   trigger = "disable"
	byEnable    trigger = "enable"
	byRemove    trigger = "remove"
)

// triggers lists all.
var triggers = []trigger{onBeat, onNewer, onSick, onGoodbye, onGhost, onHint, onSilence, onSlot, onAlive, onDead, onConflict, onNothing,
	onNobody, onAiling, onActive, onIdle, onIdleDone, onBadCheck, onRecheck, onRepaired, onRepairOff, onUseless, onCleared, onOpen,
	onProof, onExhausted, onShielded, onClosed, onReady, onHookError, onNoReturn, onDrained, byMaintain, byResume, byDisable, byEnable, byRemove}

// edge is a line of the table; reason is of the state it leads to.
type edge struct {
	from   State
	on     trigger
	to     State
	reason Reason
	// if narrows it to records of which it is true.
	only func(r *Record) bool
}

func is(reasons ...Reason) func(r *Record) bool {
	return func(r *Record) bool {
		for _, x := range reasons {
			if r.Reason == x {
				return true
			}
		}
		return false
	}
}

func mild(r *Record) bool     { return !r.Destructive }
func unbegun(r *Record) bool  { return !r.Begun }
func straight(r *Record) bool { return r.Reason != ConnectFailed }

// table is the whole of the transitions; a pair that it does not have changes nothing. Disable and Remove, which lead from
// everywhere, are added by the function below.
var table = withAny([]edge{
	{Fresh, onBeat, Rejoining, "", nil},
	{Disabled, byEnable, Fresh, "", nil},

	{Up, onSick, Suspect, "", nil},
	{Up, onHint, Suspect, "", nil},
	{Up, onSilence, Suspect, "", nil},
	{Up, onGoodbye, Degraded, Goodbye, nil},
	{Up, byMaintain, Draining, "", nil},

	{Suspect, onBeat, Up, "", nil},
	{Suspect, onSlot, Investigating, "", nil},

	{Investigating, onBeat, Up, "", nil},
	{Investigating, onAlive, Degraded, AgentLost, nil},
	{Investigating, onDead, Condemned, "", nil},
	{Investigating, onConflict, Blocked, Conflict, nil},
	{Investigating, onNothing, Checking, "", nil},
	{Investigating, onNobody, Condemned, "", nil},
	{Investigating, onAiling, Degraded, Unhealthy, nil},

	{Checking, onBeat, Up, "", nil},
	{Checking, onActive, Degraded, AgentLost, nil},
	{Checking, onIdle, Repairing, "", nil},
	{Checking, onIdleDone, Condemned, "", nil},
	{Checking, onBadCheck, Degraded, CheckerError, nil},

	{Degraded, onBeat, Up, "", straight},
	{Degraded, onBeat, Rejoining, "", is(ConnectFailed)},
	{Degraded, onRecheck, Investigating, "", nil},

	{Repairing, onRepaired, Rejoining, "", nil},
	{Repairing, onRepairOff, Fenced, "", nil},
	{Repairing, onUseless, Condemned, "", nil},
	{Repairing, onBeat, Up, "", mild},

	{Condemned, onBeat, Up, "", nil},
	{Condemned, onCleared, Fencing, "", nil},
	{Condemned, onOpen, Blocked, ProtectionOff, nil},

	{Fencing, onProof, Fenced, "", nil},
	{Fencing, onExhausted, Blocked, Exhausted, nil},
	{Fencing, onBeat, Up, "", unbegun},

	{Blocked, onProof, Fenced, "", nil},
	{Blocked, onBeat, Up, "", is(Conflict, ProtectionOff)},
	{Blocked, onBeat, Rejoining, "", is(Exhausted)},
	{Blocked, onShielded, Condemned, "", is(ProtectionOff)},
	{Blocked, onAlive, Degraded, AgentLost, is(Conflict)},
	{Blocked, onDead, Condemned, "", is(Conflict)},

	{Fenced, onClosed, Offline, "", nil},
	{Fenced, onNewer, Rejoining, "", nil},
	{Fenced, onGhost, Fencing, "", nil},
	{Offline, onNewer, Rejoining, "", nil},
	{Offline, onGhost, Fencing, "", nil},

	{Rejoining, onReady, Up, "", nil},
	{Rejoining, onHookError, Degraded, ConnectFailed, nil},
	{Rejoining, onSilence, Suspect, "", nil},
	{Rejoining, onNoReturn, Condemned, "", nil},

	{Draining, onDrained, Maintenance, "", nil},
	{Draining, byResume, Up, "", nil},
	{Draining, onSilence, Suspect, "", nil},
	{Maintenance, byResume, Rejoining, "", nil},
})

// withAny adds what leads from everywhere. What it leaves out is refused by the verbs: ErrNotFenced.
func withAny(table []edge) []edge {
	for _, s := range States() {
		if s != Fencing && s != Fenced && s != Disabled && s != Removed {
			table = append(table, edge{s, byDisable, Disabled, "", nil})
		}
		if s != Removed {
			table = append(table, edge{s, byRemove, Removed, "", nil})
		}
	}
	return table
}

// next finds the edge of r's state; nil if there is none.
func next(r *Record, on trigger) *edge {
	for i := range table {
		if e := &table[i]; e.from == r.State && e.on == on && (e.only == nil || e.only(r)) {
			return e
		}
	}
	return nil
}
