package servicegroup_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/lease"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/testkit"
)

// crew are the members of a world.
type crew struct {
	w      *testkit.World
	nodes  []*testkit.Node
	groups map[string]*servicegroup.Group

	mu    sync.Mutex
	wrong string               // what was told and must not
	well  map[string]time.Time // since when a node has had no fault of its own, zero while it has
}

// healthy: so long without a fault of its own, a member must not be called Down.
const healthy = 70 * time.Second

func newCrew(w *testkit.World, count int) *crew {
	c := &crew{w: w, groups: map[string]*servicegroup.Group{}, well: map[string]time.Time{}}
	for i := range count {
		c.add(fmt.Sprintf("n%d", i))
	}
	w.Never("a healthy member told down", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.wrong != "" })
	return c
}

func (c *crew) add(name string) {
	c.nodes = append(c.nodes, c.w.Node(name, func(n *testkit.Node) drover.Component {
		g, err := servicegroup.New(servicegroup.Config{Env: n.Env, Driver: n.Store.Members()})
		if err != nil {
			c.w.T.Fatal(err)
		}
		c.groups[name] = g
		g.Watch(func(old, new servicegroup.View) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, e := range servicegroup.Diff(old, new) {
				if m := e.Member; e.Kind == servicegroup.EventDown && !c.well[m.ID].IsZero() && time.Since(c.well[m.ID]) > 0 {
					c.wrong = fmt.Sprintf("%s tells %s down, %s, though it was well since %v", name, m.ID, m.Reason, c.well[m.ID])
					c.w.T.Error(c.wrong)
				}
			}
		})
		return g
	}))
	c.set(name, time.Now())
}

func (c *crew) set(name string, t time.Time) { c.mu.Lock(); defer c.mu.Unlock(); c.well[name] = t }

// ill: name has a fault of its own until heal.
func (c *crew) ill(name string)  { c.set(name, time.Time{}) }
func (c *crew) heal(name string) { c.set(name, time.Now().Add(healthy)) }

func TestExplore(t *testing.T) {
	t.Run("servicegroup-60 partitions, skew and outages", func(t *testing.T) {
		testkit.Explore(t, 200, func(w *testkit.World) {
			c := newCrew(w, 4)
			r := w.Rand("faults")
			w.Advance(30 * time.Second)
			outage := time.Now()
			for range 6 {
				i := r.IntN(len(c.nodes))
				n := c.nodes[i]
				switch r.IntN(6) {
				case 0: // alone: its beats do not come, and it must not call the others down
					c.ill(n.Name())
					w.Partition(n, testkit.TheStore)
					w.Advance(time.Duration(r.Int64N(int64(4 * time.Minute))))
					w.Heal()
					c.heal(n.Name())
				case 1: // the driver is away: nobody is down
					d := time.Duration(r.Int64N(int64(6 * time.Minute)))
					outage = time.Now().Add(d)
					w.StoreDown(d)
				case 2:
					w.StoreReadOnly(time.Duration(r.Int64N(int64(25 * time.Second))))
				case 3:
					n.Skew(time.Duration(r.Int64N(int64(2*time.Hour)))-time.Hour, 0.9+0.2*r.Float64())
				case 4:
					w.StoreJump(time.Duration(r.Int64N(int64(2 * time.Hour))))
				case 5: // not between the end of an outage and the first beats after it, when a new watcher can know of neither
					if since := time.Since(outage); since >= 0 && since < 15*time.Second {
						w.Advance(15 * time.Second)
					}
					c.ill(n.Name())
					n.Restart()
					c.heal(n.Name())
				}
				w.Advance(20*time.Second + time.Duration(r.Int64N(int64(2*time.Minute))))
			}
			w.Advance(8 * time.Minute)
			w.Eventually(3*time.Minute, "all see all up", func() bool {
				for _, g := range c.groups {
					if v := g.View(); len(v.Up) != len(c.nodes) || !v.Self {
						return false
					}
				}
				return true
			})
			for _, n := range c.nodes { // and the same leader
				a, _ := c.groups["n0"].View().Leader()
				if b, _ := c.groups[n.Name()].View().Leader(); a.ID != b.ID {
					w.T.Errorf("%s follows %s, not %s", n.Name(), b.ID, a.ID)
				}
			}
		})
	})
	t.Run("servicegroup-11 clocks of nodes", func(t *testing.T) {
		testkit.Explore(t, 10, func(w *testkit.World) {
			c := newCrew(w, 3)
			w.Advance(30 * time.Second)
			c.nodes[0].Skew(time.Hour, 1)
			c.nodes[1].Skew(-time.Hour, 1)
			c.nodes[2].Skew(0, 1.1)
			for range 20 {
				w.Advance(30 * time.Second)
				for name, g := range c.groups {
					if v := g.View(); len(v.Up) != 3 || !v.Self {
						w.T.Errorf("%s: %+v", name, v)
					}
				}
			}
		})
	})
	t.Run("servicegroup-22 trust, standing and peers end in this order", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			groups := map[string]*servicegroup.Group{}
			var session *lease.Session
			build := func(n *testkit.Node) drover.Component {
				s, err := lease.New(lease.Config{Env: n.Env, Tx: n.Store, Store: n.Store.Leases()})
				if err != nil {
					w.T.Fatal(err)
				}
				m, err := servicegroup.New(servicegroup.Config{Env: n.Env, Driver: n.Store.Members()})
				if err != nil {
					w.T.Fatal(err)
				}
				if groups[n.Name()] = m; n.Name() == "a" {
					session = s
				}
				g := &drover.Group{}
				g.Add("lease", s)
				g.Add("members", m)
				return g
			}
			a := w.Node("a", build)
			w.Node("b", build)
			w.Advance(time.Minute)
			ctx, release := session.With(context.Background())
			defer release()
			w.Partition(a, testkit.TheStore)
			begin := time.Now()
			at := func(what string, from, to time.Duration, ok func() bool) {
				w.Eventually(2*time.Minute, what, ok)
				if took := time.Since(begin); took < from || took > to {
					w.T.Errorf("%s after %v, want %v to %v", what, took, from, to)
				}
			}
			at("handlers cancelled", 15*time.Second, 26*time.Second, func() bool { return ctx.Err() != nil })
			if !groups["a"].View().Self {
				w.T.Error("standing ended before trust")
			}
			at("self ends", 40*time.Second, 51*time.Second, func() bool { return !groups["a"].View().Self })
			if !groups["b"].IsUp("a") {
				w.T.Error("a peer said down before a itself knew")
			}
			at("peer says down", 50*time.Second, 71*time.Second, func() bool { return !groups["b"].IsUp("a") })
			inc := groups["a"].Self().Incarnation
			w.Heal()
			w.Eventually(30*time.Second, "rejoined", func() bool { return groups["a"].View().Self && groups["b"].IsUp("a") })
			if is := groups["a"].Self().Incarnation; is != inc {
				w.T.Errorf("incarnation %d after %d", is, inc)
			}
		})
	})
	t.Run("servicegroup-54 operations on members", func(t *testing.T) {
		testkit.Explore(t, 20, func(w *testkit.World) {
			c := newCrew(w, 3)
			w.Advance(15 * time.Second)
			alive := map[string]bool{"n0": true, "n1": true, "n2": true}
			lost := 0
			operate := func(mayFail bool) {
				for i := range 100 {
					up := c.groups["n0"].View().Up
					if len(up) == 0 {
						w.T.Fatal("nobody is up")
					}
					if m := up[i%len(up)]; !alive[m.ID] {
						lost++
						if !mayFail {
							w.T.Errorf("operation %d sent to %s", i, m.ID)
						}
					}
					w.Advance(100 * time.Millisecond)
				}
			}
			operate(false)
			c.ill("n1")
			if err := c.nodes[1].Stop(); err != nil {
				w.T.Error(err)
			}
			alive["n1"] = false
			w.Advance(11 * time.Second) // the world gives no hints: the next read
			if _, why := c.groups["n0"].State("n1"); why != servicegroup.Left {
				w.T.Errorf("stopped: %s", why)
			}
			operate(false)
			c.add("n3")
			alive["n3"] = true
			operate(false)
			if !c.groups["n0"].IsUp("n3") {
				w.T.Error("the new one is not up")
			}
			c.ill("n2")
			c.nodes[2].Crash()
			alive["n2"] = false
			operate(true)
			w.Advance(70 * time.Second)
			was := lost
			operate(false)
			if lost != was || was == 0 {
				w.T.Errorf("%d operations met the dead one", was)
			}
			ids := []string{}
			for _, m := range c.groups["n3"].View().Up {
				ids = append(ids, m.ID)
			}
			if !slices.Equal(ids, []string{"n0", "n3"}) {
				w.T.Errorf("up are %v", ids)
			}
		})
	})
}
