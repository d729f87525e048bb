package servicegroup

import (
	"slices"
	"time"
)

// View is an immutable snapshot of the group as this node sees it. The zero value is an empty one.
type View struct {
	Version           int64    // grows with every change, on this node; what a beat alone changes does not count
	Up, Down, Unknown []Member // sorted by ID
	Self              bool     // are we ourselves in good standing?
	Frozen            bool     // too many vanished at once: nobody is turned Down for lateness
	At                time.Time

	isolated bool
	critical bool
	self     string             // folded own ID, "" when not joined
	index    map[string]*Member // by folded ID
}

// IsUp tells whether the member of that ID is Up, and not stalled where Config.Critical is set.
func (v View) IsUp(id string) bool { return v.isUp(id) }

func (v *View) isUp(id string) bool {
	m := v.index[id]
	if m == nil {
		m = v.index[Fold(id)]
	}
	return m != nil && m.State == Up && (!v.critical || m.Reason != Stalled)
}

// Member is the member of that ID.
func (v View) Member(id string) (Member, bool) {
	m := v.index[Fold(id)]
	if m == nil {
		return Member{}, false
	}
	return *m, true
}

// Members are all, sorted by ID.
func (v View) Members() []Member {
	all := slices.Concat(v.Up, v.Down, v.Unknown)
	slices.SortFunc(all, byID)
	return all
}

// Leader is the member that is Up, not stalled and not marked, with the lowest (Joined, ID); of this node only while Self
// holds. It is a hint to avoid double effort: everywhere the same once views agree, maybe two for a while. A lock is package
// lease's.
func (v View) Leader() (leader Member, found bool) {
	for i := range v.Up {
		m := &v.Up[i]
		if m.Reason != Beat || m.Mark != "" || !v.Self && v.self != "" && Fold(m.ID) == v.self {
			continue
		}
		if !found || m.Joined.Before(leader.Joined) { // Up is sorted by ID
			leader, found = *m, true
		}
	}
	return leader, found
}

func byID(a, b Member) int {
	switch x, y := Fold(a.ID), Fold(b.ID); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
