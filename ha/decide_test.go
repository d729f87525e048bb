package ha

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
)

const s = time.Second

// lines is the table of the documentation, once more: state, then trigger>state.
const lines = `
new: beat>rejoining
up: sick beat>suspect, hint>suspect, silence>suspect, goodbye>degraded(goodbye), maintain>draining
suspect: beat>up, probe slot free>investigating
investigating: beat>up, alive>degraded(agent-lost), dead>condemned, conflict>blocked(conflict), nothing found>checking, nothing found, no checker>condemned, unhealthy, but beats>degraded(unhealthy)
checking: beat>up, active>degraded(agent-lost), idle>repairing, idle, no repair>condemned, checker error>degraded(checker-error)
degraded: beat>up, recheck>investigating
degraded(connect-failed): beat>rejoining, recheck>investigating
repairing: beat>up, repaired>rejoining, repaired, with proof>fenced, repairs exhausted>condemned
condemned: beat>up, cleared to fence>fencing, protection off>blocked(protection-off)
fencing: beat>up, proof>fenced, fencing exhausted>blocked(exhausted)
blocked(exhausted): beat>rejoining, proof>fenced
blocked(conflict): beat>up, proof>fenced, alive>degraded(agent-lost), dead>condemned
blocked(protection-off): beat>up, proof>fenced, protection on>condemned
fenced: last row closed>offline, newer beat>rejoining, beat of the fenced>fencing
offline: newer beat>rejoining, beat of the fenced>fencing
rejoining: ready>up, hook error>degraded(connect-failed), silence>suspect, did not return>condemned
draining: drained>maintenance, resume>up, silence>suspect
maintenance: resume>rejoining
disabled: enable>new
removed:`

func TestTable(t *testing.T) {
	t.Run("ha-04 every state and every event", func(t *testing.T) {
		want := map[string]string{}
		seen := map[State]bool{}
		var rows []string
		for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
			at, rest, _ := strings.Cut(line, ":")
			rows = append(rows, at)
			state, _, _ := strings.Cut(at, "(")
			seen[State(state)] = true
			if state != "fencing" && state != "fenced" && state != "disabled" && state != "removed" {
				rest += ", disable>disabled"
			}
			if state != "removed" {
				rest += ", remove>removed"
			}
			for _, on := range triggers {
				if i := strings.Index(", "+strings.TrimSpace(rest), ", "+string(on)+">"); i >= 0 {
					to := (", " + strings.TrimSpace(rest))[i+len(on)+3:]
					to, _, _ = strings.Cut(to, ",")
					want[at+" "+string(on)] = to
				}
			}
		}
		if len(seen) != 17 || len(States()) != 17 {
			t.Fatalf("%d states, %d", len(seen), len(States()))
		}
		p := Policy{}.Defaults()
		for _, at := range rows {
			state, why, _ := strings.Cut(strings.TrimSuffix(at, ")"), "(")
			for _, on := range triggers {
				r := Record{Host: Host{ID: "h"}, State: State(state), Reason: Reason(why), Epoch: 4, Version: 7}
				n, moved := p.move(r, on, storeStart)
				got := ""
				if moved {
					got = string(n.State)
					if n.Reason != "" {
						got += "(" + string(n.Reason) + ")"
					}
				} else if fmt.Sprint(n) != fmt.Sprint(r) {
					t.Errorf("%s, %s: changed without a transition", at, on)
				}
				if got != want[at+" "+string(on)] {
					t.Errorf("%s, %s: to %q, want %q", at, on, got, want[at+" "+string(on)])
				}
			}
		}
	})
	t.Run("narrow lines", func(t *testing.T) {
		p := Policy{}.Defaults()
		for _, r := range []Record{{State: Repairing, Destructive: true}, {State: Fencing, Begun: true}} {
			if _, ok := p.move(r, onBeat, storeStart); ok {
				t.Errorf("%+v left by a beat", r)
			}
		}
	})
}

func TestPolicy(t *testing.T) {
	for want, p := range map[string]Policy{
		"ha: Misses 1.5 must be at least 2":                              {Misses: 1.5},
		"ha: Interval -1s must be positive":                              {Interval: -s},
		"ha: Timing.HostLease 3s must be at least twice the Interval 2s": {Timing: Timing{HostLease: 3 * s}},
		"ha: Timing.ProbeTimeout 50ms must be at least 100ms":            {Timing: Timing{ProbeTimeout: 50 * time.Millisecond}},
		"ha: Timing.Ratio 1.1 must be above 0 and at most 1":             {Timing: Timing{Ratio: 1.1}},
		"ha: Timing.FenceAttempts -1 must be at least 1":                 {Timing: Timing{FenceAttempts: -1}},
		"ha: InAll -1 must be at least 1":                                {InAll: -1},
		"ha: FreezeRatio -0.1 must be above 0 and at most 1":             {FreezeRatio: -0.1},
	} {
		if err := p.Defaults().Check(); !errors.Is(err, drover.ErrConfig) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	d, f := Policy{}.Defaults(), Policy{Interval: 500 * time.Millisecond, Timing: Fast()}.Defaults()
	if err := errors.Join(d.Check(), f.Check()); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(d.silence(1), d.Timing.WarmUp, d.Expiry(), f.silence(1), f.Expiry())
	if got != "8s 20s 11.01s 2s 4.003s" {
		t.Error(got)
	}
}

func TestLiveness(t *testing.T) {
	t.Run("decides 02: silent for exactly T, and a grain more", func(t *testing.T) {
		for _, T := range []time.Duration{8 * s, 150 * s} {
			l := newLab(t, 1, Policy{Interval: T / 4, Timing: Timing{HostLease: T}})
			l.pass(T)
			l.did()
			l.pass(1)
			l.did("h00 up>suspect", "h00 suspect>investigating", "look h00")
		}
		for _, st := range []State{Maintenance, Disabled, Fresh, Offline, Removed} {
			l := newLab(t, 1, Policy{})
			l.in(0, st)
			l.pass(time.Hour)
			l.did()
		}
		l := newLab(t, 1, Policy{Bare: []string{"baremetal"}})
		l.h(0).Host.Kind = "baremetal"
		l.pass(9 * s)
		l.did("h00 up>degraded(goodbye)")
		l.pass(29 * time.Minute)
		l.did()
		l.pass(time.Minute)
		l.did("alarm h00", "save h00")
	})
	t.Run("ha-03 blocked by conflict, then a beat", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		l.in(0, Blocked, reason(Conflict))
		l.beat(0)
		l.did("h00 blocked>up")
	})
	t.Run("decides 05: the order of investigators does not count", func(t *testing.T) {
		for _, vs := range [][]Verdict{{Unknown, Unknown, Alive}, {Alive, Unknown, Silent}} {
			l := newLab(t, 1, Policy{})
			l.probe = func(string) []Finding { return findings(vs...) }
			l.pass(9 * s)
			l.did("h00 up>suspect", "h00 suspect>investigating", "look h00", "h00 investigating>degraded(agent-lost)")
		}
		l := newLab(t, 1, Policy{Fencer: true}) // none configured: the window
		l.probe = func(string) []Finding { return nil }
		l.pass(9 * s)
		l.did("h00 up>suspect", "h00 suspect>investigating", "look h00")
		l.h(0).Off = "zone"
		l.pass(12 * s)
		l.did("save h00", "h00 investigating>condemned", "h00 condemned>blocked(protection-off)", "alarm h00")
	})
	t.Run("ha-06 what probes say", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		l.pass(9 * s)
		l.did("h00 up>suspect", "h00 suspect>investigating", "look h00")
		l.pass(3 * s)
		l.ended(0, Unknown)
		l.did()
		l.pass(12*s - 1)
		l.did()
		l.pass(1)
		l.did("h00 investigating>condemned", "h00 condemned>fencing e1, fence")
		l = newLab(t, 1, Policy{Fencer: true}) // two witnesses: the control network's silence is one
		l.pass(9 * s)
		l.step()
		l.pass(3 * s)
		l.ended(0, Silent)
		l.did("h00 investigating>condemned", "h00 condemned>fencing e1, fence")
		l = newLab(t, 1, Policy{})
		l.beats(0, Beat{Incarnation: 1, Seq: 1, Goodbye: true, Healthy: true})
		l.did("h00 up>degraded(goodbye)")
		alarms := 0
		l.probe = func(string) []Finding { return findings(Alive) }
		for range 60 {
			l.pass(time.Minute)
			for _, x := range l.step() {
				if strings.HasPrefix(x, "alarm") {
					if alarms++; l.s.Store.Sub(storeStart) != time.Duration(alarms)*30*time.Minute {
						t.Errorf("alarm %d at %v", alarms, l.s.Store.Sub(storeStart))
					}
				}
			}
		}
		if alarms != 2 {
			t.Errorf("%d alarms in an hour", alarms)
		}
	})
	t.Run("ha-27 back in time", func(t *testing.T) {
		for _, st := range []State{Suspect, Investigating, Checking, Condemned} {
			l := newLab(t, 1, Policy{Disarmed: true})
			l.in(0, st)
			l.beat(0)
			l.did(fmt.Sprintf("h00 %s>up", st))
		}
		l := newLab(t, 1, Policy{Fencer: true})
		l.in(0, Fencing, func(r *Record) { r.Epoch, r.Ordered = 1, true })
		l.beat(0)
		l.did("h00 fencing>up e1, cancel fence")
		l = newLab(t, 1, Policy{Fencer: true})
		l.in(0, Fencing, func(r *Record) { r.Epoch, r.Ordered, r.Begun = 1, true, true })
		l.beat(0)
		l.did()
	})
	t.Run("the wish to drain is kept", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		l.in(0, Draining, func(r *Record) { r.Draining = true })
		l.pass(9 * s)
		l.did("h00 draining>suspect", "h00 suspect>investigating", "look h00")
		l.beat(0)
		l.did("h00 investigating>draining")
		l.h(0).Seen.Drained = true
		l.did("h00 draining>maintenance")
	})
	t.Run("ha-31 protection of a host that beats", func(t *testing.T) {
		l := newLab(t, 1, Policy{Checker: true})
		l.h(0).Record.Unprotected = "host"
		l.did("save h00")
		if r := l.h(0).Record; !r.Protected() || r.Samples+r.Repairs+r.Fences+r.Idle != 0 || r.State != Up {
			t.Errorf("%+v", r)
		}
		l.pass(s)
		l.did()
	})
	t.Run("ha-39 eligibility", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		l.h(0).Off = "ineligible: no BMC"
		l.did("save h00")
		l.did()
		l.in(0, Fenced, func(r *Record) { r.Epoch, r.Fenced, r.Proof = 1, 1, &Proof{Kind: PowerOff, Epoch: 1} })
		l.s.Rows = []Row{{ID: "r", Host: "h00", Epoch: 1, Kind: Restart, State: Pending}}
		l.did("recover r")
		l.h(0).Off = ""
		l.did("save h00")
	})
	t.Run("decides 46: one probe at a time", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		l.pass(9 * s)
		looks := 0
		for range 1000 {
			for _, x := range l.step() {
				if x == "look h00" {
					looks++
				}
			}
			l.pass(time.Millisecond)
		}
		if looks != 1 {
			t.Errorf("%d probes", looks)
		}
		l = newLab(t, 9, Policy{})
		l.s.Slots = 0
		l.pass(9 * s)
		l.beat(2, 3, 4, 5, 6, 7, 8)
		l.did("h00 up>suspect", "h01 up>suspect")
	})
}

func TestOwner(t *testing.T) {
	t.Run("decides 38: another owner claims, and warms up", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		h := l.h(0)
		h.Owner, h.Repairs, h.Seen = "gone", 1, Seen{Since: l.now}
		l.did("claim h00")
		if h.Owner != "m1" || h.Repairs != 0 {
			t.Errorf("%+v", h.Record)
		}
		l.probe = func(string) []Finding { return findings(Silent, Dead) }
		l.pass(8*s + 1)
		l.did("h00 up>suspect", "h00 suspect>investigating", "look h00")
		l.pass(20*s - 8*s - 2)
		l.did()
		l.pass(1)
		l.did("h00 investigating>condemned", "h00 condemned>fencing e1, fence")
		other := newLab(t, 1, Policy{})
		other.h(0).Mine = false
		other.pass(time.Hour)
		other.did()
	})
	t.Run("decides 49: the monitor was stopped", func(t *testing.T) {
		l := newLab(t, 3, Policy{Fencer: true})
		l.pass(60 * s)
		l.s.Self.Good = l.now
		l.did()
		l.beat(0, 1)
		l.pass(8 * s)
		l.did()
		l.pass(1)
		if got := l.step(); !slices.Contains(got, "h02 up>suspect") {
			t.Errorf("%q", got)
		}
	})
	t.Run("decides 50: the store was away", func(t *testing.T) {
		l := newLab(t, 1000, Policy{Fencer: true})
		for range 120 {
			l.pass(s)
			l.s.Self.Stalled, l.s.Self.Score = true, 8
			l.did()
		}
		l.s.Self.Stalled, l.s.Self.Good, l.s.Self.Score = false, l.now, 1
		for range 7 {
			l.pass(s)
			l.did()
		}
		for i := range 999 {
			l.beat(i)
		}
		l.pass(2 * s)
		if got := l.step(); !slices.Contains(got, "h999 up>suspect") {
			t.Errorf("%q", got[:min(5, len(got))])
		}
	})
	t.Run("decides 51: clocks that jump", func(t *testing.T) {
		l := newLab(t, 10, Policy{Fencer: true})
		for i := range l.s.Hosts {
			l.h(i).Renewed = l.s.Store
		}
		l.s.Store = l.s.Store.Add(time.Hour)
		l.did()
		l.s.Store = l.s.Store.Add(-2 * time.Hour)
		l.did()
	})
}
