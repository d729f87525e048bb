package ha

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// stories are transcripts: of each, what a monitor does over some minutes of a cluster's life.
var stories = []struct {
	name string
	p    Policy
	tell func(l *lab)
}{
	{"one dies, its lease proves it", Policy{}, func(l *lab) { l.leases(); l.story(40*s, 3) }},
	{"one dies, the fencer proves it", Policy{Fencer: true}, func(l *lab) {
		l.story(12*s, 3)
		l.h(3).Seen.Proof = &Proof{Kind: PowerOff, Epoch: 1, By: "ipmi"}
		l.story(5*s, 3)
	}},
	{"one dies, nothing proves it", Policy{Fencer: true}, func(l *lab) { l.story(20*time.Minute, 3) }},
	{"one is cut off, and comes back", Policy{Fencer: true}, func(l *lab) { l.story(9*s, 3); l.story(20 * s) }},
	{"a third dies", Policy{Fencer: true}, func(l *lab) { l.story(6*time.Minute, 0, 1, 2) }},
	{"all die", Policy{Fencer: true}, func(l *lab) { l.story(2*time.Minute, 0, 1, 2, 3, 4, 5, 6, 7); l.story(3 * time.Minute) }},
	{"with a checker and a repairer", Policy{Fencer: true, Checker: true, Repairer: true}, func(l *lab) {
		l.story(10*s, 3)
		for range 10 {
			l.story(time.Minute, 3)
			l.h(3).Seen.Asking, l.h(3).Seen.Sample = false, &Sample{At: l.now}
		}
		l.story(5*s, 3)
		l.h(3).Seen.Repair = &Repaired{}
		l.story(11*time.Minute, 3)
	}},
	{"two in two domains", Policy{Fencer: true}, func(l *lab) {
		for i := range 4 {
			l.h(i).Host.Domain = "north"
		}
		l.story(60*s, 1, 6)
	}},
	{"the monitor stalls in the middle", Policy{Fencer: true}, func(l *lab) {
		l.story(8*s, 3)
		l.s.Self.Stalled = true
		l.story(30*s, 3)
		l.s.Self.Stalled, l.s.Self.Good = false, l.now
		l.story(30*s, 3)
	}},
	{"another owner", Policy{Fencer: true}, func(l *lab) {
		for i := range l.s.Hosts {
			l.h(i).Owner, l.h(i).Seen.Since = "m2", l.now
		}
		l.story(60*s, 3)
	}},
	{"the fast profile", Policy{Interval: 500 * time.Millisecond, Timing: Fast()}, func(l *lab) { l.leases(); l.run(20*s, 250*time.Millisecond, 3, 5) }},
	{"it is alive after all", Policy{Fencer: true}, func(l *lab) {
		l.probe = func(string) []Finding { return findings(Unknown, Alive) }
		l.story(10*time.Minute, 3)
	}},
	{"evidence contradicts itself", Policy{Fencer: true}, func(l *lab) {
		l.probe = func(string) []Finding { return findings(Dead, Alive) }
		l.story(20*time.Minute, 3)
	}},
	{"its machines come back in order", Policy{}, func(l *lab) {
		l.leases()
		l.story(11*s, 2)
		l.s.Rows = []Row{{ID: "db", Kind: Restart, Host: "h02", Epoch: 1, State: Pending, VM: VM{ID: "db", Priority: 5}, Opened: l.s.Store},
			{ID: "router", Kind: Restart, Host: "h02", Epoch: 1, State: Pending, VM: VM{ID: "router", Kind: System}, Opened: l.s.Store},
			{ID: "web", Kind: Restart, Host: "h02", Epoch: 1, State: Pending, VM: VM{ID: "web", Priority: 5, After: []string{"db"}}, Opened: l.s.Store}}
		for range 4 {
			l.story(5*s, 2)
			for i := range l.s.Rows {
				if l.s.Rows[i].State.Flying() {
					l.s.Rows[i].State = RowDone
				}
			}
		}
	}},
	{"it flaps", Policy{Fencer: true}, func(l *lab) {
		for n := int64(2); n < 6; n++ {
			l.probe = silent
			l.story(20*s, 3)
			l.h(3).Seen.Proof = &Proof{Kind: PowerOff, Epoch: l.h(3).Epoch}
			l.story(2*s, 3)
			l.beats(3, Beat{Incarnation: n, Seq: 1, Healthy: true})
			l.step()
			l.h(3).Seen.Connected, l.h(3).Seen.Proof = true, nil
			l.story(10 * time.Minute)
		}
	}},
	{"unprotected", Policy{Fencer: true}, func(l *lab) { l.h(3).Off = "cluster"; l.story(30*s, 3); l.h(3).Off = ""; l.story(10*s, 3) }},
}

// leases has a guard on every host.
func (l *lab) leases() {
	for i := range l.s.Hosts {
		l.h(i).Renewed = l.s.Store
	}
}

func (l *lab) story(d time.Duration, gone ...int) { l.run(d, s, gone...) }

func TestGolden(t *testing.T) {
	snapshots := 0
	for _, c := range stories {
		t.Run("ha-77 "+c.name, func(t *testing.T) {
			l := newLab(t, 8, c.p)
			l.probe = silent
			var b bytes.Buffer
			l.each = func(s Snapshot, as []Action) {
				if len(as) == 0 || as[0].Kind == Wake {
					return
				}
				snapshots++
				fmt.Fprintf(&b, "+%v", s.Store.Sub(storeStart))
				for _, h := range s.Hosts {
					fmt.Fprintf(&b, " %s", short(h.Record))
				}
				fmt.Fprintln(&b)
				for _, a := range as {
					if a.Kind == Wake {
						fmt.Fprintf(&b, "  wake in %v\n", a.At.Sub(l.now))
						continue
					}
					fmt.Fprintf(&b, "  %s\n", a.line())
				}
			}
			c.tell(l)
			path := filepath.Join("testdata", strings.NewReplacer(" ", "-", ",", "").Replace(c.name)+".txt")
			if *update {
				if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(want, b.Bytes()) {
				t.Errorf("%s differs (%v); go test ./ha -run Golden -update rewrites it\n%s", path, err, b.Bytes())
			}
		})
	}
	if snapshots < 150 {
		t.Errorf("%d snapshots, want 150", snapshots)
	}
}

// short is a host in a transcript: a letter for up, else the state.
func short(r Record) string {
	if r.State == Up {
		return "."
	}
	return string(r.State)
}

// chaotic is a Snapshot of anything, sensible or not.
func chaotic(rng *rand.Rand) Snapshot {
	at := func() time.Time {
		if rng.IntN(4) == 0 {
			return time.Time{}
		}
		return storeStart.Add(time.Duration(rng.Int64N(int64(2*time.Hour))) - time.Hour)
	}
	sn := Snapshot{Store: at(), Slots: rng.IntN(3), Self: Self{Owner: "m1", Good: at(), Stalled: rng.IntN(5) == 0, Score: rng.IntN(9)}}
	sn.Policy = Policy{Checker: rng.IntN(2) == 0, Repairer: rng.IntN(2) == 0, Fencer: rng.IntN(2) == 0, Disarmed: rng.IntN(4) == 0}.Defaults()
	states := States()
	for i := range rng.IntN(12) {
		r := Record{Host: Host{ID: fmt.Sprintf("h%02d", i), Cluster: string(rune('a' + rng.IntN(3)))}, State: states[rng.IntN(len(states))],
			Reason: []Reason{"", AgentLost, Conflict, Exhausted, ProtectionOff, ConnectFailed}[rng.IntN(6)], Owner: []string{"m1", "m1", "m2"}[rng.IntN(3)],
			Epoch: rng.Int64N(3), Incarnation: rng.Int64N(3), Fenced: rng.Int64N(3), Since: at(), Renewed: at(), Lost: at(), Until: at(), Alarmed: at(),
			Tries: rng.IntN(70), Fences: rng.IntN(12), Samples: rng.IntN(12), Idle: rng.IntN(12), Flaps: rng.IntN(80), Ordered: rng.IntN(2) == 0}
		h := Watched{Record: r, Mine: rng.IntN(4) > 0, Seen: Seen{Since: at(), Last: at(), Hinted: rng.IntN(5) == 0}}
		if rng.IntN(2) == 0 {
			h.Seen.Beat = &Beat{Incarnation: rng.Int64N(4) - 1, Seq: rng.Int64N(3), Healthy: rng.IntN(2) == 0, Goodbye: rng.IntN(4) == 0}
		}
		if rng.IntN(2) == 0 {
			h.Seen.Probe = &Probe{Began: at(), Ended: at(), Findings: findings(Verdict(rng.IntN(4)), Verdict(rng.IntN(4)))}
		}
		if rng.IntN(4) == 0 {
			h.Seen.Proof = &Proof{Kind: PowerOff, Epoch: rng.Int64N(4)}
		}
		if rng.IntN(4) == 0 {
			h.Seen.Sample, h.Seen.Repair = &Sample{At: at()}, &Repaired{Err: []string{"", "x"}[rng.IntN(2)]}
		}
		sn.Hosts = append(sn.Hosts, h)
	}
	for i := range rng.IntN(20) {
		sn.Rows = append(sn.Rows, Row{ID: fmt.Sprintf("r%02d", i), Kind: Restart, Host: fmt.Sprintf("h%02d", rng.IntN(14)), Epoch: rng.Int64N(3),
			State: []RowState{Pending, Waiting, Placing, Starting, RowDone}[rng.IntN(5)], Opened: at(), Begun: at(), Until: at(),
			VM: VM{ID: fmt.Sprint("v", rng.IntN(8)), Priority: rng.IntN(3), After: []string{fmt.Sprint("v", rng.IntN(8))}}})
	}
	return sn
}

// sound is what must hold of every answer, whatever was asked.
func sound(sn Snapshot, as []Action) string {
	moved := map[string]bool{}
	for _, a := range as {
		h := sn.find(a.Host)
		switch a.Kind {
		case Move:
			switch {
			case moved[a.Host]:
				return "two transitions of " + a.Host
			case a.To == Fenced && (a.Record.Proof == nil || a.Record.Proof.Epoch != a.Record.Epoch):
				return "fenced without a proof of its epoch"
			case a.To == Fencing && a.From == Condemned && (sn.Policy.Disarmed || sn.Self.Stalled || h.Off != ""):
				return "fenced while disarmed, stalled or unprotected"
			case a.To == Fencing && a.Record.Epoch != h.Epoch+1:
				return "the epoch rose by other than one"
			case a.Record.Epoch < h.Epoch:
				return "the epoch fell"
			}
			moved[a.Host] = true
		case Recover:
			if h == nil || h.Proof == nil || h.Proof.Epoch != a.Row.Epoch || h.Epoch != a.Row.Epoch {
				return "recovered without a proof"
			}
		}
	}
	return ""
}

func FuzzDecide(f *testing.F) {
	for i := range uint64(2000) {
		f.Add(i, int64(i)*int64(time.Second))
	}
	f.Fuzz(func(t *testing.T, seed uint64, off int64) {
		sn := chaotic(rand.New(rand.NewPCG(seed, 77)))
		now := storeStart.Add(time.Duration(off % int64(time.Hour)))
		before, _ := json.Marshal(sn)
		as := Decide(sn, now)
		if after, _ := json.Marshal(sn); !bytes.Equal(before, after) {
			t.Error("the Snapshot has changed")
		}
		again, _ := json.Marshal(Decide(sn, now))
		if once, _ := json.Marshal(as); !bytes.Equal(once, again) {
			t.Error("the second answer differs")
		}
		if what := sound(sn, as); what != "" {
			t.Error(what)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLab(b, n, Policy{Fencer: true})
			l.pass(s)
			for b.Loop() {
				Decide(l.s, l.now)
			}
		})
	}
}
