package ha

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// model is a cluster in steps of 250 ms: hosts with guards, whose paths break, whose clocks drift and which lose power, and a monitor
// that does what Decide says. A VM of each host is started elsewhere as soon as its host is fenced.
type model struct {
	*lab
	rng   *rand.Rand
	hosts []modelled
	lease time.Duration // of the guards
	wrong string
}

type modelled struct {
	power            bool
	control, storage time.Time // cut until
	rate             float64   // of its clock
	sent             time.Time // last beat by the control network that was confirmed, or by storage
	grain            time.Duration
	running          bool  // its VM
	starts           int64 // of its agent: one more when its VMs were ended
	seq              int64
	next             time.Time
}

const tick = 250 * time.Millisecond

func newModel(t testing.TB, seed uint64, p Policy, grain time.Duration) *model {
	m := &model{lab: newLab(t, 6, p), rng: rand.New(rand.NewPCG(seed, 60))}
	m.plain, m.lease = true, p.Defaults().Timing.HostLease
	for i := range m.s.Hosts {
		h := m.h(i)
		h.Renewed = m.s.Store
		h.Seen.Channels = []Channel{{Name: "storage", Watched: m.now.Add(-time.Hour), Moved: m.now}}
		m.hosts = append(m.hosts, modelled{power: true, rate: 1 + (2*m.rng.Float64()-1)*p.Defaults().Timing.Drift, sent: m.now, running: true,
			next: m.now.Add(time.Duration(m.rng.Int64N(int64(2 * time.Second)))), grain: time.Duration(m.rng.Int64N(int64(grain) + 1))})
	}
	m.probe = func(id string) []Finding {
		i := 0
		_, _ = fmt.Sscanf(id, "h%d", &i)
		if h := m.hosts[i]; h.power && m.rng.IntN(3) == 0 && h.control.Before(m.now) {
			return findings(Alive)
		}
		return findings([]Verdict{Unknown, Silent}[m.rng.IntN(2)], Silent)
	}
	return m
}

// step is one tick of the world, and then what the monitor does.
func (m *model) tick() {
	m.pass(tick)
	for i := range m.hosts {
		h := &m.hosts[i]
		switch m.rng.IntN(2000) {
		case 0:
			h.power, h.running = false, false
		case 1, 2, 3, 4:
			h.control = m.now.Add(time.Duration(m.rng.Int64N(int64(time.Minute))))
		case 5, 6, 7:
			h.storage = m.now.Add(time.Duration(m.rng.Int64N(int64(time.Minute))))
		}
		if !h.power {
			continue
		}
		if !h.next.After(m.now) {
			h.next = m.now.Add(2 * time.Second)
			m.beating(i)
		}
		lease := time.Duration(float64(m.lease) / h.rate)
		if h.running && m.now.Sub(h.sent) >= lease+h.grain {
			h.running = false
			h.starts++
		}
	}
	for _, x := range m.step() {
		for i := range m.hosts {
			if x == fmt.Sprintf("h%02d fencing>fenced e%d, open rows", i, m.h(i).Epoch) && m.hosts[i].running && m.wrong == "" {
				m.wrong = fmt.Sprintf("h%02d is fenced at +%v, and its VM runs", i, m.s.Store.Sub(storeStart))
			}
		}
	}
}

// beating sends a beat by both paths; it may arrive without being confirmed.
func (m *model) beating(i int) {
	h, r := &m.hosts[i], &m.h(i).Record
	if !h.control.After(m.now) {
		h.seq++
		m.beats(i, Beat{Host: r.Host.ID, Incarnation: 1 + h.starts, Seq: h.seq, Healthy: true})
		if r.State != Fencing && r.State != Fenced && r.State != Offline {
			r.Renewed = m.s.Store
			if m.rng.IntN(10) > 0 { // the confirmation arrives
				h.sent = m.now
			}
		}
	}
	if !h.storage.After(m.now) {
		m.h(i).Seen.Channels[0].Moved = m.now
		h.sent = m.now
	}
}

func TestModel(t *testing.T) {
	seeds := uint64(60)
	if os.Getenv("DROVER_LONG") != "" {
		seeds = 1000
	}
	fences := 0
	run := func(seed uint64, p Policy, mutate func(p *Policy)) string {
		m := newModel(t, seed, p, p.Defaults().Timing.Grain)
		if mutate != nil {
			mutate(&m.s.Policy)
		}
		for range 10 * time.Minute / tick {
			m.tick()
			if m.wrong != "" {
				return m.wrong
			}
		}
		fences += count(m.log, ">fenced")
		return ""
	}
	t.Run("no VM runs on a host that its lease proves dead", func(t *testing.T) {
		for seed := range seeds {
			if wrong := run(seed, Policy{}, nil); wrong != "" {
				t.Errorf("seed %d: %s", seed, wrong)
			}
		}
		t.Logf("%d fences in %d seeds of 10 minutes", fences, seeds)
		if fences < int(seeds)/2 {
			t.Errorf("%d fences", fences)
		}
	})
	t.Run("control: without waiting for the lease it is found", func(t *testing.T) {
		for seed := range uint64(50) {
			if run(seed, Policy{}, func(p *Policy) { p.Timing.HostLease /= 2 }) != "" {
				return
			}
		}
		t.Error("50 seeds found nothing")
	})
}

// TestPatience: hosts that live, over a network that loses beats, and that pause for as long as the timing allows.
func TestPatience(t *testing.T) {
	hosts, span := 50, 6*time.Hour
	if os.Getenv("DROVER_LONG") != "" {
		hosts, span = 1000, 24*time.Hour
	}
	l := newLab(t, hosts, Policy{Fencer: true})
	l.plain = true
	l.probe = func(string) []Finding { return findings(Unknown) } // nobody can say that they live
	rng := rand.New(rand.NewPCG(53, 53))
	paused := make([]time.Time, hosts)
	suspected := 0
	for range span / time.Second {
		l.pass(time.Second)
		second := int(l.s.Store.Unix())
		for i := range hosts {
			if rng.IntN(3600) == 0 {
				paused[i] = l.now.Add(6 * time.Second)
			}
			if (second+i)%2 == 0 && !paused[i].After(l.now) && rng.IntN(100) > 0 {
				l.beat(i)
			}
		}
		for _, x := range l.step() {
			switch {
			case count([]string{x}, ">fencing") > 0, count([]string{x}, ">condemned") > 0:
				t.Fatalf("+%v: %s", l.s.Store.Sub(storeStart), x)
			case count([]string{x}, ">suspect") > 0:
				suspected++
			}
		}
		l.log = l.log[:0]
	}
	t.Logf("%d hosts for %v: %d suspected, none condemned", hosts, span, suspected)
	if suspected == 0 {
		t.Error("nobody was ever suspected: the network is too good")
	}
}
