package servicegroup

import "time"

// refresh publishes if time, or the own membership, has changed something. The caller holds mu.
func (g *Group) refresh(now time.Time) {
	s := &g.self
	standing := s.phase == joined && now.Before(s.until)
	if standing != s.standing || s.isolated != g.view.Load().isolated || g.stale(now) != g.reader.stale {
		g.publish(now)
	}
}

// publish makes the view of what is known now, and a new version of it if anything has changed that watchers are told of.
// The caller holds mu.
func (g *Group) publish(now time.Time) {
	old := g.view.Load()
	s := &g.self
	standing := s.phase == joined && now.Before(s.until)
	if s.phase == joined && s.standing && !standing && !s.isolated {
		s.isolated = true
		g.log.Error("isolated: own beats do not get through", "err", s.err)
	}
	s.standing, g.reader.stale = standing, g.stale(now)
	v := &View{
		Version: old.Version, Self: standing, Frozen: g.known.frozen, At: now, isolated: s.isolated, critical: g.cfg.Critical,
		index: make(map[string]*Member, len(g.known.keys)),
	}
	if g.cfg.Interval > 0 {
		v.self = Fold(g.cfg.ID)
	}
	g.fill(v, g.reader.stale)
	same := len(v.index) == len(old.index) && v.Self == old.Self && v.Frozen == old.Frozen && v.isolated == old.isolated
	for key, m := range v.index {
		if !same {
			break
		}
		before := old.index[key]
		same = before != nil && before.alike(m)
	}
	if !same {
		v.Version++
		g.meters.changed(old, v)
	}
	g.view.Store(v)
	if !same {
		g.watched.offer(v)
	}
}

// fill sorts the members into v; stale ones are Unknown unless the driver need not be asked.
func (g *Group) fill(v *View, stale bool) {
	lists := [3][]Member{}
	size := [3]int{}
	state := func(t *track) (State, Reason) {
		if stale && t.reason != Forced && t.reason != Left {
			return Unknown, DriverError
		}
		return t.state, t.reason
	}
	for _, key := range g.known.keys {
		st, _ := state(g.known.by[key])
		size[st]++
	}
	for i, n := range size {
		lists[i] = make([]Member, 0, n)
	}
	for _, key := range g.known.keys {
		t := g.known.by[key]
		m := t.rec
		m.State, m.Reason = state(t)
		lists[m.State] = append(lists[m.State], m)
		v.index[key] = &lists[m.State][len(lists[m.State])-1]
	}
	v.Unknown, v.Up, v.Down = lists[Unknown], lists[Up], lists[Down]
}
