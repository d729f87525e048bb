package job

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// parked is the stored form of what a parked job waits for.
type parked struct {
	Want   *cond      `json:"want,omitempty"` // nil: never holds
	Expire *time.Time `json:"expire,omitempty"`
	Last   bool       `json:"last,omitempty"` // cancelled; it is final when its last child is
}

// cond is a tree of conditions; the zero one holds.
type cond struct {
	Any   []cond     `json:"any,omitempty"`
	All   []cond     `json:"all,omitempty"`
	Job   string     `json:"job,omitempty"`
	Topic string     `json:"topic,omitempty"`
	At    *time.Time `json:"at,omitempty"`
}

// park makes the stored form of c at now, for a job with these children.
func (c *conditions) park(now time.Time, children []string) *Parking {
	p := parked{}
	at := &Parking{}
	if len(c.want) > 0 {
		want := resolve(c.want, true, false, now, children, at)
		p.Want = &want
	}
	if c.expires {
		t := micro(now.Add(max(c.expire, 0)))
		p.Expire = &t
	}
	slices.Sort(at.Jobs)
	at.Jobs = slices.Compact(at.Jobs)
	at.Conditions, _ = json.Marshal(p) // of strings and times only
	at.WakeAt = p.next(now)
	return at
}

// resolve makes a tree of a group of wants, and collects what is to be joined and subscribed to. top: all jobs together are
// one condition of the group. single: one condition of the group is enough.
func resolve(ws []want, top, single bool, now time.Time, children []string, at *Parking) cond {
	var group, jobs []cond
	for i := range ws {
		w := &ws[i]
		switch {
		case w.topic != "":
			at.Topics = append(at.Topics, w.topic)
			group = append(group, cond{Topic: w.topic})
		case w.timed:
			t := micro(w.at)
			if w.at.IsZero() {
				t = micro(now.Add(w.after))
			}
			group = append(group, cond{At: &t})
		case w.any != nil:
			group = append(group, resolve(w.any, false, true, now, children, at))
		case w.all != nil:
			group = append(group, resolve(w.all, false, false, now, children, at))
		default:
			ids := w.jobs
			if w.children {
				ids = children
			}
			var of []cond
			for _, id := range ids {
				id, _ = canonicalID(id)
				at.Jobs = append(at.Jobs, id)
				of = append(of, cond{Job: id})
			}
			if len(of) == 0 {
				of = []cond{{}} // nothing to wait for: it holds
			}
			jobs = append(jobs, of...)
		}
	}
	if top && len(jobs) > 0 {
		jobs = []cond{{All: jobs}}
	}
	if group = append(group, jobs...); top || single {
		return cond{Any: group}
	}
	return cond{All: group}
}

// holds says whether c does, for a row as Signal answers it.
func (c *cond) holds(r *Row, now time.Time) bool {
	holds := func(o cond) bool { return o.holds(r, now) }
	switch {
	case c.Job != "":
		_, waits := slices.BinarySearch(r.Joins, c.Job)
		return !waits
	case c.Topic != "":
		return slices.ContainsFunc(r.Inbox, func(s Wake) bool { return s.Name == c.Topic })
	case c.At != nil:
		return !now.Before(*c.At)
	case c.Any != nil:
		return slices.ContainsFunc(c.Any, holds)
	}
	return !slices.ContainsFunc(c.All, func(o cond) bool { return !holds(o) })
}

// each calls f for c and all below it.
func (c *cond) each(f func(*cond)) {
	if c == nil {
		return
	}
	f(c)
	for i := range c.Any {
		c.Any[i].each(f)
	}
	for i := range c.All {
		c.All[i].each(f)
	}
}

// next is the first time after now that may change what holds; zero: none.
func (p *parked) next(now time.Time) time.Time {
	var next time.Time
	if p.Expire != nil {
		next = *p.Expire
	}
	p.Want.each(func(c *cond) {
		if c.At != nil && c.At.After(now) {
			next = earliest(next, *c.At)
		}
	})
	return next
}

// wakes are the reasons why the row may go on, nil: none. What is met by then is in it too.
func (p *parked) wakes(r *Row, now time.Time) []Wake {
	expired := p.Expire != nil && !now.Before(*p.Expire)
	named := map[string]bool{}
	p.Want.each(func(c *cond) { named[c.Topic] = true })
	called := slices.ContainsFunc(r.Inbox, func(s Wake) bool { return !named[s.Name] })
	if !expired && !called && (p.Want == nil || !p.Want.holds(r, now)) {
		return nil
	}
	ws := []Wake{}
	listed := map[string]bool{}
	timed := false
	p.Want.each(func(c *cond) {
		switch {
		case c.Job != "" && c.holds(r, now) && !listed[c.Job]:
			listed[c.Job] = true
			ws = append(ws, Wake{Why: "job", Name: c.Job})
		case c.At != nil && c.holds(r, now):
			timed = true
		}
	})
	ws = append(ws, r.Inbox...)
	if timed {
		ws = append(ws, Wake{Why: "time"})
	}
	if expired {
		ws = append(ws, Wake{Why: "expired"})
	}
	return ws
}

// wakeMove is what becomes of a parked row as Signal answers it; false: it stays as it is.
func wakeMove(r *Row, now time.Time) (Move, bool) {
	mv := Move{ID: r.ID, From: Parked, To: Ready, Epoch: r.Epoch}
	if r.State != Parked {
		return mv, false
	}
	if r.Flags&(Held|Poisoned) != 0 {
		if !slices.ContainsFunc(r.Inbox, func(s Wake) bool { return strings.HasPrefix(s.Name, "job/") }) {
			return mv, false
		}
		mv.Unmark, mv.ResetLost = Held|Poisoned, r.Flags&Poisoned != 0
		mv.Wakes = []Wake{{Why: "operator"}}
		for _, s := range r.Inbox {
			if s.Name != JobTopic(r.ID) || len(s.Payload) > 0 {
				mv.Wakes = append(mv.Wakes, s)
			}
		}
		return mv, true
	}
	var p parked
	if len(r.Conditions) == 0 || json.Unmarshal(r.Conditions, &p) != nil {
		return mv, false
	}
	if p.Last {
		mv.To, mv.Error = Cancelled, cancelError(r.CancelReason)
		return mv, len(r.Joins) == 0
	}
	if mv.Wakes = p.wakes(r, now); mv.Wakes != nil {
		return mv, true
	}
	if r.WakeAt.IsZero() || r.WakeAt.After(now) {
		return mv, false
	}
	mv.To = Parked // one of several times has come: not enough
	mv.Park = &Parking{Conditions: r.Conditions, WakeAt: p.next(now)}
	return mv, true
}
