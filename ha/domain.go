package ha

import (
	"slices"
	"strings"
	"time"
)

// stormy is how long hosts that vanish count together, and how long a storm is remembered after it.
const stormy = time.Minute

// domain is a failure domain as this Decide sees it.
type domain struct {
	DomainRecord
	mine    bool
	base    int // hosts that should be there
	missing int // of these, went missing in the last minute, or in this storm
	active  int // of these, are not settled yet
	fencing int
}

// pace counts the domains and decides on their modes.
func (d *decider) pace() {
	for _, r := range d.s.Domains {
		d.domains = append(d.domains, domain{DomainRecord: r})
	}
	for i := range d.s.Hosts {
		d.count(&d.s.Hosts[i])
	}
	for i := range d.domains {
		if dom := &d.domains[i]; dom.mine {
			d.mode(dom)
		}
	}
}

// domain is that of h.
func (d *decider) domain(h Host) *domain {
	id := h.domain()
	i, ok := slices.BinarySearchFunc(d.domains, id, func(x domain, id string) int { return strings.Compare(x.ID, id) })
	if !ok {
		d.domains = slices.Insert(d.domains, i, domain{DomainRecord: DomainRecord{ID: id}})
	}
	return &d.domains[i]
}

func (d *decider) count(h *Watched) {
	dom := d.domain(h.Host)
	dom.mine = dom.mine || h.Mine
	from := d.s.Store
	if dom.Mode != Normal {
		from = dom.Since
	}
	recent := !h.Lost.IsZero() && !h.Lost.Before(from.Add(-stormy))
	switch h.State {
	case Up, Draining, Degraded, Rejoining:
		dom.base++
	case Suspect, Investigating, Checking, Repairing, Condemned, Fencing, Blocked:
		dom.base++
		if recent {
			dom.missing++
		}
		if recent && h.State != Blocked {
			dom.active++
		}
		if h.State == Fencing {
			dom.fencing++
		}
	case Fenced, Offline:
		if recent {
			dom.base++
			dom.missing++
		}
	}
}

// wanted is the mode that the counts ask for.
func (d *decider) wanted(dom *domain) Mode {
	n, of := dom.missing, float64(dom.base)
	switch {
	case dom.active == 0:
		return Normal
	case n >= 3 && float64(n) >= d.p.FreezeRatio*of, n == dom.base && n >= 2:
		return Frozen
	case n >= 3 && float64(n) >= d.p.SlowRatio*of:
		return Slow
	}
	return Normal
}

var rank = map[Mode]int{Normal: 0, Slow: 1, Frozen: 2}

// mode begins a storm at once, and ends it when it has been over for a minute.
func (d *decider) mode(dom *domain) {
	want, at := d.wanted(dom), d.s.Store
	r := dom.DomainRecord
	switch {
	case rank[want] > rank[r.Mode]:
		if r.Mode == Normal {
			r.Since = at
		}
		r.Mode, r.Below = want, time.Time{}
	case want == r.Mode:
		if r.Below.IsZero() {
			return
		}
		r.Below = time.Time{}
	case r.Below.IsZero():
		r.Below = at
		d.in(stormy)
	case !d.due(r.Below.Add(stormy)):
		return
	default:
		r.Mode, r.Below = want, time.Time{}
		if want == Normal {
			r.Since, r.Thawed = at, at
		}
	}
	if r.Mode == Frozen && dom.Mode != Frozen {
		d.act(Action{Kind: Alarm, Text: "domain " + r.ID + " is frozen: too many of its hosts vanished together, none is fenced"})
	}
	dom.DomainRecord = r
	d.act(Action{Kind: Pace, Domain: &r})
	d.in(0)
}

// grant gives the domain's record after a fencing of h has begun, nil if none may begin now.
func (d *decider) grant(h *Watched) *DomainRecord {
	dom := d.domain(h.Host)
	every := d.p.FenceEvery
	switch {
	case dom.Mode == Frozen && (!h.Evident || d.p.FrozenProofWaits), dom.fencing > 0:
		return nil
	case dom.Mode != Normal:
		every = d.p.FenceEverySlow
	}
	if !d.due(dom.Next) || !dom.Thawed.IsZero() && !d.due(dom.Thawed.Add(d.p.silence(1))) {
		return nil
	}
	dom.fencing++
	dom.Next = d.s.Store.Add(every)
	r := dom.DomainRecord
	return &r
}
