package servicegroup

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// probe is what Exclusive watches before a join.
type probe struct {
	seen map[string]Member // by folded ID
	over bool
}

// settleProbe is part of each join: how long is still to be waited, or ErrTaken. The first look finds the records that may
// stand in the way, the second, 1.5 × Interval later, whether they live.
func (g *Group) settleProbe(ctx context.Context) (wait time.Duration, err error) {
	g.mu.Lock()
	p := g.self.probe
	rejoin := g.self.member.Incarnation != 0
	g.mu.Unlock()
	if !g.cfg.Exclusive || rejoin || p != nil && p.over {
		return 0, nil
	}
	var all []Member
	if err := guard(func() (err error) { all, err = g.cfg.Driver.Members(ctx, g.cfg.Group); return err }); err != nil {
		return 0, err
	}
	if p == nil {
		p = &probe{seen: map[string]Member{}}
		for _, m := range all {
			if g.rival(m) != "" {
				p.seen[Fold(m.ID)] = m
			}
		}
		if len(p.seen) > 0 {
			wait = g.cfg.Interval * 3 / 2
		}
	} else {
		for _, field := range []string{"ID", "Addr"} {
			for _, m := range all {
				if old, ok := p.seen[Fold(m.ID)]; ok && g.rival(m) == field && lives(old, m) {
					return 0, fmt.Errorf("%w: %s by %s at %q, age %v, version %q", ErrTaken, field, m.ID, m.Addr, m.Age, m.Version)
				}
			}
		}
	}
	p.over = wait == 0
	g.mu.Lock()
	g.self.probe = p
	g.mu.Unlock()
	return wait, nil
}

// rival tells in which field m stands in the way, "" if not.
func (g *Group) rival(m Member) string {
	addr := func(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
	switch {
	case m.Incarnation == 0 || m.Reason == Left || m.Lapsed || m.Instance == g.instance:
		return ""
	case Fold(m.ID) == Fold(g.cfg.ID):
		return "ID"
	case addr(m.Addr) != "" && addr(m.Addr) == addr(g.cfg.Addr):
		return "Addr"
	}
	return ""
}

// lives: it beat or joined between the two looks, or its presence says so.
func lives(old, m Member) bool {
	return old.Beat != m.Beat || old.Incarnation != m.Incarnation || m.Beat == 0 && m.Age == 0
}
