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
		s.Next = p.next()
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
	asks := make([]*ask, len(parts))
	for i, p := range parts {
		asks[i] = p.ask()
	}
	var out []Health
	limit := &deadline{}
	for i, p := range parts {
		h, inner := p.health()
		if asks[i] != nil {
			if limit.timer == nil {
				limit.timer = clock.After(healthTimeout)
			}
			h = asks[i].answer(h, limit)
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

// ask is one question to a Reporter; all who want to know at the same time share it.
type ask struct {
	done chan struct{}
	h    Health // once done
}

// ask asks p's component, unless the answer to an earlier question is still due. Nil if p is no Reporter or does not run.
func (p *part) ask() *ask {
	p.g.mu.Lock()
	r, ok := p.comp.(Reporter)
	a := p.asked
	fresh := ok && (a == nil || isClosed(a.done))
	if fresh {
		a = &ask{done: make(chan struct{})}
		p.asked = a
	}
	p.g.mu.Unlock()
	if !ok {
		return nil
	}
	if fresh {
		p.g.env.Go(p.path+"/health", func() {
			defer close(a.done)
			if err := guarded(func() error { a.h = r.Health(); return nil }); err != nil {
				a.h = Health{State: "degraded", Err: fmt.Errorf("drover: health of %s: %w", p.path, err)}
			}
		})
	}
	return a
}

// deadline is one limit for several answers.
type deadline struct {
	timer  <-chan time.Time
	passed bool
}

// answer is what the Reporter says, or known made degraded when it says nothing in time.
func (a *ask) answer(known Health, limit *deadline) Health {
	if !isClosed(a.done) && !limit.passed {
		select {
		case <-a.done:
		case <-limit.timer:
			limit.passed = true
		}
	}
	if !isClosed(a.done) {
		known.State, known.Err = "degraded", fmt.Errorf("drover: health of %s does not answer", known.Name)
		return known
	}
	h := a.h
	if h.State == "" {
		return known
	}
	h.Name = known.Name
	return h
}

// health is what the Group knows of p, and p's component when that is a Group.
func (p *part) health() (Health, *Group) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	inner, _ := p.comp.(*Group)
	return Health{Name: p.name, State: p.state, Err: p.err, Since: p.since}, inner
}
