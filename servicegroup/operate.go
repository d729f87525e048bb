package servicegroup

import (
	"context"
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

// ConfirmDown says of members that the mass guard holds, on this node, that they are down indeed: Down, Late. Members that are
// Down already stay so; one that is Up is [ErrTaken], one that is not known [ErrNotMember], and then nothing is done.
func (g *Group) ConfirmDown(_ context.Context, ids ...string) error {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		switch t := g.known.by[Fold(id)]; {
		case t == nil:
			return fmt.Errorf("%w: %.140q", ErrNotMember, id)
		case t.state == Up:
			return fmt.Errorf("%w: %s is up", ErrTaken, id)
		}
	}
	for _, id := range ids {
		t := g.known.by[Fold(id)]
		t.confirmed = t.held
		g.log.Info("confirmed down", "member", id)
	}
	g.judge(g.reader.last, false)
	g.publish(now)
	return nil
}
