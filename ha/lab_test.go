package ha

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// lab applies what Decide says to a Snapshot, as a monitor does to its store. Its two clocks are a day apart.
type lab struct {
	t   testing.TB
	s   Snapshot
	now time.Time
	log []string
	// probe answers at once if it is set.
	probe func(host string) []Finding
	plain bool                          // trust Decide to be pure: elsewhere that is looked at
	each  func(s Snapshot, as []Action) // is told of every decision
}

var storeStart = time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)

func newLab(t testing.TB, hosts int, p Policy) *lab {
	t.Helper()
	p = p.Defaults()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, now: storeStart.Add(-24 * time.Hour)}
	l.s = Snapshot{Policy: p, Store: storeStart, Self: Self{Owner: "m1", Good: l.now.Add(-time.Hour), Score: 1}, Slots: 1000}
	for i := range hosts {
		r := Record{Host: Host{ID: fmt.Sprintf("h%02d", i), Cluster: "c"}, State: Up, Version: 1, Owner: "m1", Incarnation: 1, Since: storeStart.Add(-time.Hour)}
		l.s.Hosts = append(l.s.Hosts, Watched{Record: r, Mine: true, Seen: Seen{Since: l.now.Add(-time.Hour), Last: l.now}})
	}
	return l
}

func (l *lab) h(i int) *Watched { return &l.s.Hosts[i] }

// pass lets d go by on both clocks.
func (l *lab) pass(d time.Duration) { l.now, l.s.Store = l.now.Add(d), l.s.Store.Add(d) }

// beat has hosts beat.
func (l *lab) beat(is ...int) {
	for _, i := range is {
		h := l.h(i)
		l.beats(i, Beat{Host: h.Host.ID, Incarnation: h.Incarnation, Seq: h.Seq + 1, Healthy: true})
	}
}

func (l *lab) beats(i int, b Beat) {
	s := &l.h(i).Seen
	s.Beat, s.Last, s.Sick = &b, l.now, !b.Healthy
}

// step decides and applies until nothing is left to do at this instant, and gives what was done.
func (l *lab) step() []string {
	l.t.Helper()
	from := len(l.log)
	for range 100 {
		look := func() string { // of thousands it would take too long
			if len(l.s.Hosts) > 50 || l.plain {
				return ""
			}
			return fmt.Sprintf("%+v", l.s)
		}
		before := look()
		as := Decide(l.s, l.now)
		if !l.plain {
			if again := Decide(l.s, l.now); !reflect.DeepEqual(as, again) {
				l.t.Fatalf("Decide twice: %+v and %+v", as, again)
			}
		}
		if before != look() {
			l.t.Fatal("Decide has changed the Snapshot")
		}
		if l.each != nil {
			l.each(l.s, as)
		}
		for i := range l.s.Hosts {
			s := &l.s.Hosts[i].Seen
			s.Beat, s.Hinted, s.Sample, s.Repair = nil, false, nil, nil
		}
		busy := false
		for _, a := range as {
			busy = l.apply(a) || busy
		}
		if !busy {
			return l.log[from:]
		}
	}
	l.t.Fatalf("no end: %q", l.log[from:])
	return nil
}

// apply does one action; false: it changes nothing that Decide looks at.
func (l *lab) apply(a Action) bool {
	l.t.Helper()
	if a.Kind != Wake {
		l.log = append(l.log, a.line())
	}
	if a.Record != nil {
		h := l.s.find(a.Host)
		if h.Version != a.Record.Version {
			l.t.Fatalf("%+v is based on version %d, not %d", a, a.Record.Version, h.Version)
		}
		h.Record = *a.Record
		h.Version++
	}
	if a.Domain != nil {
		i := slices.IndexFunc(l.s.Domains, func(d DomainRecord) bool { return d.ID == a.Domain.ID })
		if i < 0 {
			l.s.Domains = append(l.s.Domains, DomainRecord{})
			i = len(l.s.Domains) - 1
		}
		l.s.Domains[i] = *a.Domain
		slices.SortFunc(l.s.Domains, func(a, b DomainRecord) int { return strings.Compare(a.ID, b.ID) })
	}
	if a.Row != nil {
		for i := range l.s.Rows {
			if l.s.Rows[i].ID == a.Row.ID {
				l.s.Rows[i] = *a.Row
			}
		}
	}
	switch a.Kind {
	case Look:
		h := l.s.find(a.Host)
		h.Seen.Probe = &Probe{Attempt: fmt.Sprint(len(l.log)), Began: l.now}
		if l.probe != nil {
			h.Seen.Probe.Findings, h.Seen.Probe.Ended = l.probe(a.Host), l.now
		}
	case Connect:
		l.s.find(a.Host).Seen.Connecting = true
	case Measure:
		l.s.find(a.Host).Seen.Asking = true
	case Alarm, Wake:
		return false
	}
	return true
}

func (s *Snapshot) find(id string) *Watched {
	for i := range s.Hosts {
		if s.Hosts[i].Host.ID == id {
			return &s.Hosts[i]
		}
	}
	return nil
}

// line is an action in a transcript.
func (a Action) line() string {
	var s string
	switch a.Kind {
	case Move:
		s = fmt.Sprintf("%s %s>%s", a.Host, a.From, a.To)
		if a.Reason != "" {
			s += "(" + string(a.Reason) + ")"
		}
		if a.Record.Epoch > 0 {
			s += fmt.Sprint(" e", a.Record.Epoch)
		}
	case Pace:
		s = fmt.Sprintf("domain %s %q", a.Domain.ID, a.Domain.Mode)
	case Recover, Hold:
		s = fmt.Sprintf("%s %s %s", a.Kind, a.Row.ID, a.Row.Reason)
	default:
		s = string(a.Kind) + " " + a.Host
	}
	if a.Order != "" {
		s += ", " + string(a.Order)
	}
	return strings.TrimSpace(s)
}

// did fails unless the last step did just that, saves aside.
func (l *lab) did(want ...string) {
	l.t.Helper()
	got := l.step()
	if !slices.Equal(got, want) {
		l.t.Fatalf("did %q, want %q", got, want)
	}
}

// in puts host i into a state by hand.
func (l *lab) in(i int, s State, f ...func(r *Record)) {
	r := &l.h(i).Record
	r.State, r.Reason, r.Since = s, "", l.s.Store
	if s != Up {
		r.Lost = l.s.Store
	}
	for _, g := range f {
		g(r)
	}
}

func reason(x Reason) func(r *Record) { return func(r *Record) { r.Reason = x } }

func findings(vs ...Verdict) (fs []Finding) {
	for i, v := range vs {
		f := Finding{By: fmt.Sprint("i", i), Channel: fmt.Sprint("c", i), Verdict: v}
		if v == Dead {
			f.Proof = &Proof{Kind: PowerOff}
		}
		fs = append(fs, f)
	}
	return fs
}

// ended sets the result of the probe that is out.
func (l *lab) ended(i int, vs ...Verdict) {
	p := l.h(i).Seen.Probe
	p.Findings, p.Ended = findings(vs...), l.now
}
