package conductor_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/bus"
	"github.com/drover-cloud/drover/conductor"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/testkit"
)

var long = os.Getenv("DROVER_LONG") != ""

// seeds are 20, in full 500.
func seeds() int {
	if long {
		return 500
	}
	return 20
}

// cluster is a world with servers of conductors and hosts without stores.
type cluster struct {
	w *testkit.World

	mu      sync.Mutex
	clients map[string]*conductor.Client // of the present lives
	work    map[string]chan struct{}     // begins that of a host's present life
	sure    map[string]int               // commits that a host was told of, over its lives
	maybe   map[string]int               // those of which nobody told
}

func newCluster(w *testkit.World) *cluster {
	return &cluster{w: w, clients: map[string]*conductor.Client{}, work: map[string]chan struct{}{}, sure: map[string]int{}, maybe: map[string]int{}}
}

// server is a node with the store.
func (c *cluster) server(n *testkit.Node) drover.Component {
	b := bus.New(n.Bus, bus.Config{Env: n.Env})
	cfg := conductor.ServerConfig{Env: n.Env, Bus: b, Tx: n.Store}
	all(&cfg)
	return c.group(n, b, must(c.w, func() (drover.Component, error) { return conductor.NewServer(cfg) }))
}

func must[T any](w *testkit.World, f func() (T, error)) T {
	v, err := f()
	if err != nil {
		w.T.Fatal(err)
	}
	return v
}

func (c *cluster) group(n *testkit.Node, b *bus.Bus, more ...drover.Component) *drover.Group {
	g := &drover.Group{Env: n.Env}
	for i, x := range append([]drover.Component{b}, more...) {
		if err := g.Add([]string{"bus", "conductor", "work"}[i], x); err != nil {
			c.w.T.Fatal(err)
		}
	}
	return g
}

// host has a client, which raises two rows together, n times.
func (c *cluster) host(times int) func(n *testkit.Node) drover.Component {
	return func(n *testkit.Node) drover.Component {
		b := bus.New(n.Bus, bus.Config{Env: n.Env})
		cl := must(c.w, func() (*conductor.Client, error) { return conductor.New(conductor.Config{Env: n.Env, Bus: b}) })
		name, begin, env := n.Name(), make(chan struct{}), n.Env
		c.mu.Lock()
		c.clients[name], c.work[name] = cl, begin
		c.mu.Unlock()
		return c.group(n, b, cl, drover.Func(func(ctx context.Context) error {
			select {
			case <-begin:
			case <-ctx.Done():
			}
			for i := 0; i < times && ctx.Err() == nil; i++ {
				c.raise(ctx, cl, name)
				_ = env.Sleep(ctx, 300*time.Millisecond)
			}
			<-ctx.Done()
			return nil
		}))
	}
}

// raise changes both rows of a host. Until it is told the outcome, it is not sure.
func (c *cluster) raise(ctx context.Context, cl *conductor.Client, host string) {
	c.note(c.maybe, host, 1)
	err := cl.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		found, err := cl.Jobs().List(ctx, tx, job.Find{IDs: []string{host + "-a", host + "-b"}})
		if err != nil {
			return err
		}
		if len(found.Rows) != 2 || found.Rows[0].Priority != found.Rows[1].Priority {
			c.w.T.Errorf("half of a commit is seen: %+v", found.Rows)
		}
		p := found.Rows[0].Priority + 1
		for _, r := range found.Rows {
			if _, err := cl.Jobs().Move(ctx, tx, []job.Move{{ID: r.ID, From: job.Ready, To: job.Ready, Priority: &p}}); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil:
		c.note(c.maybe, host, -1)
		c.note(c.sure, host, 1)
	case errors.Is(err, conductor.ErrUnknown), ctx.Err() != nil:
	case errors.Is(err, conductor.ErrNoConductor), errors.Is(err, store.ErrConflict):
		c.note(c.maybe, host, -1)
	default:
		c.w.T.Errorf("%s: %v", host, err)
	}
}

func (c *cluster) note(in map[string]int, host string, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in[host] += by
}

// begin lets a host's present life work.
func (c *cluster) begin(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.work[host])
}

// rows makes the two of each host.
func (c *cluster) rows(hosts ...string) {
	var rows []job.Row
	for _, h := range hosts {
		rows = append(rows, row(h+"-a", h), row(h+"-b", h))
	}
	err := c.w.Store().InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		_, err := c.w.Store().Jobs().Insert(ctx, tx, rows)
		return err
	})
	if err != nil {
		c.w.T.Fatal(err)
	}
}

// check: what hosts were told has happened, once, and nothing by halves.
func (c *cluster) check(hosts ...string) {
	for _, h := range hosts {
		var found job.Found
		err := c.w.Store().InTx(context.Background(), func(ctx context.Context, tx store.Tx) (err error) {
			found, err = c.w.Store().Jobs().List(ctx, tx, job.Find{IDs: []string{h + "-a", h + "-b"}})
			return err
		})
		if err != nil || len(found.Rows) != 2 {
			c.w.T.Fatalf("%s: %d rows, %v", h, len(found.Rows), err)
		}
		c.mu.Lock()
		sure, maybe := c.sure[h], c.maybe[h]
		c.mu.Unlock()
		for _, r := range found.Rows {
			if done := int(r.Rev) - 1; done < sure || done > sure+maybe || r.Priority != done {
				c.w.T.Errorf("%s was raised %d times, to %d; %s knows of %d, and %d perhaps", r.ID, done, r.Priority, h, sure, maybe)
			}
		}
	}
}

func TestExplore(t *testing.T) {
	t.Run("conductor-24 a host crashes at each of its operations", func(t *testing.T) {
		testkit.Explore(t, 1, func(w *testkit.World) {
			c := newCluster(w)
			w.Node("s1", c.server)
			w.Node("s2", c.server)
			h := w.Node("h1", c.host(3))
			c.rows("h1")
			w.Advance(2 * time.Second)
			w.CrashPoints(h, func() {
				c.begin("h1")
				w.Advance(3 * time.Second)
			})
			w.Advance(20 * time.Second) // what it has sent has ended
			c.check("h1")
			h.Restart()
			before := c.sure["h1"]
			w.Advance(2 * time.Second)
			c.begin("h1")
			w.Advance(20 * time.Second)
			c.check("h1")
			if n := c.sure["h1"] - before; n != 3 {
				w.T.Errorf("its next life has done %d of 3", n)
			}
		}, testkit.AtMost(1))
	})
	t.Run("conductor-24 servers and hosts crash, messages are lost and come twice", func(t *testing.T) {
		testkit.Explore(t, seeds(), crashes, testkit.AtMost(seeds()))
	})
	t.Run("conductor-06 any message is lost", func(t *testing.T) {
		testkit.Explore(t, seeds(), func(w *testkit.World) {
			c := newCluster(w)
			w.Node("s1", c.server)
			w.Node("s2", c.server)
			w.Node("h1", c.host(8))
			c.rows("h1")
			w.Advance(2 * time.Second)
			w.Messages(0.33, 0.1, 50*time.Millisecond)
			c.begin("h1")
			w.Advance(3 * time.Minute)
			w.Messages(0, 0, 0)
			w.Advance(30 * time.Second)
			c.check("h1")
		}, testkit.AtMost(seeds()))
	})
}

// crashes is a minute in which everybody dies now and then.
func crashes(w *testkit.World) {
	c := newCluster(w)
	nodes := []*testkit.Node{w.Node("s1", c.server), w.Node("s2", c.server), w.Node("h1", c.host(10)), w.Node("h2", c.host(10))}
	c.rows("h1", "h2")
	w.Advance(2 * time.Second)
	c.begin("h1")
	c.begin("h2")
	w.Messages(0.05, 0.05, 100*time.Millisecond)
	r := w.Rand("crashes")
	for range 12 {
		w.Advance(time.Duration(r.IntN(4000)) * time.Millisecond)
		n := nodes[r.IntN(len(nodes))]
		n.Restart()
		if n.Name()[0] == 'h' {
			c.begin(n.Name())
		}
	}
	w.Messages(0, 0, 0)
	w.Advance(time.Minute)
	c.check("h1", "h2")
	if c.sure["h1"] == 0 || c.sure["h2"] == 0 {
		w.T.Errorf("hosts were told of %v commits", c.sure)
	}
}
