package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/servicegroup"
	"github.com/drover-cloud/drover/testkit"
)

// ringed is g as a bus's membership.
func ringed(g *servicegroup.Group) bus.Members {
	return bus.Ringed(func() (up, unknown []bus.Peer) {
		v := g.View()
		for _, m := range v.Up {
			up = append(up, bus.Peer{Node: m.ID})
		}
		for _, m := range v.Unknown {
			unknown = append(unknown, bus.Peer{Node: m.ID})
		}
		return up, unknown
	}, func(changed func()) func() { return g.Watch(func(_, _ servicegroup.View) { changed() }) })
}

// keyed is nodes that own keys of "vm", which take a second, or for ever.
type keyed struct {
	w     *testkit.World
	mu    sync.Mutex
	buses map[string]*bus.Bus
	runs  map[string]string // node by message
	twice string
}

func (c *keyed) node(n *testkit.Node) drover.Component {
	g, err := servicegroup.New(servicegroup.Config{Env: n.Env, Driver: n.Store.Members(), Interval: time.Second, Down: 5 * time.Second})
	if err != nil {
		c.w.T.Fatal(err)
	}
	b := bus.New(n.Bus, bus.Config{Env: n.Env, Members: ringed(g)})
	ep := &bus.Endpoint{}
	bus.HandleFunc(ep, "handle", func(ctx context.Context, m *bus.Message) ([]byte, error) {
		c.mu.Lock()
		if c.runs[m.ID] != "" {
			c.twice = m.ID
		}
		c.runs[m.ID] = n.Name()
		c.mu.Unlock()
		d := time.Second
		if string(m.Body) == "stay" {
			d = time.Hour
		}
		return []byte(n.Name()), n.Env.Sleep(ctx, d)
	})
	b.Serve("vm", ep)
	c.mu.Lock()
	c.buses[n.Name()] = b
	c.mu.Unlock()
	all := new(drover.Group)
	all.Add("members", g)
	all.Add("bus", b)
	return all
}

func (c *keyed) bus(name string) *bus.Bus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buses[name]
}

func TestKeys(t *testing.T) {
	t.Run("bus-23 the owner of keys crashes", func(t *testing.T) {
		testkit.Explore(t, 60, func(w *testkit.World) {
			c := &keyed{w: w, buses: map[string]*bus.Bus{}, runs: map[string]string{}}
			w.Node("a", c.node)
			w.Node("b", c.node)
			lost := w.Node("c", c.node)
			w.Never("a message runs twice", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.twice != "" })
			w.Advance(10 * time.Second)
			var long, ends int
			ask := func(from string, key int, body string) (string, error) {
				got, err := c.bus(from).Call(w.T.Context(), &bus.Message{ID: fmt.Sprint(from, " ", key, " ", body, " ", time.Now().UnixNano()),
					Topic: "vm", Key: fmt.Sprint("k", key), Body: []byte(body)}, bus.Timeout(30*time.Minute))
				return string(got), err
			}
			owner := map[int]string{}
			for key := range 12 {
				got, err := ask("a", key, "x")
				if err != nil {
					w.T.Fatal(err)
				}
				owner[key] = got
			}
			for key := range 12 { // all of them wait for their owners; those of c are to hear of its end
				if owner[key] != "c" {
					continue
				}
				long++
				w.Go(fmt.Sprint("waits", key), func() {
					_, err := ask("b", key, "stay")
					if !errors.Is(err, bus.ErrNodeLost) || !bus.Unknown(err) {
						w.T.Errorf("a call to the dead: %v", err)
					}
					ends++
				})
			}
			if long == 0 {
				w.T.Fatal("c owns no key")
			}
			w.Advance(3 * time.Second) // so that they are known to run
			lost.Crash()
			w.Eventually(10*time.Second, "all hear of it", func() bool { return ends == long })
			w.Advance(3 * time.Second) // both views
			for key := range 12 {
				got, err := ask("a", key, "again")
				if err != nil || got == "c" || owner[key] != "c" && got != owner[key] {
					w.T.Errorf("key %d of %s: %s, %v", key, owner[key], got, err)
				}
			}
			lost.Restart()
			w.Advance(10 * time.Second)
			left := 12
			for key := range 12 { // at once
				w.Go(fmt.Sprint("back", key), func() {
					if got, err := ask("b", key, "back"); err != nil || got != owner[key] {
						w.T.Errorf("key %d of %s: %s, %v", key, owner[key], got, err)
					}
					left--
				})
			}
			w.Eventually(time.Minute, "all are answered", func() bool { return left == 0 })
		})
	})
}
