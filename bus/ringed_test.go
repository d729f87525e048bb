package bus_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/drover-cloud/drover/bus"
)

// seer is a node that hears of the members' changes in its own order.
type seer struct {
	state map[string]string // "up", "unknown", "down"
	view  bus.Members
}

func newSeer() *seer {
	s := &seer{state: map[string]string{}}
	s.view = bus.Ringed(func() (up, unknown []bus.Peer) {
		for _, n := range []string{"e", "c", "a", "d", "b"} {
			switch s.state[n] {
			case "up":
				up = append(up, bus.Peer{Node: n})
			case "unknown":
				unknown = append(unknown, bus.Peer{Node: n})
			}
		}
		return up, unknown
	}, func(func()) func() { return func() {} })
	return s
}

// TestRinged: whatever three nodes have heard, and in which order, those with one fingerprint agree on every owner.
func TestRinged(t *testing.T) {
	t.Run("ring-13 three nodes, any order", func(t *testing.T) {
		members := []string{"a", "b", "c", "d", "e"}
		for seed := range uint64(200) {
			rnd := rand.New(rand.NewPCG(seed, 13))
			nodes := []*seer{newSeer(), newSeer(), newSeer()}
			var changes [3][][2]string
			for range 6 { // what happens, and who hears of it in which order
				var round [][2]string
				for _, i := range rnd.Perm(len(members))[:3] {
					round = append(round, [2]string{members[i], []string{"up", "unknown", "down"}[rnd.IntN(3)]})
				}
				for i := range nodes {
					mine := slices.Clone(round)
					rnd.Shuffle(len(mine), func(a, b int) { mine[a], mine[b] = mine[b], mine[a] })
					changes[i] = append(changes[i], mine...)
				}
			}
			owners := map[string]string{}
			for slices.ContainsFunc(changes[:], func(c [][2]string) bool { return len(c) > 0 }) {
				i := rnd.IntN(len(nodes))
				if len(changes[i]) == 0 {
					continue
				}
				c := changes[i][0]
				changes[i] = changes[i][1:]
				before := nodes[i].view.View()
				was := nodes[i].state[c[0]]
				nodes[i].state[c[0]] = c[1]
				v := nodes[i].view.View()
				if moves := (was == "up" || was == "unknown") != (c[1] == "up" || c[1] == "unknown"); moves != (v.Ring.Fingerprint() != before.Ring.Fingerprint()) {
					t.Fatalf("seed %d: %s from %q to %q: ring %v to %v", seed, c[0], was, c[1], before.Ring.Members(), v.Ring.Members())
				}
				for k := range 50 {
					o, ok := v.Ring.Owner(fmt.Sprint("vm-", k))
					if !ok {
						continue
					}
					key := fmt.Sprintf("%x/%d", v.Ring.Fingerprint(), k)
					if owners[key] == "" {
						owners[key] = o
					}
					if owners[key] != o {
						t.Fatalf("seed %d: two owners of vm-%d with one fingerprint: %s and %s", seed, k, owners[key], o)
					}
				}
			}
			if a, b := nodes[0].view.View().Ring, nodes[1].view.View().Ring; fmt.Sprint(nodes[0].state) == fmt.Sprint(nodes[1].state) && a.Fingerprint() != b.Fingerprint() {
				t.Fatalf("seed %d: one membership, two rings", seed)
			}
		}
	})
}
