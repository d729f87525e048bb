package drover

import (
	"fmt"
	"slices"
	"time"
)

const healthTimeout = 100 * time.Millisecond

// Status is what the Group knows of each component, in order of Add. A Group in it is followed by its own components.
func (g *Group) Status() []Status {
	health := g.Health()
	var out []Status
	g.mu.Lock()
	parts := slices.Clone(g.parts)
	g.mu.Unlock()
	for _, p := range parts {
		g.mu.Lock()
		s := Status{Name: p.name, State: p.state, Since: p.since, Restarts: p.restarts, Err: p.err}
		inner, _ := p.comp.(*Group)
		g.mu.Unlock()
		if due := p.due.Load(); due != 0 {
			s.Next = time.Unix(0, due)
		}
		out = append(out, s)
		if inner != nil {
			for _, in := range inner.Status() {
				in.Name = p.name + "/" + in.Name
				out = append(out, in)
			}
		}
	}
	for i := range out {
		for _, h := range health {
			if h.Name == out[i].Name {
				out[i].Health = h
			}
		}
	}
	return out
}

// Health is how the components are, in order of Add: what a Reporter says of itself while it runs, else what the Group
// knows. A Reporter that does not answer within 100 ms, or panics, is degraded; it is not asked again while it hangs.
func (g *Group) Health() []Health {
	g.mu.Lock()
	parts := slices.Clone(g.parts)
	clock := g.env.Clock
	g.mu.Unlock()
	answers := make([]chan Health, len(parts))
	for i, p := range parts {
		answers[i] = p.ask()
	}
	var out []Health
	var limit <-chan time.Time
	for i, p := range parts {
		h, inner := p.health()
		if answers[i] != nil {
			if limit == nil {
				limit = clock.After(healthTimeout)
			}
			var hung bool
			h, hung = answer(h, answers[i], limit)
			if hung {
				past := make(chan time.Time)
				close(past)
				limit = past
			}
		}
		out = append(out, h)
		if inner != nil {
			for _, in := range inner.Health() {
				in.Name = p.name + "/" + in.Name
				out = append(out, in)
			}
		}
	}
	return out
}

// ask starts the goroutine that asks p's component, unless the one before hangs. Nil if p is no Reporter or does not run.
func (p *part) ask() chan Health {
	p.g.mu.Lock()
	r, ok := p.comp.(Reporter)
	busy := p.asking
	p.asking = ok
	p.g.mu.Unlock()
	if !ok {
		return nil
	}
	to := make(chan Health, 1)
	if busy {
		return to
	}
	p.g.env.Go(p.path+"/health", func() {
		var h Health
		err := guarded(func() error { h = r.Health(); return nil })
		if err != nil {
			h = Health{State: "degraded", Err: fmt.Errorf("drover: health of %s: %w", p.path, err)}
		}
		p.g.mu.Lock()
		p.asking = false
		p.g.mu.Unlock()
		to <- h
	})
	return to
}

// answer is the answer of a Reporter, or known made degraded when there is none in time.
func answer(known Health, from <-chan Health, limit <-chan time.Time) (h Health, hung bool) {
	select {
	case h = <-from:
	default:
		select {
		case h = <-from:
		case <-limit:
			known.State, known.Err = "degraded", fmt.Errorf("drover: health of %s does not answer", known.Name)
			return known, true
		}
	}
	if h.State == "" {
		return known, false
	}
	h.Name = known.Name
	return h, false
}

// health is what the Group knows of p, and p's component when that is a Group.
func (p *part) health() (Health, *Group) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	inner, _ := p.comp.(*Group)
	return Health{Name: p.name, State: p.state, Err: p.err, Since: p.since}, inner
}
