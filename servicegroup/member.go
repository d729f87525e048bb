package servicegroup

import (
	"maps"
	"strings"
	"time"

	"github.com/drover-cloud/drover"
)

// Member is a record of the group, and how this node judges it.
type Member struct {
	Group, ID, Addr, Version string

	Incarnation int64  // rises with each Join of the ID; older ones are refused
	Instance    string // of the process's life, unique
	Meta        map[string]string
	Beat        int64 // how many, from 1; 0 where presence alone is the evidence (zk)

	Joined, Seen time.Time     // by the driver's clock
	Age          time.Duration // since Seen, by the driver's clock

	State  State
	Reason Reason
	Health drover.Health // as the member's last beat told; at most 1 KiB of it
	Mark   Mark
	Lapsed bool // the server itself has ended the member's session
}

// State of a member. The zero value is Unknown.
type State int

// States.
const (
	Unknown State = iota // the driver cannot tell, or too many vanished at once: never treated as Down
	Up
	Down
)

// String is "unknown", "up" or "down".
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// Reason of a State.
type Reason string

// Reasons.
const (
	Beat        Reason = "beat"         // it beats
	Late        Reason = "late"         // silent for longer than Config.Down
	Left        Reason = "left"         // it said so
	Forced      Reason = "forced"       // marked forced-down
	Maintenance Reason = "maintenance"  // marked maintenance; the state is by its beats
	Stalled     Reason = "stalled"      // it beats, but its health is failing
	DriverError Reason = "driver-error" // nothing was read for longer than Config.Down
	Mass        Reason = "mass"         // one of too many that vanished at once
	WarmUp      Reason = "warm-up"      // nothing was read yet, or for the first time after an outage of the driver
	Never       Reason = "never"        // never seen
)

// Mark is an operator's word about a member; "" is none.
type Mark string

// Marks.
const (
	ForcedDown      Mark = "forced-down" // Down, whatever it does
	MaintenanceMark Mark = "maintenance" // its absence counts for nothing
)

// Fold is the form in which IDs are compared: letter case does not count. Drivers use it in their keys.
func Fold(id string) string { return strings.ToLower(id) }

// alike tells whether nothing has changed that watchers are told of.
func (m *Member) alike(o *Member) bool {
	return m.Incarnation == o.Incarnation && m.State == o.State && m.Reason == o.Reason && m.Mark == o.Mark &&
		m.Instance == o.Instance && m.ID == o.ID && m.Addr == o.Addr && m.Version == o.Version &&
		m.Health.State == o.Health.State && text(m.Health.Err) == text(o.Health.Err) && maps.Equal(m.Meta, o.Meta)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
