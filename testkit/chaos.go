package testkit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/drover-cloud/drover/internal/testkit/faults"
)

// Profile is how much goes wrong in a world.
type Profile int

const (
	Gentle  Profile = iota // a fault per 10 minutes, one at a time
	Rough                  // one per minute, up to three at a time
	Hostile                // one per 5 seconds, any number, but none in the last of every 10 minutes
)

func (p Profile) String() string { return [...]string{"gentle", "rough", "hostile"}[p] }

var profiles = map[Profile]struct {
	every time.Duration
	most  int
}{Gentle: {10 * time.Minute, 1}, Rough: {time.Minute, 3}, Hostile: {5 * time.Second, 1 << 30}}

// chaosFault begins a fault on n (or on the world), for d, and gives what ends it; nil: it ends by itself.
type chaosFault struct {
	name string
	do   func(w *World, n *Node, r *rand.Rand, d time.Duration) (end func())
}

var chaosFaults = []chaosFault{
	{"crash", func(w *World, n *Node, _ *rand.Rand, _ time.Duration) func() {
		n.Crash()
		return n.Restart
	}},
	{"freeze", func(w *World, n *Node, _ *rand.Rand, d time.Duration) func() { n.Freeze(d); return nil }},
	{"fail", rule(faults.Rule{Pattern: "store.*", Kind: faults.Before, P: 0.1, Err: ErrStore})},
	{"fail after", rule(faults.Rule{Pattern: "store.*", Kind: faults.After, P: 0.1, Err: ErrStore})},
	{"serialize", rule(faults.Rule{Pattern: opCommit, Kind: faults.Serialize, P: 0.2})},
	{"delay", rule(faults.Rule{Pattern: opBegin, Kind: faults.Delay, P: 0.3, Max: 2 * time.Second})},
	{"partition", func(w *World, n *Node, r *rand.Rand, _ time.Duration) func() {
		if ways := r.IntN(3); ways == 0 {
			w.Cut(TheStore, n)
		} else if w.Cut(n, TheStore); ways == 1 {
			w.Cut(TheStore, n)
		}
		return func() { n.heal() }
	}},
	{"clock", func(w *World, n *Node, r *rand.Rand, _ time.Duration) func() {
		n.Skew(time.Duration(r.IntN(7200)-3600)*time.Second, 0.95+r.Float64()/10)
		return func() { n.Skew(0, 1) }
	}},
	{"slow", func(w *World, n *Node, r *rand.Rand, _ time.Duration) func() {
		n.Slow(2 + r.Float64()*50)
		return func() { n.Slow(1) }
	}},
	{"store down", func(w *World, _ *Node, r *rand.Rand, d time.Duration) func() { w.StoreDown(d / 4); return nil }},
	{"store read-only", func(w *World, _ *Node, r *rand.Rand, d time.Duration) func() {
		w.StoreReadOnly(d / 4)
		return nil
	}},
	{"store clock", func(w *World, _ *Node, r *rand.Rand, _ time.Duration) func() {
		w.StoreJump(time.Duration(r.IntN(2000)) * time.Millisecond)
		return nil
	}},
}

// busFaults are drawn too once a node receives messages.
var busFaults = []chaosFault{
	{"send fails", rule(faults.Rule{Pattern: opSend, Kind: faults.Before, P: 0.1, Err: ErrBus})},
	{"send fails after", rule(faults.Rule{Pattern: opSend, Kind: faults.After, P: 0.1, Err: ErrBus})},
	{"bus partition", func(w *World, n *Node, r *rand.Rand, _ time.Duration) func() {
		if ways := r.IntN(3); ways == 0 {
			w.Cut(TheBus, n)
		} else if w.Cut(n, TheBus); ways == 1 {
			w.Cut(TheBus, n)
		}
		return func() { n.heal() }
	}},
	{"nodes parted", func(w *World, n *Node, r *rand.Rand, _ time.Duration) func() {
		m := w.nodes[r.IntN(len(w.nodes))]
		if n == m {
			return nil
		}
		w.Cut(n, m)
		return func() { w.rejoin(n, m) }
	}},
	{"messages", func(w *World, _ *Node, _ *rand.Rand, _ time.Duration) func() {
		w.Messages(0.05, 0.1, 2*time.Second)
		return func() { w.Messages(0, 0, 0) }
	}},
}

func rule(f faults.Rule) func(*World, *Node, *rand.Rand, time.Duration) func() {
	none := f
	none.P = 0
	return func(_ *World, n *Node, _ *rand.Rand, _ time.Duration) func() {
		n.rule("chaos", f)
		return func() { n.rule("chaos", none) }
	}
}

// Chaos draws faults on nodes and the store, as the seed has it, until stop, which ends them and starts crashed nodes
// again. Hints are lost (10 %), repeated (5 %) and late (up to 5 s) from now on. Once in a world.
func (w *World) Chaos(p Profile) (stop func()) {
	w.use("World.Chaos")
	how, ok := profiles[p]
	if !ok || w.chaos {
		w.T.Fatalf("testkit: World.Chaos(%d): Gentle, Rough or Hostile is wanted, once", p)
	}
	w.chaos = true
	w.Hints(0.1, 0.05, 5*time.Second)
	w.s.Mark("!! chaos " + p.String())
	r := w.s.Rand("chaos")
	active, over := map[int]func(){}, false
	w.s.Go("chaos", func() {
		begin := time.Now()
		for i := 0; ; i++ {
			w.s.Advance(how.every/2 + time.Duration(r.Int64N(int64(how.every))))
			age := time.Since(begin) % (10 * time.Minute)
			list := chaosFaults
			if w.hasBus() {
				list = slices.Concat(chaosFaults, busFaults)
			}
			n, f := w.nodes[r.IntN(len(w.nodes))], list[r.IntN(len(list))]
			d := time.Second + time.Duration(r.Int64N(int64(59*time.Second)))
			if over {
				return
			}
			if len(active) >= how.most || p == Hostile && age+d > 9*time.Minute {
				continue
			}
			end := f.do(w, n, r, d)
			if end == nil {
				end = func() {}
			}
			active[i] = end
			w.s.Go(fmt.Sprintf("chaos/%d", i), func() {
				w.s.Advance(d)
				if end := active[i]; end != nil {
					delete(active, i)
					end()
				}
			})
		}
	})
	return func() {
		w.use("stop of World.Chaos")
		over = true
		for i := 0; len(active) > 0; i++ { // in order of beginning
			if end := active[i]; end != nil {
				delete(active, i)
				end()
			}
		}
		w.s.Mark("!! chaos ends")
	}
}
