package servicegroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// Announce tells the others, at once, whether this node takes new work: Meta["draining"] is "true" or absent. Not joined yet,
// it is told with the join. The error is the driver's.
func (g *Group) Announce(ctx context.Context, accepting bool) error {
	g.mu.Lock()
	meta := maps.Clone(g.meta)
	g.mu.Unlock()
	if meta == nil {
		meta = map[string]string{}
	}
	delete(meta, draining)
	if !accepting {
		meta[draining] = "true"
	}
	return g.SetMeta(ctx, meta)
}

// SetMeta replaces what others know of this node, at once, or with the join. [ErrMeta] if it is too large; else the error is the
// driver's, and the next beat tells it.
func (g *Group) SetMeta(ctx context.Context, meta map[string]string) error {
	if err := checkMeta(meta); err != nil {
		return err
	}
	g.mu.Lock()
	g.meta = maps.Clone(meta)
	member := g.self.phase == joined
	g.mu.Unlock()
	if !member {
		return nil
	}
	err := g.inTurn(ctx, g.attempt)
	poke(g.wakes.beat) // it may be due at another time now
	return err
}

// Mark sets or, with "", takes away an operator's mark; the ID need not have joined. [ErrUnsupported] if the driver keeps none.
func (g *Group) Mark(ctx context.Context, id string, m Mark) error {
	if err := checkID(id); err != nil {
		return err
	}
	if m != "" && m != ForcedDown && m != MaintenanceMark {
		return fmt.Errorf("%w: Mark: %.40q is neither %q nor %q", ErrConfig, m, ForcedDown, MaintenanceMark)
	}
	d, ok := g.cfg.Driver.(Marker)
	if !ok {
		return fmt.Errorf("%w: marks", ErrUnsupported)
	}
	if err := guard(func() error { return d.Mark(ctx, g.cfg.Group, id, m) }); err != nil {
		return err
	}
	g.log.Info("marked", "member", id, "mark", m)
	return g.after(ctx)
}

// Forget removes the record of a member that is Down. One that is not is [ErrTaken], except with ban, which shuts the ID out:
// a process that has it gets [ErrFenced]. Forget without ban lifts a ban.
func (g *Group) Forget(ctx context.Context, id string, ban bool) error {
	if err := checkID(id); err != nil {
		return err
	}
	d, ok := g.cfg.Driver.(Forgetter)
	if !ok {
		return fmt.Errorf("%w: forgetting", ErrUnsupported)
	}
	if err := g.read(ctx); err != nil {
		return err
	}
	if m, ok := g.view.Load().Member(id); ok && m.State != Down && !ban {
		return fmt.Errorf("%w: %s is %s", ErrTaken, id, m.State)
	}
	if err := guard(func() error { return d.Forget(ctx, g.cfg.Group, id, ban) }); err != nil {
		return err
	}
	g.log.Info("forgotten", "member", id, "ban", ban)
	g.mu.Lock()
	g.known.drop(Fold(id))
	g.mu.Unlock()
	return g.after(ctx)
}

// after shows the effect of what an operator did in the view. That it cannot be read is no error of the deed.
func (g *Group) after(ctx context.Context) error {
	_ = g.read(ctx) // logged
	g.deliverAll()
	return nil
}

// ConfirmDown says of members that the mass guard holds that they are down indeed: Down, Late, on this node at once, and on the others
// with their next read, for it is noted in the members' records; a driver that is no [Marker] keeps it to this node. It holds until the
// member beats. Members that are Down already stay so; one that is Up is [ErrTaken], one that is not known [ErrNotMember], and then
// nothing is done. Else the error is the driver's, and some may have been confirmed.
func (g *Group) ConfirmDown(ctx context.Context, ids ...string) error {
	held, err := g.held(ids)
	if err != nil {
		return err
	}
	for _, m := range held {
		d, ok := g.cfg.Driver.(Marker)
		if !ok {
			break
		}
		err := guard(func() error { return d.Mark(ctx, g.cfg.Group, m.ID, m.confirmation()) })
		if err != nil && !errors.Is(err, ErrUnsupported) {
			return err
		}
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range held {
		if t := g.known.by[Fold(m.ID)]; t != nil && t.rec.Incarnation == m.Incarnation && t.rec.Beat == m.Beat {
			t.confirmed = t.held
		}
		g.log.Info("confirmed down", "member", m.ID)
	}
	g.judge(g.reader.last, false)
	g.publish(now)
	return nil
}

// held gives those of ids that the mass guard holds.
func (g *Group) held(ids []string) (ms []Member, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		switch t := g.known.by[Fold(id)]; {
		case t == nil:
			return nil, fmt.Errorf("%w: %.140q", ErrNotMember, id)
		case t.state == Up:
			return nil, fmt.Errorf("%w: %s is up", ErrTaken, id)
		case t.held:
			ms = append(ms, t.rec)
		}
	}
	return ms, nil
}

// confirmed begins the mark of a member that ConfirmDown called down; it names the incarnation and beat that it was said of.
const confirmed = "confirmed-down:"

func (m *Member) confirmation() Mark {
	return Mark(fmt.Sprintf("%s%d:%d", confirmed, m.Incarnation, m.Beat))
}

// confirms says that c, a mark, was said of what is known of m now.
func (m *Member) confirms(c Mark) bool {
	var incarnation, beat int64
	if _, err := fmt.Sscanf(string(c), confirmed+"%d:%d", &incarnation, &beat); err != nil {
		return false
	}
	return m.Incarnation < incarnation || m.Incarnation == incarnation && (m.Beat <= beat || m.Age == Forever)
}
