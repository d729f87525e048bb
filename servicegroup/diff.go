package servicegroup

// Event is a change between two views. Member is as in the new one, Old as in the old one; events of the group have none.
type Event struct {
	Kind        EventKind
	Member, Old Member
}

// EventKind tells what has changed.
type EventKind string

// Kinds of events, of a member and then of the group.
const (
	EventJoined    EventKind = "joined"    // it is new, or back with a new incarnation after it was Down; see its State
	EventRestarted EventKind = "restarted" // a new incarnation without a Down between: the old one has left, a new one joined
	EventGone      EventKind = "gone"      // its record is no more; only Old is set
	EventLeft      EventKind = "left"      // Down, by its own word
	EventUp        EventKind = "up"
	EventDown      EventKind = "down"
	EventUnknown   EventKind = "unknown"
	EventChanged   EventKind = "changed" // reason, health, mark, meta, address or version

	EventMassDown   EventKind = "mass-down"   // the view is frozen
	EventMassOver   EventKind = "mass-over"   // and no more
	EventIsolated   EventKind = "isolated"    // this node's own beats do not get through
	EventRejoined   EventKind = "rejoined"    // and do again, under the same incarnation or a new one
	EventLeaderHint EventKind = "leader-hint" // Member leads; the zero Member: nobody
)

// Diff tells what changed from one view to another of the same Group. It is pure. Order: mass-down, mass-over; members by ID,
// each with restarted or joined before its state; isolated, rejoined; leader-hint.
func Diff(from, to View) []Event {
	var out []Event
	group := func(kind EventKind, happened bool) {
		if happened {
			out = append(out, Event{Kind: kind})
		}
	}
	group(EventMassDown, to.Frozen && !from.Frozen)
	group(EventMassOver, from.Frozen && !to.Frozen)
	a, b := from.Members(), to.Members()
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && byID(a[0], b[0]) < 0:
			out = append(out, Event{Kind: EventGone, Old: a[0]})
			a = a[1:]
		case len(a) == 0 || byID(a[0], b[0]) > 0:
			out = appeared(out, b[0])
			b = b[1:]
		default:
			out = changed(out, a[0], b[0])
			a, b = a[1:], b[1:]
		}
	}
	group(EventIsolated, to.isolated && !from.isolated)
	group(EventRejoined, from.isolated && !to.isolated && to.Self)
	was, _ := from.Leader()
	if is, _ := to.Leader(); is.ID != was.ID || is.Incarnation != was.Incarnation {
		out = append(out, Event{Kind: EventLeaderHint, Member: is, Old: was})
	}
	return out
}

// appeared: a member that is Down or Unknown when first seen is told of once more.
func appeared(out []Event, m Member) []Event {
	out = append(out, Event{Kind: EventJoined, Member: m})
	if m.State != Up {
		out = append(out, Event{Kind: stateEvent(m), Member: m})
	}
	return out
}

func changed(out []Event, old, m Member) []Event {
	if old.alike(&m) {
		return out
	}
	n := len(out)
	if m.Incarnation != old.Incarnation {
		kind := EventRestarted
		if old.State == Down && old.Reason != Forced {
			kind = EventJoined
		}
		out = append(out, Event{Kind: kind, Member: m, Old: old})
	}
	if m.State != old.State || m.Reason == Left && old.Reason != Left {
		out = append(out, Event{Kind: stateEvent(m), Member: m, Old: old})
	}
	if len(out) == n {
		out = append(out, Event{Kind: EventChanged, Member: m, Old: old})
	}
	return out
}

func stateEvent(m Member) EventKind {
	switch {
	case m.Reason == Left:
		return EventLeft
	case m.State == Up:
		return EventUp
	case m.State == Down:
		return EventDown
	}
	return EventUnknown
}
