package servicegroup

import (
	"slices"
	"strings"
	"time"
)

const (
	lapseWait = 2 * time.Second // lapsed members are judged together with those that lapse within it
	longDead  = 10              // × Down: silent for longer at the first read is Down without a doubt
)

// track is what is known of a member.
type track struct {
	rec     Member
	changed time.Time // when its incarnation or beat was last seen to change, or a pause of reading ended
	upAt    time.Time // when it was last judged Up
	lapsed  time.Time // since when
	heldAt  time.Time
	state   State
	reason  Reason

	fresh     bool // seen for the first time
	moved     bool // its incarnation or beat changed with the last read
	absent    bool // not in the last read
	late      bool // Down for lateness: only a beat changes that
	warm      bool // Unknown, WarmUp: silent when first seen, but so was the driver
	held      bool // Unknown, Mass
	confirmed bool // an operator says it is down
}

// tracks are the members known, guarded by Group.mu.
type tracks struct {
	by     map[string]*track // by folded ID
	keys   []string          // sorted
	frozen bool
	thaw   time.Time // since when the suspects are few enough
}

func (k *tracks) init() { k.by = map[string]*track{} }

func (k *tracks) drop(key string) {
	if k.by[key] != nil {
		delete(k.by, key)
		k.keys = slices.DeleteFunc(k.keys, func(s string) bool { return s == key })
	}
}

// absorb takes over what a read that started at at has found; gap says that reads were missing before it.
func (k *tracks) absorb(all []Member, at time.Time, gap bool) {
	for _, t := range k.by {
		t.absent, t.moved, t.fresh = true, false, false
		if gap {
			t.changed, t.heldAt, k.thaw = at, at, time.Time{}
		}
	}
	added := false
	for _, m := range all {
		key := Fold(m.ID)
		t := k.by[key]
		switch {
		case m.Incarnation == 0 && m.Mark != ForcedDown:
			continue
		case t == nil:
			t = &track{fresh: true, moved: true, changed: at}
			k.by[key], k.keys, added = t, append(k.keys, key), true
		case !t.absent && m.Incarnation < t.rec.Incarnation: // two of one ID
			continue
		case m.Age == Forever && m.Incarnation == t.rec.Incarnation: // only that it is not there
			m = t.rec.missing(m)
		case m.Incarnation != t.rec.Incarnation || m.Beat != t.rec.Beat || m.Beat == 0 && m.Age == 0 && !m.Lapsed:
			t.moved, t.changed = true, at
		}
		t.absent, t.rec = false, m
		if strings.HasPrefix(string(m.Mark), confirmed) { // no mark for the eye
			t.rec.Mark, t.confirmed = "", t.rec.confirms(m.Mark)
		}
		if !m.Lapsed {
			t.lapsed = time.Time{}
		} else if t.lapsed.IsZero() {
			t.lapsed = at
		}
	}
	if added {
		slices.Sort(k.keys)
	}
	for _, key := range slices.Clone(k.keys) {
		if t := k.by[key]; t.absent {
			t.rec.Age = Forever
			if t.state == Down {
				k.drop(key)
			}
		}
	}
}

// missing is m with what now, absent, says: the driver may know no more than that, nor that m had left.
func (m Member) missing(now Member) Member {
	m.Age, m.Lapsed, m.Mark = now.Age, now.Lapsed, now.Mark
	if m.Reason != Left {
		m.State, m.Reason = now.State, now.Reason
	}
	return m
}

// verdict of the rules that look at one member.
type verdict int

const (
	isUp verdict = iota
	isDown
	candidate // for Down: the guard decides
	waiting   // a candidate soon
	unsure    // Unknown for now
)

// judge turns the evidence of the read that started at at into states. The caller holds mu.
func (g *Group) judge(at time.Time, first bool) {
	k := &g.known
	verdicts := make([]verdict, len(k.keys))
	count := guarded{}
	for i, key := range k.keys {
		t := k.by[key]
		verdicts[i] = g.verdict(t, at, first)
		g.count(&count, t, verdicts[i], at)
	}
	g.freeze(count, at)
	for i, key := range k.keys {
		t := k.by[key]
		switch v := verdicts[i]; {
		case v == waiting:
			g.dueBy(t.lapsed.Add(lapseWait))
		case v == isUp:
			t.state, t.reason, t.upAt = Up, Beat, at
			if t.rec.Health.State == "failing" && g.cfg.Critical {
				t.reason = Stalled
			}
			t.late, t.held, t.confirmed, t.warm = false, false, false, false
		case v == unsure:
			t.state, t.reason, t.warm = Unknown, WarmUp, true
		case v == candidate && k.frozen && !t.confirmed && !g.overdue(t, at):
			if !t.held {
				t.held, t.heldAt = true, at
			}
			t.state, t.reason = Unknown, Mass
		default:
			g.fell(t)
		}
		if t.rec.Mark == MaintenanceMark && t.reason != Left {
			t.reason = Maintenance
		}
	}
}

// fell makes t Down, for the reason its record gives.
func (g *Group) fell(t *track) {
	t.state, t.held, t.confirmed, t.warm = Down, false, false, false
	switch {
	case t.rec.Mark == ForcedDown:
		t.reason = Forced
	case t.rec.Reason == Left:
		t.reason = Left
	default:
		t.reason, t.late = Late, true
	}
}

// verdict is the rules of the spec in their order. quiet is this node's own evidence, Age the driver's.
func (g *Group) verdict(t *track, at time.Time, first bool) verdict {
	down, quiet, age := g.cfg.Down, at.Sub(t.changed), t.rec.Age
	lapsed := t.rec.Lapsed && !t.absent
	switch {
	case t.rec.Mark == ForcedDown || t.rec.Reason == Left:
		return isDown
	case t.late && !t.moved:
		return isDown
	case t.fresh && age > down && first && g.reader.outage:
		return unsure
	case t.warm && !t.moved && age > down && quiet <= down-g.cfg.every():
		return unsure
	case t.fresh && age > down && (!first || age > longDead*down):
		return isDown
	case t.fresh && age <= down && !lapsed:
		return isUp
	case t.fresh || t.held && !t.moved:
	case lapsed && at.Sub(t.lapsed) < lapseWait:
		return waiting
	case lapsed:
	case age < -down && quiet <= down, age >= -down && age <= down, age > down && quiet <= down-g.cfg.every():
		return isUp
	}
	if t.rec.Mark == MaintenanceMark {
		return isDown
	}
	return candidate
}

// guarded are the numbers that the mass guard looks at.
type guarded struct {
	base, suspects, open, held int
}

// count adds t; marked members count for nothing.
func (g *Group) count(c *guarded, t *track, v verdict, at time.Time) {
	if t.rec.Mark != "" || v == isDown || v == unsure {
		return
	}
	recent := !t.upAt.IsZero() && at.Sub(t.upAt) <= g.cfg.Down
	if v == isUp || recent || t.held || t.fresh {
		c.base++
	}
	switch {
	case v == candidate && t.confirmed:
		c.held++
	case v == candidate:
		c.suspects++
		if !g.overdue(t, at) {
			c.open++
		}
	case v == waiting, at.Sub(t.changed) > g.cfg.Down/2:
		c.suspects++
	}
}

// overdue: it was held for MassHold.
func (g *Group) overdue(t *track, at time.Time) bool {
	return g.cfg.MassHold > 0 && t.held && at.Sub(t.heldAt) >= g.cfg.MassHold
}

// freeze starts or ends the mass guard.
func (g *Group) freeze(c guarded, at time.Time) {
	k := &g.known
	many := float64(c.suspects) > g.cfg.MassFraction*float64(c.base)
	switch {
	case !k.frozen && many && c.open > 0 && c.suspects >= g.cfg.MassMin:
		k.frozen, k.thaw = true, time.Time{}
		g.log.Warn("mass-down: too many members fell silent together, none is called down", "suspects", c.suspects, "of", c.base)
	case !k.frozen:
	case c.held > 0 && c.open == 0:
		g.melt("confirmed")
	case many:
		k.thaw = time.Time{}
	case k.thaw.IsZero():
		k.thaw = at
	case at.Sub(k.thaw) >= g.cfg.every()*9/10: // reads come each Interval, give or take their duration
		g.melt("members are back")
	}
}

func (g *Group) melt(why string) {
	g.known.frozen = false
	g.log.Warn("mass-down is over: "+why, "frozen", false)
}

// dueBy makes the next read happen no later than t. The caller holds mu.
func (g *Group) dueBy(t time.Time) {
	if t.Before(g.reader.due) {
		g.reader.due = t
		poke(g.wakes.read)
	}
}
