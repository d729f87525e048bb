package ha

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// run lets d pass in steps, in which all hosts that are up beat, but for the gone.
func (l *lab) run(d, every time.Duration, gone ...int) (log []string) {
	l.t.Helper()
	for range d / every {
		l.pass(every)
		for i := range l.s.Hosts {
			if !slices.Contains(gone, i) {
				l.beat(i)
			}
		}
		log = append(log, l.step()...)
	}
	return log
}

func count(log []string, part string) (n int) {
	for _, x := range log {
		if strings.Contains(x, part) {
			n++
		}
	}
	return n
}

func silent(string) []Finding { return findings(Silent, Silent) }

func TestFence(t *testing.T) {
	t.Run("decides 61: the lease alone, 11.01 s after the last beat", func(t *testing.T) {
		for _, c := range []struct {
			p     Policy
			probe time.Duration
			want  time.Duration
		}{
			{Policy{}, 3 * s, 11010*time.Millisecond + 1}, {Policy{Interval: 500 * time.Millisecond, Timing: Fast()}, 750 * time.Millisecond, 4003*time.Millisecond + 1},
		} {
			l := newLab(t, 1, c.p)
			h := l.h(0)
			h.Renewed = l.s.Store
			l.pass(l.s.Policy.silence(1) + 1)
			l.did("h00 up>suspect", "h00 suspect>investigating", "look h00")
			l.pass(c.probe - 1)
			l.ended(0, Silent)
			l.did("h00 investigating>condemned", "h00 condemned>fencing e1")
			wake := Decide(l.s, l.now)[0]
			if got := wake.At.Sub(h.Seen.Last); wake.Kind != Wake || got != c.want {
				t.Errorf("wakes %v after the last beat, want %v", got, c.want)
			}
			l.pass(wake.At.Sub(l.now) - 1)
			l.did()
			l.pass(1)
			l.did("h00 fencing>fenced e1, open rows", "h00 fenced>offline e1")
			if p := h.Proof; p == nil || p.Kind != LeaseExpired || p.Epoch != 1 {
				t.Errorf("%+v", p)
			}
		}
	})
	t.Run("the lease is no proof while another channel moves", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		l.h(0).Renewed = l.s.Store
		l.in(0, Fencing, func(r *Record) { r.Epoch = 1 })
		l.h(0).Seen.Channels = []Channel{{Name: "storage", Watched: l.now.Add(-time.Hour), Moved: l.now.Add(10 * s)}}
		l.pass(21010 * time.Millisecond)
		l.did()
		l.pass(1)
		l.did("h00 fencing>fenced e1, open rows", "h00 fenced>offline e1")
	})
	t.Run("ha-80 the lease is due", func(t *testing.T) {
		for left, want := range map[time.Duration]string{4 * s: "", 5 * s: "", 6 * s: ", fence"} {
			l := newLab(t, 1, Policy{Fencer: true})
			l.in(0, Condemned)
			l.h(0).Renewed = l.s.Store.Add(left - 11010*time.Millisecond - 1)
			l.did("h00 condemned>fencing e1" + want)
		}
	})
	t.Run("ha-41 the BMC is broken, and repaired", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		l.in(0, Fencing, func(r *Record) { r.Epoch, r.Ordered, r.Begun, r.Fenced, r.LastFence = 1, true, true, 1, l.s.Store })
		l.pass(120*s - 1)
		l.did()
		l.pass(1)
		l.did("h00 fencing>blocked(exhausted) e1", "alarm h00")
		begin := l.s.Store
		var tries []string
		for range 4000 {
			l.pass(s)
			for _, x := range l.step() {
				tries = append(tries, fmt.Sprint(l.s.Store.Sub(begin), x[len("save h00"):]))
			}
		}
		want := []string{"1m0s, fence", "3m0s, fence", "7m0s, fence", "15m0s, fence", "30m0s, fence", "45m0s, fence", "1h0m0s, fence"}
		want[0] = "1m0s, fence" // 180 s after the last
		if !slices.Equal(tries, want) {
			t.Errorf("tries %q", tries)
		}
		l.h(0).Seen.Proof = &Proof{Kind: PowerOff, Epoch: 1}
		l.did("h00 blocked>fenced e1, open rows", "h00 fenced>offline e1")
		l.beats(0, Beat{Incarnation: 2, Seq: 1, Healthy: true})
		l.did("h00 offline>rejoining e1", "connect h00")
		l.h(0).Seen.Connected = true
		l.pass(59 * s)
		l.beat(0)
		l.did()
		l.pass(s)
		l.did("h00 rejoining>up e1")
		l = newLab(t, 1, Policy{Fencer: true})
		l.in(0, Fencing, func(r *Record) { r.Epoch, r.Ordered, r.Fences = 1, true, 10 })
		l.did("h00 fencing>blocked(exhausted) e1", "alarm h00")
	})
	t.Run("no second command within 180 s", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		l.in(0, Condemned, func(r *Record) { r.LastFence = l.s.Store.Add(-179 * s) })
		l.did("h00 condemned>fencing e1, fence, no command")
	})
	t.Run("ha-71 a proof of another epoch", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		l.in(0, Fencing, func(r *Record) { r.Epoch = 4 })
		l.h(0).Seen.Proof = &Proof{Kind: PowerOff, Epoch: 3}
		l.did()
		l.h(0).Seen.Proof = &Proof{Kind: OperatorConfirmed, Epoch: 4, By: "eve"}
		l.did("h00 fencing>fenced e4, open rows", "h00 fenced>offline e4")
		if p := l.h(0).Proof; p.By != "eve" || p.Epoch != 4 {
			t.Errorf("%+v", p)
		}
	})
	t.Run("a proof that a beat contradicts", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		l.in(0, Fenced, func(r *Record) {
			r.Epoch, r.Fenced, r.Renewed, r.Proof = 1, 1, l.s.Store.Add(-time.Hour), &Proof{Kind: LeaseExpired, Epoch: 1}
		})
		l.s.Rows = []Row{{ID: "a", Host: "h00", Epoch: 1, Kind: Restart, State: Verifying}, {ID: "b", Host: "h00", Epoch: 1, Kind: Restart, State: Pending}}
		l.beats(0, Beat{Incarnation: 1, Seq: 99, Healthy: true})
		l.did("h00 fenced>fencing e2, fence", "alarm h00", "hold b host")
		l.pass(60 * s) // the lease, which it ignores, proves nothing any more
		l.did()
	})
	t.Run("ha-70 off, while its storage moves", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		l.pass(9 * s)
		l.step()
		l.ended(0, Dead, Alive)
		l.did("h00 investigating>blocked(conflict)", "alarm h00")
		l.pass(60*s - 1)
		l.did()
		l.pass(1)
		l.did("look h00", "save h00")
		l.ended(0, Unknown, Alive)
		l.did("h00 blocked>degraded(agent-lost)")
	})
	t.Run("decides 74: disarmed", func(t *testing.T) {
		l := newLab(t, 9, Policy{Fencer: true, Disarmed: true})
		l.in(0, Condemned)
		l.in(1, Fencing, func(r *Record) { r.Epoch, r.Ordered = 1, true })
		l.h(1).Seen.Proof = &Proof{Kind: PowerOff, Epoch: 1}
		l.did("h01 fencing>fenced e1, open rows", "h01 fenced>offline e1")
		l.pass(s)
		l.did()
		l.s.Policy.Disarmed = false
		l.did("h00 condemned>fencing e1, fence")
	})
	t.Run("ha-79 a domain of two channels", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		l.s.Domains = []DomainRecord{{ID: "c", Channels: 2}}
		l.pass(9 * s)
		l.step()
		begin, looks, alarms := l.s.Store, 0, 0
		for range 120 {
			l.ended(0, Unknown)
			for _, x := range l.step() {
				switch x {
				case "look h00":
					looks++
				case "alarm h00":
					if alarms++; l.s.Store.Sub(begin) != 60*s {
						t.Errorf("alarm after %v", l.s.Store.Sub(begin))
					}
				case "save h00":
				default:
					t.Fatal(x)
				}
			}
			l.pass(s)
		}
		_ = looks
		if alarms != 1 || l.h(0).State != Investigating {
			t.Errorf("%d alarms, %s", alarms, l.h(0).State)
		}
	})
	t.Run("decides 55: one epoch per fencing", func(t *testing.T) {
		l := newLab(t, 1, Policy{Fencer: true})
		for n := int64(1); n <= 3; n++ {
			l.in(0, Condemned)
			l.pass(time.Hour)
			l.step()
			if l.h(0).Epoch != n {
				t.Fatalf("epoch %d at fencing %d", l.h(0).Epoch, n)
			}
		}
		for _, on := range []trigger{byRemove, byEnable, byDisable} {
			if r, _ := l.s.Policy.move(l.h(0).Record, on, storeStart); r.Epoch != 3 {
				t.Errorf("%s: %+v", on, r)
			}
		}
	})
}

func TestStorm(t *testing.T) {
	t.Run("ha-45 a share of the domain", func(t *testing.T) {
		l := newLab(t, 10, Policy{Fencer: true, FreezeRatio: 0.3})
		l.probe = silent
		log := l.run(10*time.Minute, s, 0, 1, 2, 3)
		if count(log, ">fencing") != 0 || count(log, "alarm") != 1 {
			t.Errorf("%q", log)
		}
		l = newLab(t, 10, Policy{Fencer: true})
		l.probe = silent
		var at []time.Duration
		for range 600 {
			if n := count(l.run(s, s, 0, 1, 2, 3), ">fencing"); n > 0 {
				at = append(at, l.s.Store.Sub(storeStart))
			}
			for i := range 4 {
				if h := l.h(i); h.State == Fencing {
					h.Seen.Proof = &Proof{Kind: PowerOff, Epoch: h.Epoch}
				}
			}
		}
		if len(at) != 4 {
			t.Errorf("fences at %v", at)
		}
		for i := 1; i < len(at); i++ {
			if at[i]-at[i-1] < 100*s {
				t.Errorf("fences at %v", at)
			}
		}
	})
	t.Run("decides 52: all of a domain, and back", func(t *testing.T) {
		l := newLab(t, 6, Policy{Fencer: true})
		l.probe = silent
		log := l.run(10*time.Minute, s, 0, 1, 2, 3, 4, 5)
		if count(log, ">fencing") != 0 || count(log, "alarm") != 1 || l.s.Domains[0].Mode != Frozen {
			t.Errorf("%q", log)
		}
		log = l.run(2*time.Minute, s)
		if l.s.Domains[0].Mode != Normal || count(log, ">up") != 6 {
			t.Errorf("%q, %+v", log, l.s.Domains)
		}
	})
	t.Run("read as off, in a frozen domain", func(t *testing.T) {
		for _, waits := range []bool{false, true} {
			l := newLab(t, 4, Policy{Fencer: true, FrozenProofWaits: waits})
			l.probe = func(string) []Finding { return findings(Dead) }
			log := l.run(5*time.Minute, s, 0, 1, 2, 3)
			if n := count(log, ">fencing"); waits && n > 0 || !waits && n != 3 { // one per 100 s
				t.Errorf("%d fences: %q", n, log)
			}
		}
	})
	t.Run("one fence at a time, one per 10 s", func(t *testing.T) {
		l := newLab(t, 100, Policy{Fencer: true})
		l.probe = silent
		log := l.run(40*s, s, 7, 8)
		if count(log, ">fencing") != 1 {
			t.Fatalf("%q", log)
		}
		h := l.h(7)
		if h.State != Fencing {
			h = l.h(8)
		}
		h.Seen.Proof = &Proof{Kind: PowerOff, Epoch: 1}
		if log = l.run(s, s, 7, 8); count(log, ">fencing") != 1 {
			t.Errorf("%q", log)
		}
	})
	t.Run("ha-66 flaps", func(t *testing.T) {
		l := newLab(t, 1, Policy{})
		flap := func(up time.Duration) time.Duration {
			l.t.Helper()
			l.pass(up)
			l.in(0, Offline, func(r *Record) { r.Epoch++; r.Fenced = r.Incarnation })
			l.beats(0, Beat{Incarnation: l.h(0).Incarnation + 1, Seq: 1, Healthy: true})
			l.h(0).Seen.Connected = true
			l.step()
			begin := l.s.Store
			for l.h(0).State == Rejoining {
				l.pass(s)
				l.beat(0)
				l.step()
			}
			return l.s.Store.Sub(begin)
		}
		var got []time.Duration
		for range 8 {
			got = append(got, flap(time.Minute))
		}
		if want := []time.Duration{60 * s, 120 * s, 240 * s, 480 * s, 960 * s, 1920 * s, 3600 * s, 3600 * s}; !slices.Equal(got, want) {
			t.Errorf("hold-downs %v", got)
		}
		if d := flap(time.Hour); d != 60*s {
			t.Errorf("after an hour up: %v", d)
		}
	})
}

func TestActivity(t *testing.T) {
	sample := func(l *lab, active bool, err string) {
		l.h(0).Seen.Asking, l.h(0).Seen.Sample = false, &Sample{At: l.now, Active: active, Err: err}
	}
	checking := func(t *testing.T, p Policy) *lab {
		p.Checker = true
		l := newLab(t, 1, p)
		l.in(0, Checking)
		return l
	}
	t.Run("ha-44 samples", func(t *testing.T) {
		for idle, want := range map[int]string{7: "h00 checking>degraded(agent-lost)", 8: "h00 checking>condemned"} {
			l := checking(t, Policy{Disarmed: true})
			var log []string
			for i := range 10 {
				l.pass(time.Minute)
				l.did("measure h00")
				sample(l, i >= idle, "")
				log = l.step()
			}
			if !slices.Equal(log, []string{want}) {
				t.Errorf("%d of 10: %q", idle, log)
			}
		}
		l := checking(t, Policy{})
		sample(l, false, "no such pool")
		l.did("h00 checking>degraded(checker-error)")
		if r := l.h(0).Record; r.Protected() {
			t.Errorf("%+v", r)
		}
		l.pass(time.Minute) // the recheck protects again
		l.did("h00 degraded>investigating", "look h00")
		if r := l.h(0).Record; !r.Protected() {
			t.Errorf("%+v", r)
		}
		l = checking(t, Policy{})
		sample(l, true, "")
		l.pass(time.Minute + 1)
		l.did("measure h00") // the sample is too old
	})
	t.Run("ha-32 unhealthy, but active", func(t *testing.T) {
		l := newLab(t, 1, Policy{Checker: true})
		l.beats(0, Beat{Incarnation: 1, Seq: 1})
		l.did("h00 up>suspect", "h00 suspect>investigating", "look h00")
		l.ended(0)
		l.did("h00 investigating>checking", "measure h00")
		for i := range 10 {
			sample(l, true, "")
			if got := l.step(); i == 9 && !slices.Equal(got, []string{"h00 checking>degraded(agent-lost)"}) {
				t.Errorf("%q", got)
			}
			l.pass(30 * s)
		}
		if r := l.h(0).Record; r.Samples != 10 || r.Repairs != 0 {
			t.Errorf("%+v", r)
		}
		l.pass(30 * s)
		l.did("h00 degraded>investigating", "look h00")
		l.beat(0)
		l.did("h00 investigating>up")
	})
	t.Run("ha-33 repairs", func(t *testing.T) {
		l := checking(t, Policy{Repairer: true, Fencer: true, Timing: Timing{RepairAttempts: 2}})
		l.h(0).Samples, l.h(0).Idle = 10, 10
		l.did("h00 checking>repairing, repair")
		l.h(0).Seen.Repair = &Repaired{}
		l.did("h00 repairing>rejoining")
		l.beat(0)
		l.did("save h00", "connect h00")
		l.h(0).Seen.Connected = true
		l.did("h00 rejoining>up")
		l = checking(t, Policy{Repairer: true, Fencer: true, Timing: Timing{RepairAttempts: 2}})
		l.h(0).Samples, l.h(0).Idle = 10, 10
		l.did("h00 checking>repairing, repair")
		l.h(0).Seen.Repair = &Repaired{Err: "no"}
		l.did("save h00, repair")
		l.h(0).Seen.Repair = &Repaired{Err: "no"}
		l.did("h00 repairing>condemned", "h00 condemned>fencing e1, fence")
		l = newLab(t, 1, Policy{Fencer: true}) // repaired, but it does not come back
		l.in(0, Repairing)
		l.h(0).Seen.Repair = &Repaired{}
		l.did("h00 repairing>rejoining")
		l.pass(600*s - 1)
		l.did()
		l.pass(1)
		l.did("h00 rejoining>condemned", "h00 condemned>fencing e1, fence")
	})
}
