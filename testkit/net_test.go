package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

// talk is nodes with a bus each, and what the test knows of them.
type talk struct {
	w     *testkit.World
	mu    sync.Mutex
	buses map[string]*bus.Bus // by node; the present life's
	runs  map[string]int      // by body
	heard []string            // events, by the present life of each node
	twice []string
}

func newTalk(w *testkit.World) *talk {
	return &talk{w: w, buses: map[string]*bus.Bus{}, runs: map[string]int{}}
}

// node serves "svc", which takes up to a second, and hears all events.
func (c *talk) node(n *testkit.Node) drover.Component {
	b := bus.New(n.Bus, bus.Config{Env: n.Env, Outbox: n.Store.Outbox(), Tx: n.Store, Notify: n.Store.Notifier()})
	ep := &bus.Endpoint{}
	bus.HandleFunc(ep, "handle", func(ctx context.Context, m *bus.Message) ([]byte, error) {
		c.mu.Lock()
		if c.runs[m.ID]++; c.runs[m.ID] > 1 {
			c.twice = append(c.twice, m.ID)
		}
		c.mu.Unlock()
		if err := n.Env.Sleep(ctx, time.Duration(len(m.Body)%5)*250*time.Millisecond); err != nil {
			return nil, err
		}
		return []byte(n.Name()), nil
	})
	b.Serve("svc", ep)
	b.Subscribe("ev", func(_ context.Context, e bus.Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heard = append(c.heard, n.Name()+" "+e.Subject+" "+string(e.Data))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buses[n.Name()] = b
	return b
}

func (c *talk) bus(name string) *bus.Bus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buses[name]
}

func (c *talk) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard)
}

// call must end by its timeout.
func (c *talk) call(from string, m *bus.Message, timeout time.Duration) ([]byte, error) {
	began := time.Now()
	body, err := c.bus(from).Call(c.w.T.Context(), m, bus.Timeout(timeout))
	if d := time.Since(began); d > timeout+time.Millisecond {
		c.w.T.Errorf("a call of %v ended after %v: %v", timeout, d, err)
	}
	return body, err
}

func TestBus(t *testing.T) {
	t.Run("bus-90 faults of all kinds", func(t *testing.T) {
		testkit.Explore(t, 100, func(w *testkit.World) {
			c := newTalk(w)
			nodes := []*testkit.Node{w.Node("a", c.node), w.Node("b", c.node), w.Node("c", c.node)}
			w.Messages(0.05, 0.1, 500*time.Millisecond)
			w.Never("a message runs twice", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.twice) > 0 })
			nodes[0].Fail("bus.send", 0.05, nil)
			nodes[1].FailAfter("bus.send", 0.05, nil)
			left := 0
			for i := range 10 {
				left++
				w.Go(fmt.Sprint("caller", i), func() {
					for k := range 10 {
						_, err := c.call("a", &bus.Message{Topic: "svc", Body: make([]byte, i+k)}, 3*time.Second)
						var remote *bus.RemoteError
						if err != nil && !bus.NotRun(err) && !bus.Unknown(err) && !errors.As(err, &remote) {
							w.T.Errorf("%v", err)
						}
						w.Advance(100 * time.Millisecond)
					}
					left--
				})
			}
			w.Advance(2 * time.Second)
			nodes[1].Crash()
			w.Advance(time.Second)
			nodes[1].Restart()
			w.Cut(nodes[0], nodes[2])
			w.Advance(2 * time.Second)
			w.Partition(nodes[0], testkit.TheBus)
			w.Advance(2 * time.Second)
			w.Heal()
			nodes[2].Freeze(2 * time.Second)
			w.Eventually(10*time.Minute, "all calls end", func() bool { return left == 0 })
			w.Messages(0, 0, 0)
			nodes[0].Fail("bus.send", 0, nil)
			nodes[1].FailAfter("bus.send", 0, nil)
			w.Advance(time.Minute) // circuits close
			for _, n := range nodes {
				got, err := c.call("a", &bus.Message{Topic: "svc", Node: n.Name()}, 3*time.Second)
				if err != nil || string(got) != n.Name() {
					w.T.Errorf("after all faults: %q, %v", got, err)
				}
			}
		})
	})
	t.Run("testkit-15 one way", func(t *testing.T) {
		testkit.Explore(t, 10, func(w *testkit.World) {
			c := newTalk(w)
			a, b := w.Node("a", c.node), w.Node("b", c.node)
			w.Advance(time.Second)
			w.Cut(b, a)
			m := &bus.Message{ID: "one", Topic: "svc", Node: "b"}
			if _, err := c.call("a", m, 2*time.Second); !errors.Is(err, bus.ErrTimeout) || c.runs["one"] != 1 {
				w.T.Errorf("it ran %d times: %v", c.runs["one"], err)
			}
			w.Heal()
			w.Cut(a, b)
			m = &bus.Message{ID: "two", Topic: "svc", Node: "b"}
			if _, err := c.call("a", m, 2*time.Second); !errors.Is(err, bus.ErrTimeout) || c.runs["two"] != 0 {
				w.T.Errorf("it ran %d times: %v", c.runs["two"], err)
			}
			w.Advance(10 * time.Second) // more than clocks may part
			w.Heal()
			w.Advance(time.Second)
			if _, err := c.call("a", &bus.Message{Topic: "svc", Node: "b"}, 2*time.Second); err != nil || c.runs["two"] != 0 {
				w.T.Errorf("healed: %v; what came after its deadline ran %d times", err, c.runs["two"])
			}
			w.Partition(a, testkit.TheBus)
			if _, err := c.call("a", &bus.Message{Topic: "svc", Node: "b"}, 2*time.Second); err == nil {
				w.T.Error("a call without a bus succeeds")
			}
			b.Crash()
			w.Heal()
			w.Advance(20 * time.Second)
			if _, err := c.call("a", &bus.Message{Topic: "svc", Node: "b"}, 2*time.Second); !errors.Is(err, bus.ErrNoRoute) {
				w.T.Errorf("to a node that has crashed: %v", err)
			}
		})
	})
	t.Run("bus-48 clocks jump", func(t *testing.T) {
		testkit.Explore(t, 10, func(w *testkit.World) {
			c := newTalk(w)
			nodes := []*testkit.Node{w.Node("a", c.node), w.Node("b", c.node)}
			w.Advance(time.Second)
			for i, jump := range []time.Duration{time.Hour, -time.Hour, 5 * time.Minute, 0} {
				for _, n := range nodes { // of who calls, and of who is called
					n.Skew(jump, 1)
					for range 3 {
						if _, err := c.bus("a").Call(w.T.Context(), &bus.Message{Topic: "svc", Node: "b"}, bus.Timeout(2*time.Second)); err != nil {
							w.T.Errorf("jump %d of %s: %v", i, n.Name(), err)
						}
					}
					w.Advance(time.Second)
				}
			}
		})
	})
	t.Run("bus-61 the outbox", func(t *testing.T) {
		testkit.Explore(t, 40, func(w *testkit.World) {
			c := newTalk(w)
			nodes := []*testkit.Node{w.Node("a", c.node), w.Node("b", c.node)}
			listener := w.Node("l", c.node)
			w.Advance(time.Second)
			r := w.Rand("outbox")
			var want []string
			for i := range 30 {
				n, keep := nodes[i%2], r.IntN(2) == 0
				err := n.Store.InTx(w.T.Context(), func(ctx context.Context, tx store.Tx) error {
					if err := c.bus(n.Name()).Publish(ctx, tx, bus.Event{Subject: fmt.Sprint("ev.", i%3), Data: []byte(fmt.Sprint(i))}); err != nil || keep {
						return err
					}
					return errors.New("rolled back")
				})
				if keep && err == nil {
					want = append(want, fmt.Sprintf("l ev.%d %d", i%3, i))
				} else if keep {
					w.T.Error(err)
				}
				w.Advance(time.Duration(r.IntN(300)) * time.Millisecond)
				if i%7 == 6 {
					n.Restart()
				}
			}
			_ = listener
			count := func() (n int) {
				for _, s := range c.all() {
					if s[0] == 'l' {
						n++
					}
				}
				return n
			}
			w.Eventually(5*time.Minute, "all events are heard", func() bool { return count() >= len(want) })
			got := slices.DeleteFunc(c.all(), func(s string) bool { return s[0] != 'l' })
			for k := range 3 { // in order of their subject
				of := func(all []string) (out []string) {
					for _, s := range all {
						if s[5] == byte('0'+k) {
							out = append(out, s)
						}
					}
					return out
				}
				if !slices.Equal(of(got), of(want)) {
					w.T.Errorf("heard %v, want %v", of(got), of(want))
				}
			}
		})
	})
	t.Run("testkit-41 chaos", func(t *testing.T) {
		testkit.Explore(t, 10, func(w *testkit.World) {
			c := newTalk(w)
			w.Node("a", c.node)
			w.Node("b", c.node)
			w.Advance(time.Second)
			stop := w.Chaos(testkit.Hostile)
			w.Never("a message runs twice", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.twice) > 0 })
			for range 60 {
				_, _ = c.bus("a").Call(w.T.Context(), &bus.Message{Topic: "svc", Node: "b", Body: []byte("1")}, bus.Timeout(5*time.Second))
				w.Advance(5 * time.Second)
			}
			stop()
			w.Advance(2 * time.Minute)
			if _, err := c.call("a", &bus.Message{Topic: "svc", Node: "b"}, 10*time.Second); err != nil {
				w.T.Errorf("after the chaos: %v", err)
			}
		})
	})
}
